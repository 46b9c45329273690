//! Tests of the connections between nodes, over loopback: each host is what the event loop makes of
//! its peers, turned by hand.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use super::*;
use mio::{Events, Poll};
use replication::frame;
use replication::node::LeaseTerm;
use replication::node::message::Message as NodeMessage;
use std::io::{Read, Write};
use std::net::TcpListener as StdListener;
use std::net::TcpStream as StdStream;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(20);
const CLUSTER: u64 = 5;
const LISTENER: Token = Token(1_000);
/// Where nobody listens: port 1 of an address that is ours.
const NOWHERE: &str = "127.0.0.1:1";

fn identity(me: u16) -> Identity {
    Identity {
        cluster: CLUSTER,
        me: NodeId(me),
        incarnation: Incarnation(9),
        payload_bytes_max: 1_000,
        unsent_bytes_max: 1 << 20,
    }
}

fn message(round: u64) -> Message<'static> {
    let term = LeaseTerm::default();
    Message::Node(NodeMessage::HeartbeatAnswer { round, confirmed: Vec::new(), term })
}

/// A node's side of its connections.
struct Host {
    peers: Peers,
    poll: Poll,
    listener: TcpListener,
    heard: Vec<u64>,
    lost: Vec<NodeId>,
    turn: u64,
}

impl Host {
    fn new(me: u16, listener: StdListener, addresses: &[SocketAddr]) -> Host {
        listener.set_nonblocking(true).unwrap();
        let mut listener = TcpListener::from_std(listener);
        let poll = Poll::new().unwrap();
        poll.registry().register(&mut listener, LISTENER, Interest::READABLE).unwrap();
        let peers = Peers::new(identity(me), addresses, 0);
        Host { peers, poll, listener, heard: Vec::new(), lost: Vec::new(), turn: 0 }
    }

    /// Takes what has happened, as a turn of the event loop does.
    fn hear(&mut self) {
        let mut events = Events::with_capacity(64);
        self.poll.poll(&mut events, Some(Duration::from_millis(1))).unwrap();
        let now = Instant::now();
        for event in &events {
            let Some(place) = self.peers.place_of(event.token()) else {
                self.peers.accept(&self.listener, self.poll.registry(), now);
                continue;
            };
            self.peers.event(place, now, self.poll.registry());
            if let Some(connection) = self.peers.connection(place) {
                connection.ending |= event.is_read_closed() || event.is_error();
            }
            if event.is_readable() || event.is_read_closed() {
                self.read(place, now);
            }
        }
    }

    fn read(&mut self, mut place: usize, now: Instant) {
        let mut bytes = vec![0; 64 << 10];
        let registry = self.poll.registry();
        loop {
            let Some(connection) = self.peers.connection(place) else { return };
            let length = match connection.stream.read(&mut bytes) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Ok(0) | Err(_) => return self.lost.extend(self.peers.close(place, now, registry)),
                Ok(length) => length,
            };
            let mut rest = &bytes[..length];
            while let Some((mut frame, length)) = frame::split(rest, CLUSTER, 1_000).unwrap() {
                match self.peers.admit(place, frame.from, now, registry) {
                    Admission::Known => {}
                    Admission::Greeting { place: home, replaced } => {
                        place = home;
                        self.lost.extend(replaced.then_some(frame.from));
                    }
                    Admission::Unwanted => return,
                    Admission::Refused => {
                        let error = FrameError::Sender;
                        let lost = self.peers.refuse(place, error, now, registry);
                        return self.lost.extend(lost);
                    }
                }
                while let Some(message) = frame.message() {
                    match message.unwrap() {
                        Message::Node(NodeMessage::HeartbeatAnswer { round, .. }) => {
                            self.heard.push(round);
                        }
                        other => panic!("{other:?}"),
                    }
                }
                rest = &rest[length..];
            }
            assert!(rest.is_empty(), "small frames arrive whole on loopback");
        }
    }

    fn say(&mut self) {
        self.peers.flush(self.turn, Instant::now(), self.poll.registry(), &mut self.lost);
    }

    fn dial(&mut self) {
        self.peers.dial(Instant::now(), self.poll.registry());
    }

    fn turn(&mut self) {
        self.turn += 1;
        self.hear();
        self.say();
        self.dial();
    }

    /// The two ends of the connection to a node.
    fn ends(&mut self, node: u16) -> (SocketAddr, SocketAddr) {
        let connection = self.peers.connection(usize::from(node)).unwrap();
        (connection.stream.local_addr().unwrap(), connection.stream.peer_addr().unwrap())
    }
}

/// Turns the hosts until a condition holds.
fn turn_until<const N: usize>(
    hosts: [&mut Host; N],
    mut done: impl FnMut(&mut [&mut Host; N]) -> bool,
) {
    let deadline = Instant::now() + PATIENCE;
    let mut hosts = hosts;
    while !done(&mut hosts) {
        assert!(Instant::now() < deadline, "the condition never held");
        hosts.iter_mut().for_each(|host| host.turn());
    }
}

fn listen() -> (StdListener, SocketAddr) {
    let listener = StdListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// Nodes 0 and 1, which know where the other one is.
fn two() -> (Host, Host) {
    let ((one, at_one), (other, at_other)) = (listen(), listen());
    let addresses = [at_one, at_other];
    (Host::new(0, one, &addresses), Host::new(1, other, &addresses))
}

/// What holds once two nodes are connected: both ends are of one connection, there is no second
/// one, and both hear each other over it.
fn expect_one_connection(zero: &mut Host, one: &mut Host) {
    turn_until([zero, one], |[zero, one]| {
        zero.peers.is_up(NodeId(1)) && one.peers.is_up(NodeId(0))
    });
    zero.peers.send(NodeId(1), &message(1));
    one.peers.send(NodeId(0), &message(2));
    turn_until([zero, one], |[zero, one]| zero.heard.contains(&2) && one.heard.contains(&1));
    let (ours, theirs) = zero.ends(1);
    assert_eq!(one.ends(0), (theirs, ours));
    for host in [zero, one] {
        assert!(host.peers.strangers.iter().all(Option::is_none), "a second connection");
    }
}

/// A frame from a node, with one message or none.
fn frame_of(from: u16, round: Option<u64>) -> Vec<u8> {
    frame_from(from, 3, round)
}

fn frame_from(from: u16, incarnation: u64, round: Option<u64>) -> Vec<u8> {
    let mut bytes = Vec::new();
    frame::begin(&mut bytes, CLUSTER, NodeId(from), Incarnation(incarnation));
    if let Some(round) = round {
        frame::push(&mut bytes, &message(round));
    }
    frame::finish(&mut bytes, 0);
    bytes
}

/// Node 0 with a peer that is played by hand: its end of the connection that node 0 has dialled,
/// greeted and answered.
fn with_played_peer() -> (Host, StdListener, StdStream) {
    let ((listener, own), (played, address)) = (listen(), listen());
    let mut host = Host::new(0, listener, &[own, address]);
    let stream = answer(&mut host, &played);
    (host, played, stream)
}

fn answer(host: &mut Host, played: &StdListener) -> StdStream {
    played.set_nonblocking(true).unwrap();
    let (mut accepted, writes) = (None, host.peers.writes());
    turn_until([host], |_| {
        accepted = accepted.take().or_else(|| played.accept().ok());
        accepted.is_some()
    });
    let (mut stream, from) = accepted.unwrap();
    assert_eq!(from.ip().to_string(), "127.0.0.1", "its own address");
    stream.set_nonblocking(false).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    turn_until([host], |[host]| host.peers.writes() > writes);
    let mut greeting = vec![0; frame_of(0, None).len()];
    stream.read_exact(&mut greeting).unwrap();
    let (mut frame, _) = frame::split(&greeting, CLUSTER, 1_000).unwrap().unwrap();
    assert_eq!((frame.from, frame.incarnation), (NodeId(0), Incarnation(9)));
    assert_eq!(frame.message(), None);
    assert!(!host.peers.is_up(NodeId(1)), "not before the peer has said who it is");
    stream.write_all(&frame_of(1, None)).unwrap();
    turn_until([host], |[host]| host.peers.is_up(NodeId(1)));
    stream
}

#[test]
fn a_turn_is_one_frame_and_one_write() {
    let (mut host, _played, mut stream) = with_played_peer();
    let writes = host.peers.writes();
    host.say();
    assert_eq!(host.peers.writes(), writes, "nothing to say, nothing written");
    host.peers.send(NodeId(1), &message(1));
    host.peers.send(NodeId(1), &message(2));
    host.say();
    host.say();
    assert_eq!(host.peers.writes(), writes + 1);
    assert_eq!(host.peers.repeated_writes(), 0);
    host.peers.send(NodeId(1), &message(3));
    host.say();
    assert_eq!((host.peers.writes(), host.peers.repeated_writes()), (writes + 2, 1), "told");
    let mut expected = Vec::new();
    frame::begin(&mut expected, CLUSTER, NodeId(0), Incarnation(9));
    frame::push(&mut expected, &message(1));
    frame::push(&mut expected, &message(2));
    frame::finish(&mut expected, 0);
    expected.extend(frame_from(0, 9, Some(3)));
    let mut bytes = vec![0; expected.len()];
    stream.read_exact(&mut bytes).unwrap();
    assert_eq!(bytes, expected);
    stream.set_nonblocking(true).unwrap();
    let error = stream.read(&mut bytes).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::WouldBlock, "a frame for each turn and nothing else");
}

#[test]
fn a_frame_that_is_full_is_followed_by_another_in_the_same_write() {
    let (mut host, _played, mut stream) = with_played_peer();
    let (count, writes) = (200, host.peers.writes());
    for round in 0..count {
        host.peers.send(NodeId(1), &message(round));
    }
    host.say();
    assert_eq!(host.peers.writes(), writes + 1);
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

#[test]
fn a_broken_connection_is_told_and_dialled_again() {
    let (mut host, played, stream) = with_played_peer();
    drop(stream);
    turn_until([&mut host], |[host]| !host.peers.is_up(NodeId(1)));
    assert_eq!(host.lost, [NodeId(1)]);
    // Nothing is kept for whom there is no connection.
    host.peers.send(NodeId(1), &message(0));
    let mut stream = answer(&mut host, &played);
    host.peers.send(NodeId(1), &message(1));
    host.say();
    let mut bytes = vec![0; frame_of(0, Some(1)).len()];
    stream.read_exact(&mut bytes).unwrap();
    let (mut frame, _) = frame::split(&bytes, CLUSTER, 1_000).unwrap().unwrap();
    assert_eq!(frame.message(), Some(Ok(message(1))));
    assert_eq!(host.lost, [NodeId(1)], "once");
}

#[test]
fn two_nodes_have_one_connection() {
    let (mut zero, mut one) = two();
    expect_one_connection(&mut zero, &mut one);
    assert_eq!((&zero.lost, &one.lost), (&vec![], &vec![]));
}

#[test]
fn two_nodes_that_dial_at_once_keep_the_one_that_the_smaller_number_has_dialled() {
    // In every order in which they may find out.
    for order in 0..8 {
        let (mut zero, mut one) = two();
        zero.dial();
        one.dial();
        for step in 0..3 {
            let (first, second) = match order >> step & 1 {
                0 => (&mut zero, &mut one),
                _ => (&mut one, &mut zero),
            };
            first.hear();
            first.say();
            second.hear();
            second.say();
        }
        expect_one_connection(&mut zero, &mut one);
        let (_, dialled) = zero.ends(1);
        assert_eq!(dialled, one.listener.local_addr().unwrap(), "order {order}");
        assert_eq!((&zero.lost, &one.lost), (&vec![], &vec![]), "order {order}");
    }
}

#[test]
fn one_that_cannot_be_dialled_is_connected_by_dialling() {
    for hidden in [0, 1] {
        let ((one, at_one), (other, at_other)) = (listen(), listen());
        let mut seen = [at_one, at_other];
        seen[hidden] = NOWHERE.parse().unwrap();
        let real = [at_one, at_other];
        let (by_zero, by_one) = if hidden == 0 { (real, seen) } else { (seen, real) };
        let (mut zero, mut one) = (Host::new(0, one, &by_zero), Host::new(1, other, &by_one));
        expect_one_connection(&mut zero, &mut one);
    }
}

#[test]
fn a_peer_that_dials_again_has_lost_its_connection_and_gets_another() {
    for me in [0, 1] {
        let ((listener, own), (played, _)) = (listen(), listen());
        let other = 1 - me;
        // Only the played peer dials: a connection to nowhere is refused at once.
        let mut addresses = [NOWHERE.parse().unwrap(); 2];
        addresses[usize::from(me)] = own;
        drop(played);
        let mut host = Host::new(me, listener, &addresses);
        let mut dialled = Vec::new();
        for time in 1..=3 {
            let mut stream = StdStream::connect(own).unwrap();
            stream.write_all(&frame_of(other, Some(time))).unwrap();
            dialled.push(stream);
            turn_until([&mut host], |[host]| host.heard.last() == Some(&time));
            assert!(host.peers.is_up(NodeId(other)));
            assert_eq!(host.lost.len() as u64, time - 1, "the older one is told of as lost");
        }
        for older in &mut dialled[..2] {
            older.set_read_timeout(Some(PATIENCE)).unwrap();
            let mut rest = Vec::new();
            // The answer to its greeting, and its end.
            older.read_to_end(&mut rest).unwrap();
            assert_eq!(rest.len(), frame_of(me, None).len());
        }
    }
}

#[test]
fn a_connection_that_has_ended_replaces_none() {
    let (listener, own) = listen();
    let mut host = Host::new(0, listener, &[own, NOWHERE.parse().unwrap()]);
    let mut stands = StdStream::connect(own).unwrap();
    stands.write_all(&frame_of(1, None)).unwrap();
    turn_until([&mut host], |[host]| host.peers.is_up(NodeId(1)));
    // As a node does whose greeting has crossed another one.
    let mut ended = StdStream::connect(own).unwrap();
    ended.write_all(&frame_of(1, Some(7))).unwrap();
    drop(ended);
    stands.write_all(&frame_of(1, Some(8))).unwrap();
    turn_until([&mut host], |[host]| host.heard.contains(&8));
    turn_until([&mut host], |[host]| host.peers.strangers.iter().all(Option::is_none));
    assert_eq!(host.lost, []);
    assert!(host.peers.is_up(NodeId(1)));
}

#[test]
fn who_is_not_the_node_that_was_dialled_is_refused() {
    for named in [0, 2, 77] {
        let ((listener, own), (played, address)) = (listen(), listen());
        let third: SocketAddr = NOWHERE.parse().unwrap();
        let mut host = Host::new(0, listener, &[own, address, third]);
        played.set_nonblocking(true).unwrap();
        let mut accepted = None;
        turn_until([&mut host], |_| {
            accepted = accepted.take().or_else(|| played.accept().ok());
            accepted.is_some()
        });
        let (mut stream, _) = accepted.unwrap();
        stream.set_nonblocking(false).unwrap();
        stream.write_all(&frame_of(named, None)).unwrap();
        turn_until([&mut host], |[host]| host.peers.refused == 1);
        assert!(!host.peers.is_up(NodeId(1)) && !host.peers.is_up(NodeId(2)), "{named}");
    }
}

#[test]
fn a_stranger_who_names_nobody_or_this_node_is_refused() {
    for named in [0, 77] {
        let (listener, own) = listen();
        let mut host = Host::new(0, listener, &[own, NOWHERE.parse().unwrap()]);
        let mut stream = StdStream::connect(own).unwrap();
        stream.write_all(&frame_of(named, Some(1))).unwrap();
        turn_until([&mut host], |[host]| host.peers.refused == 1);
        assert!(host.heard.is_empty());
    }
}

#[test]
fn a_stranger_who_says_nothing_does_not_keep_his_place() {
    let (listener, own) = listen();
    let mut host = Host::new(0, listener, &[own, NOWHERE.parse().unwrap()]);
    let mut stream = StdStream::connect(own).unwrap();
    turn_until([&mut host], |[host]| host.peers.strangers.iter().any(Option::is_some));
    let registry = host.poll.registry();
    host.peers.dial(Instant::now() + GREETING_TIMEOUT, registry);
    assert!(host.peers.strangers.iter().all(Option::is_none));
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    assert_eq!(stream.read(&mut [0]).unwrap(), 0);
}

#[test]
fn a_peer_that_takes_less_than_it_is_sent_loses_its_connection_and_is_told_of_as_lost() {
    let (mut host, played, mut stream) = with_played_peer();
    let mut sent = 0;
    while host.lost.is_empty() {
        // More each turn than a frame holds; the peer reads nothing.
        for round in 0..5_000 {
            host.peers.send(NodeId(1), &message(round));
        }
        host.say();
        sent += 5_000;
        assert!(sent < 50_000_000, "no limit");
    }
    assert_eq!(host.lost, [NodeId(1)]);
    assert!(!host.peers.is_up(NodeId(1)));
    // The peer, too, finds out: its connection ends.
    let mut rest = Vec::new();
    let _ = stream.read_to_end(&mut rest);
    answer(&mut host, &played);
}
