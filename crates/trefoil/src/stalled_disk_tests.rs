//! A disk that does not answer holds up those who wait for it, and nobody else: neither does the
//! event loop stand still, on whichever thread it is, nor is anything said that is not on disk.

use super::turn_cost::counters;
use super::*;
use crate::disk::stalled::Stall;

const SET: &[u8] = b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1\r\nv\r\n";
const POSITIONS: [&str; 2] = ["log_last_position", "log_synced_position"];

/// Sends a SET whose batch the disk does not take, and returns when the node, which still answers
/// others, has it in its log.
fn set_and_stall(server: &Server, writer: &mut TcpStream, other: &mut TcpStream) -> Stall {
    let mut positions = counters(other, POSITIONS);
    while positions[0] > positions[1] {
        positions = counters(other, POSITIONS);
    }
    let stall = Stall::of(&server.options.data_directory);
    writer.write_all(SET).unwrap();
    let deadline = Instant::now() + PATIENCE;
    while positions[0] == positions[1] {
        assert!(Instant::now() < deadline, "the node does not write");
        positions = counters(other, POSITIONS);
    }
    stall
}

#[test]
fn a_stalled_disk_holds_up_its_writers_and_nobody_else() {
    let server = Server::start();
    let mut writer = server.connect();
    let mut other = server.connect();
    talk(&mut writer, b"SET other v\r\n", "+OK\r\n");
    // Each time another thread runs the loop.
    for _ in 0..5 {
        let stall = set_and_stall(&server, &mut writer, &mut other);
        talk(&mut other, b"GET other\r\n", "$1\r\nv\r\n");
        writer.set_nonblocking(true).unwrap();
        let early = writer.peek(&mut [0]).map_err(|error| error.kind());
        assert_eq!(early, Err(io::ErrorKind::WouldBlock), "OK, and not on disk");
        writer.set_nonblocking(false).unwrap();
        drop(stall);
        expect(&mut writer, "+OK\r\n");
        // Its write is short: the threads stay as they are.
        talk(&mut writer, SET, "+OK\r\n");
    }
    server.stop().unwrap();
}

#[test]
fn a_node_that_is_stopped_while_its_disk_stalls_ends_when_all_is_on_disk() {
    let mut server = Server::start();
    let mut writer = server.connect();
    let mut other = server.connect();
    talk(&mut writer, b"SET other v\r\n", "+OK\r\n");
    let stall = set_and_stall(&server, &mut writer, &mut other);
    server.stop.write_all(b"x").unwrap();
    drop(stall);
    server.thread.take().unwrap().join().unwrap().unwrap();
    server.run_again();
    talk(&mut server.connect(), b"GET k\r\n", "$1\r\nv\r\n");
    server.stop().unwrap();
}

const NAMES: [&str; 3] = ["a", "b", "c"];

/// What a node says of the keyspace's only group.
fn group(client: &mut TcpStream) -> serde_json::Value {
    let status = ask(client, "TF.STATUS");
    let mut status: serde_json::Value = serde_json::from_str(&status).unwrap();
    status["keyspaces"][0]["groups"][0].take()
}

/// The number of the node that leads according to this one, once there is one that `fits`.
fn leader(client: &mut TcpStream, fits: impl Fn(usize) -> bool) -> usize {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let group = group(client);
        let name = group["leader"].as_str().unwrap_or("");
        if let Some(number) = NAMES.iter().position(|known| *known == name).filter(|n| fits(*n)) {
            return number;
        }
        assert!(Instant::now() < deadline, "no leader: {group}");
        std::thread::yield_now();
    }
}

#[test]
fn a_leader_whose_disk_stalls_hands_over_and_says_why() {
    let peers = NAMES.map(|_| free_address());
    let servers = [0, 1, 2].map(|number| {
        Server::start_with(|options| {
            options.cluster = cluster_of(NAMES);
            options.me = NodeId(number);
            options.peer_addresses = peers.to_vec();
        })
    });
    let mut clients = servers.each_ref().map(Server::connect);
    let old = leader(&mut clients[0], |_| true);
    // Through the leader: before it serves, its first entry is committed.
    talk(&mut clients[old], SET, "+OK\r\n");
    let stall = Stall::of(&servers[old].options.data_directory);
    let mut writer = servers[old].connect();
    writer.write_all(SET).unwrap();
    let other = (old + 1) % 3;
    let new = leader(&mut clients[other], |number| number != old);
    talk(&mut clients[other], SET, "+OK\r\n");
    leader(&mut clients[old], |number| number == new);
    let status = group(&mut clients[old]);
    let why = status["why"].as_str().unwrap_or("");
    assert!(why.contains("disk has not answered for"), "{status}");
    // Its own writer was not told anything wrong: the entry is in both followers' logs.
    expect(&mut writer, "+OK\r\n");
    drop(stall);
    talk(&mut clients[old], b"GET k\r\n", "$1\r\nv\r\n");
    servers.into_iter().for_each(|server| server.stop().unwrap());
}
