//! What a turn costs in system calls, counted exactly: one read for each ready socket, one write
//! for each client and each peer that is told something, one batch of the log. The counters stand
//! where the calls are, and INFO tells them.

use super::*;
use replication::keyspace::Durability;

/// Sequential commands of one connection.
const COMMANDS: u64 = 200;
const SET: &str = "*3\r\n$3\r\nSET\r\n$3\r\nkey\r\n$5\r\nvalue\r\n";

fn with_durability(durability: Durability) -> Server {
    Server::start_with(|options| {
        for keyspace in &mut options.cluster.keyspaces {
            if let Model::LeaderFollower(options) = &mut keyspace.model {
                options.group.durability = durability;
            }
        }
    })
}

/// A connection whose node leads.
fn connect_to_leader(server: &Server) -> TcpStream {
    let mut client = server.connect();
    talk(&mut client, SET.as_bytes(), "+OK\r\n");
    client
}

/// What INFO counts: these fields, in this order.
pub(super) fn counters<const N: usize>(client: &mut TcpStream, fields: [&str; N]) -> [u64; N] {
    let text = ask(client, "INFO");
    fields.map(|field| {
        let line = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
        line.unwrap_or_else(|| panic!("INFO has no {field}")).parse().unwrap()
    })
}

const CALLS: [&str; 3] = ["loop_reads", "loop_reads_empty", "loop_writes_to_clients"];
const BATCHES: [&str; 3] = ["log_batches_direct", "log_batches_through_page_cache", "loop_turns"];

/// One connection that waits for each reply: what its commands have cost.
fn sequential(server: &Server) -> ([u64; 3], [u64; 3]) {
    let mut client = connect_to_leader(server);
    let before = (counters(&mut client, CALLS), counters(&mut client, BATCHES));
    for _ in 0..COMMANDS {
        talk(&mut client, SET.as_bytes(), "+OK\r\n");
    }
    let after = (counters(&mut client, CALLS), counters(&mut client, BATCHES));
    let delta = |before: [u64; 3], after: [u64; 3]| std::array::from_fn(|n| after[n] - before[n]);
    (delta(before.0, after.0), delta(before.1, after.1))
}

#[test]
fn a_durable_command_is_one_read_one_batch_and_one_write() {
    let server = with_durability(Durability::Fsync);
    let (calls, [direct, plain, _]) = sequential(&server);
    // Two questions for INFO lie between those that count: the second before, the first after.
    assert_eq!(calls, [COMMANDS + 2, 0, COMMANDS + 2]);
    assert_eq!(direct + plain, COMMANDS);
    server.stop().unwrap();
}

#[test]
fn an_interval_command_is_written_and_answered_within_its_turn() {
    let server = with_durability(Durability::Interval);
    let (calls, [direct, plain, turns]) = sequential(&server);
    assert_eq!(calls, [COMMANDS + 2, 0, COMMANDS + 2]);
    assert_eq!((direct, plain), (0, COMMANDS));
    // Some more for the clock's sake; a reply that waited for another turn would double them.
    assert!(turns < COMMANDS + COMMANDS / 2, "{turns} turns");
    server.stop().unwrap();
}

#[test]
fn a_pipeline_is_one_read_and_one_write() {
    for durability in [Durability::Fsync, Durability::Interval] {
        let server = with_durability(durability);
        let mut asker = connect_to_leader(&server);
        let mut clients: Vec<TcpStream> = (0..8).map(|_| connect_to_leader(&server)).collect();
        let [reads, empty, writes] = counters(&mut asker, CALLS);
        let [direct, plain, _] = counters(&mut asker, BATCHES);
        for client in &mut clients {
            client.write_all(SET.repeat(16).as_bytes()).unwrap();
        }
        for client in &mut clients {
            expect(client, &"+OK\r\n".repeat(16));
        }
        assert_eq!(counters(&mut asker, CALLS), [reads + 8 + 2, empty, writes + 8 + 2]);
        let [direct_after, plain_after, _] = counters(&mut asker, BATCHES);
        let batches = direct_after + plain_after - direct - plain;
        assert!((1..=8).contains(&batches), "{batches} batches for 8 pipelines");
        server.stop().unwrap();
    }
}

/// No busy machine keeps a leader silent for so long: an election is another story.
const ELECTION_TIMEOUT_US: u64 = 3_000_000;

/// Three nodes that know each other: `q:` is leaderless, all else is led by one of them.
fn three_nodes(durability: Durability) -> Vec<Server> {
    let peers: Vec<SocketAddr> = (0..3).map(|_| free_address()).collect();
    let start = |number: u16| {
        Server::start_with(|options| {
            options.me = NodeId(number);
            options.peer_addresses = peers.clone();
            options.timing.election_timeout_us = ELECTION_TIMEOUT_US;
            let datacenter = DatacenterId(0);
            let member = |name: &str| Member { name: name.into(), datacenter };
            options.cluster.members = ["a", "b", "c"].map(member).to_vec();
            let group = GroupOptions { durability, ..GroupOptions::defaults(3) };
            let led = LeaderFollower { home: datacenter, partitions: 1, group };
            let quorum = Leaderless { durability, ..Leaderless::defaults(3) };
            let keyspace = |id, prefix: &[u8], model| Keyspace {
                id: replication::KeyspaceId(id),
                prefix: prefix.to_vec(),
                model,
            };
            options.cluster.keyspaces = vec![
                keyspace(1, b"", Model::LeaderFollower(led)),
                keyspace(2, b"q:", Model::Leaderless(quorum)),
            ];
        })
    };
    (0..3).map(start).collect()
}

/// Asks until the cluster is there to answer so.
fn ask_until(client: &mut TcpStream, request: &str, wanted: &str) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        client.write_all(request.as_bytes()).unwrap();
        let (mut line, mut byte) = (String::new(), [0]);
        while !line.ends_with("\r\n") {
            client.read_exact(&mut byte).unwrap();
            line.push(char::from(byte[0]));
        }
        if line == wanted {
            return;
        }
        assert!(Instant::now() < deadline, "{request}: {line}");
    }
}

#[test]
fn no_peer_and_no_client_is_written_to_twice_in_a_turn() {
    const WRITES: [&str; 4] =
        ["loop_writes_repeated", "loop_writes_to_peers", "loop_writes_to_clients", "loop_turns"];
    for durability in [Durability::Fsync, Durability::Interval] {
        let servers = three_nodes(durability);
        let mut askers: Vec<TcpStream> = servers.iter().map(Server::connect).collect();
        for asker in &mut askers {
            ask_until(asker, "SET key value\r\n", "+OK\r\n");
            ask_until(asker, "SET q:key value\r\n", "+OK\r\n");
        }
        // Commands that each node carries out itself, hands on, and asks the others about.
        let request = "SET key value\r\nSET q:key value\r\nGET key\r\nGET q:key\r\n".repeat(8);
        let reply = "+OK\r\n+OK\r\n$5\r\nvalue\r\n$5\r\nvalue\r\n".repeat(8);
        let mut clients: Vec<TcpStream> =
            servers.iter().flat_map(|server| (0..4).map(|_| server.connect())).collect();
        for _ in 0..10 {
            for client in &mut clients {
                client.write_all(request.as_bytes()).unwrap();
            }
            for client in &mut clients {
                expect(client, &reply);
            }
        }
        for asker in &mut askers {
            let [repeated, peers, clients, turns] = counters(asker, WRITES);
            assert_eq!(repeated, 0);
            assert!(peers > 0 && clients > 0 && peers <= 2 * turns, "{peers}, {clients}, {turns}");
        }
        for server in servers {
            server.stop().unwrap();
        }
    }
}
