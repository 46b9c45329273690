//! Tests of the connections between nodes, over loopback.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use super::*;
use mio::{Events, Poll};
use replication::frame;
use replication::node::message::Message as NodeMessage;
use std::io::Read;
use std::net::TcpListener as StdListener;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(20);
const CLUSTER: u64 = 5;

fn identity() -> Identity {
    let payload_bytes_max = 1_000;
    Identity { cluster: CLUSTER, me: NodeId(0), incarnation: Incarnation(9), payload_bytes_max }
}

fn message(round: u64) -> Message<'static> {
    Message::Node(NodeMessage::HeartbeatAnswer { round, confirmed: Vec::new() })
}

/// Turns the handle until the condition holds.
fn turn_until(peers: &mut Peers, poll: &mut Poll, mut done: impl FnMut(&mut Peers) -> bool) {
    let deadline = Instant::now() + PATIENCE;
    let mut events = Events::with_capacity(16);
    while !done(peers) {
        assert!(Instant::now() < deadline, "the condition never held");
        peers.dial(Instant::now(), poll.registry());
        poll.poll(&mut events, Some(Duration::from_millis(10))).unwrap();
        for event in &events {
            if let Some(node) = peers.link_of(event.token()) {
                peers.link_event(node, Instant::now(), poll.registry());
            }
        }
    }
}

#[test]
fn a_turn_is_one_frame_from_the_node_s_own_address_and_a_broken_link_is_dialled_again() {
    let listener = StdListener::bind("127.0.0.1:0").unwrap();
    let own: SocketAddr = "127.0.0.1:1".parse().unwrap();
    let mut poll = Poll::new().unwrap();
    let mut peers = Peers::new(identity(), &[own, listener.local_addr().unwrap()], 0);
    // Nothing is kept for whom there is no connection.
    peers.send(NodeId(1), &message(0));
    turn_until(&mut peers, &mut poll, |peers| peers.is_up(NodeId(1)));
    peers.send(NodeId(1), &message(1));
    peers.send(NodeId(1), &message(2));
    let mut lost = Vec::new();
    peers.flush(Instant::now(), poll.registry(), &mut lost);

    let (mut stream, from) = listener.accept().unwrap();
    assert_eq!(from.ip(), own.ip());
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut bytes = Vec::new();
    let length = loop {
        let mut piece = [0; 4096];
        let count = stream.read(&mut piece).unwrap();
        bytes.extend_from_slice(&piece[..count]);
        if let Some((mut frame, length)) = frame::split(&bytes, CLUSTER, 1_000).unwrap() {
            assert_eq!((frame.from, frame.incarnation), (NodeId(0), Incarnation(9)));
            assert_eq!(frame.message(), Some(Ok(message(1))));
            assert_eq!(frame.message(), Some(Ok(message(2))));
            assert_eq!(frame.message(), None);
            break length;
        }
    };
    assert_eq!(length, bytes.len(), "one frame and nothing else");

    drop(stream);
    turn_until(&mut peers, &mut poll, |peers| !peers.is_up(NodeId(1)));
    turn_until(&mut peers, &mut poll, |peers| peers.is_up(NodeId(1)));
}

#[test]
fn a_frame_that_is_full_is_followed_by_another() {
    let listener = StdListener::bind("127.0.0.1:0").unwrap();
    let own: SocketAddr = "127.0.0.1:1".parse().unwrap();
    let mut poll = Poll::new().unwrap();
    let mut peers = Peers::new(identity(), &[own, listener.local_addr().unwrap()], 0);
    turn_until(&mut peers, &mut poll, |peers| peers.is_up(NodeId(1)));
    let count = 200;
    for round in 0..count {
        peers.send(NodeId(1), &message(round));
    }
    peers.flush(Instant::now(), poll.registry(), &mut Vec::new());
    let (mut stream, _) = listener.accept().unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let (mut bytes, mut rounds, mut frames) = (Vec::new(), 0, 0);
    while rounds < count {
        let mut piece = [0; 4096];
        let length = stream.read(&mut piece).unwrap();
        bytes.extend_from_slice(&piece[..length]);
        while let Some((mut frame, length)) = frame::split(&bytes, CLUSTER, 1_000).unwrap() {
            frames += 1;
            while let Some(found) = frame.message() {
                assert_eq!(found, Ok(message(rounds)));
                rounds += 1;
            }
            bytes.drain(..length);
        }
    }
    assert!(frames > 1);
}
