//! What clients are told, and what replicas hold, when messages are slow, lost or repeated.

use super::*;
use crate::command::verb::{Deadline, ExpireCondition};
use crate::leaderless::message::Parts;
use crate::leaderless::parts::Part;
use alloc::borrow::Cow;

#[test]
fn a_write_is_answered_when_w_replicas_have_it_on_disk() {
    let mut world = World::new();
    world.answer(0, "warm", set(b"up"));
    let request = world.ask(0, "k", set(b"v"));
    world.deliver_all();
    assert_eq!(world.reply(request), None, "nobody has synced");
    world.sync(0);
    assert_eq!(world.reply(request), None, "only the own copy");
    world.sync(1);
    world.deliver_all();
    assert_eq!(world.reply(request), Some(Reply::Ok));
    assert_eq!(world.answer(2, "k", Verb::Get), bulk("v"));
}

#[test]
fn an_ack_that_comes_twice_counts_once() {
    let mut world = World::new();
    let all = With { w: Some(3), ..With::default() };
    let request = world.with(0, "k", set(b"v"), all);
    world.cut = BTreeSet::from([(0, 2)]);
    world.sync(0);
    world.deliver_all();
    world.sync(1);
    let ack = world.wire.pop().unwrap();
    world.deliver(ack.clone());
    world.deliver(ack);
    assert_eq!(world.reply(request), None);
}

#[test]
fn a_write_short_of_w_is_partial_and_stays() {
    let mut world = World::new();
    world.isolate(0);
    let request = world.ask(0, "k", set(b"v"));
    world.settle();
    world.pass(1000);
    assert!(world.error(request).starts_with("PARTIAL acked=1 need=2 n=3"));
    world.cut.clear();
    assert_eq!(world.answer(0, "k", Verb::Get), bulk("v"));
}

#[test]
fn a_lost_write_is_sent_again_until_the_deadline() {
    let mut world = World::new();
    world.isolate(0);
    let request = world.ask(0, "k", set(b"v"));
    world.settle();
    world.cut.clear();
    world.pass(200);
    world.settle();
    assert_eq!(world.reply(request), Some(Reply::Ok));
    assert_eq!(world.digest(0), world.digest(2));
}

#[test]
fn the_four_rows_with_a_replica_that_missed_the_write() {
    for (w, r, fresh) in [(2, 2, true), (1, 3, true), (1, 1, false)] {
        let mut world = World::new();
        world.isolate(2);
        let request = world.with(0, "k", set(b"v"), With { w: Some(w), ..With::default() });
        world.settle();
        assert_eq!(world.reply(request), Some(Reply::Ok));
        world.cut.clear();
        let read = world.with(2, "k", Verb::Get, With { r: Some(r), ..With::default() });
        world.settle();
        let expected = if fresh { bulk("v") } else { Reply::Nil };
        assert_eq!(world.reply(read), Some(expected), "W={w} R={r}");
    }
    let mut world = World::new();
    world.isolate(2);
    let request = world.with(0, "k", set(b"v"), With { w: Some(3), ..With::default() });
    world.settle();
    world.pass(1000);
    assert!(world.error(request).starts_with("PARTIAL acked=2 need=3"));
}

#[test]
fn a_read_repairs_the_replica_that_was_stale() {
    let mut world = World::new();
    world.isolate(2);
    world.answer(0, "k", set(b"v"));
    world.pass(2000);
    world.cut.clear();
    assert_ne!(world.digest(0), world.digest(2));
    assert_eq!(world.answer(1, "k", Verb::Get), bulk("v"));
    assert_eq!(world.repaired(1), [NodeId(2)]);
    assert_eq!(world.digest(0), world.digest(2));
}

#[test]
fn a_coordinator_repairs_itself_too() {
    let mut world = World::new();
    world.isolate(2);
    world.answer(0, "k", set(b"v"));
    world.pass(2000);
    world.cut.clear();
    assert_eq!(world.answer(2, "k", Verb::Get), bulk("v"));
    assert_eq!(world.repaired(2), [NodeId(2)]);
    assert_eq!(world.digest(0), world.digest(2));
}

#[test]
fn a_read_short_of_r_says_how_many_answered() {
    let mut world = World::new();
    world.isolate(0);
    let request = world.ask(0, "k", Verb::Get);
    world.settle();
    world.pass(1000);
    assert!(world.error(request).starts_with("NOREPLICAS answered=1 need=2 n=3"));
}

#[test]
fn a_later_write_wins_over_one_whose_clock_was_ahead() {
    let mut world = World::new();
    world.nodes[0].skew_ms = 60_000;
    world.cut = BTreeSet::from([(0, 1), (1, 0)]);
    assert_eq!(world.answer(0, "k", set(b"early")), Reply::Ok);
    world.pass(2000);
    world.cut.clear();
    assert_eq!(world.answer(1, "k", set(b"late")), Reply::Ok);
    for node in 0..NODES {
        assert_eq!(world.answer(node, "k", Verb::Get), bulk("late"));
    }
}

#[test]
fn increments_of_all_coordinators_add_up() {
    let mut world = World::new();
    let requests: Vec<u64> =
        (0..30).map(|i| world.ask(i % NODES, "n", Verb::Increment(1 + i as i64))).collect();
    world.settle();
    for request in requests {
        assert!(matches!(world.reply(request), Some(Reply::Integer(_))));
    }
    for node in 0..NODES {
        assert_eq!(world.answer(node, "n", Verb::Get), bulk("465"));
    }
    assert_eq!(world.digest(0), world.digest(1));
}

#[test]
fn an_increment_is_on_disk_before_anybody_hears_of_it() {
    let mut world = World::new();
    world.answer(0, "n", Verb::Increment(1));
    world.ask(0, "n", Verb::Increment(10));
    // The answers to its read come; the log is not synced.
    world.deliver_all();
    world.deliver_all();
    let peek = world.ask(1, "n", Verb::Get);
    world.deliver_all();
    world.deliver_all();
    assert_eq!(world.reply(peek), Some(bulk("1")));
    world.crash(0);
    assert_eq!(world.answer(0, "n", Verb::Increment(100)), Reply::Integer(101));
    assert_eq!(world.answer(1, "n", Verb::Get), bulk("101"));
}

#[test]
fn an_increment_on_a_base_that_lost_is_made_again_on_the_newer_one() {
    let mut world = World::new();
    world.answer(0, "n", set(b"10"));
    world.cut = BTreeSet::from([(0, 1), (1, 0)]);
    let request = world.ask(0, "n", Verb::Increment(1));
    world.answer(1, "n", set(b"500"));
    world.cut.clear();
    world.pass(200);
    world.settle();
    let total = world.answer(2, "n", Verb::Get);
    let reply = world.reply(request).unwrap();
    assert!(
        (reply == Reply::Integer(501) && total == bulk("501"))
            || (reply == Reply::Integer(11) && total == bulk("500")),
        "{reply:?} {total:?}"
    );
}

#[test]
fn a_connection_reads_what_it_has_written_just_before() {
    let mut world = World::new();
    let first = world.ask(0, "k", set(b"1"));
    let read = world.ask(0, "k", Verb::Get);
    let second = world.ask(0, "k", set(b"2"));
    let third = world.ask(0, "k", set(b"3"));
    let last = world.ask(0, "k", Verb::Get);
    world.settle();
    for write in [first, second, third] {
        assert_eq!(world.reply(write), Some(Reply::Ok));
    }
    assert_eq!(world.reply(read), Some(bulk("1")));
    assert_eq!(world.reply(last), Some(bulk("3")));
}

#[test]
fn a_deleted_key_stays_deleted_where_a_replica_missed_it() {
    let mut world = World::new();
    world.answer(0, "k", set(b"v"));
    world.isolate(2);
    assert_eq!(world.answer(0, "k", Verb::Delete), Reply::Integer(1));
    let again = world.ask(1, "k", Verb::Delete);
    world.settle();
    // Who was asked first may be the one that is cut off.
    world.pass(20);
    world.settle();
    assert_eq!(world.reply(again), Some(Reply::Integer(0)));
    world.pass(2000);
    world.cut.clear();
    assert_eq!(world.answer(2, "k", Verb::Get), Reply::Nil);
    assert_eq!(world.answer(2, "k", Verb::Exists), Reply::Integer(0));
    assert_eq!(world.digest(1), world.digest(2));
}

#[test]
fn a_key_expires_everywhere_and_can_be_counted_anew() {
    let mut world = World::new();
    world.answer(0, "n", set(b"41"));
    let expire = Verb::Expire(Deadline::In(500), ExpireCondition::Always);
    assert_eq!(world.answer(1, "n", expire), Reply::Integer(1));
    assert_eq!(world.answer(2, "n", Verb::Get), bulk("41"));
    world.pass(600);
    assert_eq!(world.answer(2, "n", Verb::Get), Reply::Nil);
    assert_eq!(world.answer(0, "n", Verb::Increment(1)), Reply::Integer(1));
    assert_eq!(world.answer(2, "n", Verb::Increment(1)), Reply::Integer(2));
}

#[test]
fn where_written_counts_only_increments_wait_for_the_sync() {
    let mut world = World::with_durability(Durability::Interval);
    world.answer(0, "warm", set(b"up"));
    // Written, not synced, on all nodes until nothing happens any more.
    let settle = |world: &mut World| {
        for _ in 0..4 {
            for node in 0..NODES {
                let end = Position(world.nodes[node].sink.log.len() as u64);
                world.nodes[node].local.written = end;
                world.turn(node, |m, turn| {
                    turn.send_owed();
                    m.on_durable(turn);
                });
            }
            world.deliver_all();
        }
    };
    let plain = world.ask(0, "k", set(b"v"));
    let increment = world.ask(0, "n", Verb::Increment(1));
    settle(&mut world);
    assert_eq!(world.reply(plain), Some(Reply::Ok));
    assert_eq!(world.reply(increment), None, "after a power cut its slot would be used again");
    world.settle();
    assert_eq!(world.reply(increment), Some(Reply::Integer(1)));
}

#[test]
fn sets_that_wait_together_are_written_as_one() {
    let mut world = World::new();
    world.answer(0, "warm", set(b"up"));
    let before = world.nodes[1].sink.log.len();
    let values: Vec<String> = (0..20).map(|i| i.to_string()).collect();
    let requests: Vec<u64> =
        values.iter().map(|value| world.ask(0, "k", set(value.as_bytes()))).collect();
    world.settle();
    assert!(requests.iter().all(|request| world.reply(*request) == Some(Reply::Ok)));
    assert_eq!(world.nodes[1].sink.log.len() - before, 2, "the first, then the last");
    assert_eq!(world.answer(2, "k", Verb::Get), bulk("19"));
}

#[test]
fn what_a_stranger_says_counts_for_nothing() {
    let mut world = World::new();
    let request = world.ask(0, "k", Verb::Get);
    let operation = world.nodes[0].model.operations.at(0).unwrap().number;
    let mut parts = Vec::new();
    Part::Missing { operation }.encode(&mut parts);
    let message = || Message::Batch {
        keyspace: GROUP.keyspace,
        generation: 0,
        parts: Parts(Cow::Borrowed(&parts)),
    };
    world.turn(0, |m, turn| m.on_message(turn, NodeId(9), Incarnation(1), message()));
    world.turn(0, |m, turn| m.on_message(turn, NodeId(0), Incarnation(1), message()));
    assert_eq!(world.reply(request), None);
    world.turn(0, |m, turn| m.on_message(turn, NodeId(1), Incarnation(1), message()));
    assert_eq!(world.reply(request), Some(Reply::Nil));
}

#[test]
fn a_later_write_wins_over_a_clock_that_is_ahead() {
    let mut world = World::new();
    world.nodes[0].skew_ms = 3_600_000;
    assert_eq!(world.answer(0, "k", set(b"ahead")), Reply::Ok);
    assert_eq!(world.answer(1, "k", set(b"later")), Reply::Ok);
    assert_eq!(world.answer(2, "k", Verb::Get), bulk("later"));
}

#[test]
fn an_increment_that_met_a_newer_text_after_it_was_written_is_no_definite_error() {
    let mut world = World::new();
    world.isolate(2);
    world.nodes[2].skew_ms = 5_000;
    let text = world.ask(2, "k", set(b"text"));
    world.settle();
    world.pass(1_000);
    assert!(world.error(text).starts_with("PARTIAL acked=1"));
    world.cut.clear();
    world.wire.clear();
    let added = world.ask(0, "k", Verb::Increment(5));
    world.settle();
    assert!(world.error(added).starts_with("PARTIAL "), "{}", world.error(added));
    // What it has left is seen where the text is not.
    let seen = world.nodes[1].model.store(GROUP).unwrap().get(b"k").unwrap();
    assert_eq!(seen.value().unwrap().as_ref(), b"5");
}

#[test]
fn a_read_asks_one_other_replica_and_in_the_next_turn_another() {
    let mut world = World::new();
    world.answer(0, "k", set(b"v"));
    // The first turn of sixteen keeps to an order of its own.
    assert_eq!(world.answer(0, "k", Verb::Get), bulk("v"));
    let mut asked = Vec::new();
    for _ in 0..2 {
        world.ask(0, "k", Verb::Get);
        asked.extend(world.wire.iter().map(|(_, to, _)| *to));
        world.settle();
    }
    asked.sort_unstable();
    assert_eq!(asked, [1, 2]);
}

#[test]
fn a_read_whose_replica_is_silent_goes_to_another_one() {
    let mut world = World::new();
    world.answer(0, "k", set(b"v"));
    assert_eq!(world.answer(0, "k", Verb::Get), bulk("v"));
    let request = world.ask(0, "k", Verb::Get);
    let (_, silent, _) = world.wire.pop().unwrap();
    world.settle();
    assert_eq!(world.reply(request), None);
    world.cut = BTreeSet::from([(silent, 0)]);
    world.pass(10);
    world.settle();
    assert_eq!(world.reply(request), Some(bulk("v")));
    for _ in 0..3 {
        world.ask(0, "k", Verb::Get);
        assert!(world.wire.iter().all(|(_, to, _)| *to != silent), "it is slow");
        world.settle();
    }
}
