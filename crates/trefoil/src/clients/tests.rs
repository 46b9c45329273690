//! Tests of the replies' order.
#![allow(clippy::unwrap_used)]

use super::replies::Replies;
use crate::resp::Protocol;
use crate::resp::encode;

fn say(replies: &mut Replies, sequence: u64) {
    replies.answer(sequence, |out, _| encode::integer(out, sequence as i64));
}

fn asked(count: u64) -> Replies {
    let mut replies = Replies::default();
    for sequence in 0..count {
        assert_eq!(replies.ask(false), sequence);
    }
    replies
}

#[test]
fn replies_leave_in_request_order_whatever_order_they_come_in() {
    let mut replies = asked(4);
    say(&mut replies, 2);
    say(&mut replies, 1);
    assert_eq!(replies.ready(), b"");
    assert_eq!(replies.unsent(), 8);
    say(&mut replies, 0);
    assert_eq!(replies.ready(), b":0\r\n:1\r\n:2\r\n");
    say(&mut replies, 3);
    assert_eq!(replies.outstanding(), 0);
    assert_eq!(replies.ready(), b":0\r\n:1\r\n:2\r\n:3\r\n");
}

#[test]
fn a_second_reply_and_one_to_no_request_are_ignored() {
    let mut replies = asked(2);
    say(&mut replies, 1);
    replies.answer(1, |out, _| encode::simple(out, "twice"));
    say(&mut replies, 7);
    say(&mut replies, 0);
    say(&mut replies, 0);
    assert_eq!(replies.ready(), b":0\r\n:1\r\n");
}

#[test]
fn silent_requests_are_counted_and_not_answered() {
    let mut replies = Replies::default();
    replies.ask(false);
    replies.ask(true);
    replies.ask(true);
    replies.ask(false);
    for sequence in [1, 0, 3, 2] {
        say(&mut replies, sequence);
    }
    assert_eq!(replies.ready(), b":0\r\n:3\r\n");
    assert_eq!(replies.outstanding(), 0);
}

#[test]
fn a_change_of_protocol_counts_from_its_own_reply_on() {
    let mut replies = asked(3);
    replies.switch(Protocol::Resp3, 1);
    for sequence in [2, 0, 1] {
        replies.answer(sequence, encode::nil);
    }
    assert_eq!(replies.ready(), b"$-1\r\n_\r\n_\r\n");
}

#[test]
fn what_the_socket_has_taken_is_not_sent_again() {
    let mut replies = asked(2);
    say(&mut replies, 0);
    replies.advance(2);
    assert_eq!(replies.ready(), b"\r\n");
    say(&mut replies, 1);
    assert_eq!(replies.ready(), b"\r\n:1\r\n");
    replies.advance(6);
    assert_eq!(replies.unsent(), 0);
    assert!(replies.take_sent_buffer().is_some());
}
