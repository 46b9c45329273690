//! The server as a client sees it: a node in a thread, on free loopback ports, and bytes.
#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used, clippy::indexing_slicing)]

use super::*;
use replication::DatacenterId;
use replication::keyspace::{GroupOptions, Keyspace, LeaderFollower, Leaderless, Member, Model};
use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::thread::JoinHandle;
use std::time::Duration;

/// A reply that takes longer is a failure, however slow the machine.
const PATIENCE: Duration = Duration::from_secs(20);

fn free_address() -> SocketAddr {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

fn cluster() -> Cluster {
    cluster_of(["a"])
}

/// A cluster of these nodes, with one keyspace that all of them hold.
fn cluster_of<const N: usize>(names: [&str; N]) -> Cluster {
    let group = GroupOptions::defaults(N.try_into().unwrap());
    let home = DatacenterId(0);
    let model = Model::LeaderFollower(LeaderFollower { home, partitions: 1, group });
    Cluster {
        name: "test".into(),
        secret: 1,
        datacenters: vec!["eu".into()],
        members: names.map(|name| Member { name: name.into(), datacenter: home }).into(),
        keyspaces: vec![Keyspace { id: replication::KeyspaceId(1), prefix: Vec::new(), model }],
    }
}

/// A node in a thread.
struct Server {
    options: ServerOptions,
    stop: std::os::unix::net::UnixStream,
    thread: Option<JoinHandle<Result<(), ServerError>>>,
    _directory: tempfile::TempDir,
}

impl Server {
    fn start() -> Server {
        Server::start_with(|_| {})
    }

    fn start_with(change: impl FnOnce(&mut ServerOptions)) -> Server {
        let directory = tempfile::tempdir().unwrap();
        let data = directory.path().join("data");
        let mut options =
            ServerOptions::new(cluster(), NodeId(0), free_address(), vec![free_address()], data);
        change(&mut options);
        let (stop, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        let started = options.clone();
        let thread = Some(std::thread::spawn(move || run_until(started, theirs)));
        Server { options, stop, thread, _directory: directory }
    }

    /// The text of the metrics endpoint.
    fn metrics(&self) -> Option<String> {
        let mut stream = TcpStream::connect(self.options.metrics_address?).ok()?;
        stream.write_all(b"GET /metrics HTTP/1.1\r\n\r\n").ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        Some(answer.split_once("\r\n\r\n")?.1.to_owned())
    }

    fn connect(&self) -> TcpStream {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match TcpStream::connect(self.options.client_address) {
                Ok(stream) => {
                    stream.set_read_timeout(Some(PATIENCE)).unwrap();
                    stream.set_nodelay(true).unwrap();
                    return stream;
                }
                Err(error) if Instant::now() > deadline => panic!("no server: {error}"),
                Err(_) => std::thread::yield_now(),
            }
        }
    }

    fn stop(mut self) -> Result<(), ServerError> {
        self.end()
    }

    fn end(&mut self) -> Result<(), ServerError> {
        self.stop.write_all(b"x").unwrap();
        self.thread.take().unwrap().join().unwrap()
    }

    /// The same node again, on the same directory.
    fn restart(&mut self) {
        self.end().unwrap();
        self.run_again();
    }

    fn run_again(&mut self) {
        let (stop, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        let options = self.options.clone();
        self.stop = stop;
        self.thread = Some(std::thread::spawn(move || run_until(options, theirs)));
    }
}

/// Sends `bytes` and expects exactly `reply`.
fn talk(stream: &mut TcpStream, bytes: &[u8], reply: &str) {
    stream.write_all(bytes).unwrap();
    expect(stream, reply);
}

fn expect(stream: &mut TcpStream, reply: &str) {
    let mut got = vec![0; reply.len()];
    stream.read_exact(&mut got).expect(reply);
    assert_eq!(String::from_utf8_lossy(&got), reply);
}

/// What is answered to a command that is answered with one text.
fn ask(client: &mut TcpStream, command: &str) -> String {
    client.write_all(format!("{command}\r\n").as_bytes()).unwrap();
    let mut bytes = Vec::new();
    let mut byte = [0];
    while byte != *b"\n" {
        client.read_exact(&mut byte).unwrap();
        bytes.extend(byte);
    }
    let head = String::from_utf8(bytes).unwrap();
    let length: usize = head[1..].trim().parse().unwrap();
    let mut text = vec![0; length + 2];
    client.read_exact(&mut text).unwrap();
    String::from_utf8(text).unwrap()
}

fn expect_closed(stream: &mut TcpStream) {
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).unwrap();
    assert_eq!(rest, b"");
}

#[test]
fn ping_in_both_framings_and_in_any_pieces() {
    let server = Server::start();
    let mut client = server.connect();
    talk(&mut client, b"*1\r\n$4\r\nPING\r\n", "+PONG\r\n");
    talk(&mut client, b"ping\r\n", "+PONG\r\n");
    talk(&mut client, b"PING \"a b\"\n", "$3\r\na b\r\n");
    for byte in b"*2\r\n$4\r\nECHO\r\n$2\r\nhi\r\n" {
        client.write_all(&[*byte]).unwrap();
    }
    expect(&mut client, "$2\r\nhi\r\n");
    server.stop().unwrap();
}

#[test]
fn who_sends_too_much_is_told_so_and_can_read_it() {
    let server = Server::start();
    // Over the limit of one argument in one request, and what follows is no request at all.
    let too_long = BULK_BYTES_DEFAULT + (1 << 20);
    let mut request = format!("PING\r\n*3\r\n$3\r\nSET\r\n$1\r\nk\r\n${too_long}\r\n").into_bytes();
    request.resize(request.len() + too_long, b'x');
    for _ in 0..3 {
        let mut client = server.connect();
        client.write_all(&request).unwrap();
        expect(&mut client, "+PONG\r\n-ERR Protocol error: invalid bulk length\r\n");
        expect_closed(&mut client);
    }
    server.stop().unwrap();
}

#[test]
fn pipelined_replies_come_in_order() {
    let server = Server::start();
    let mut client = server.connect();
    let (mut requests, mut replies) = (String::new(), String::new());
    for number in 0..10_000 {
        let text = number.to_string();
        requests.push_str(&format!("*2\r\n$4\r\nECHO\r\n${}\r\n{text}\r\n", text.len()));
        replies.push_str(&format!("${}\r\n{text}\r\n", text.len()));
    }
    let mut writer = client.try_clone().unwrap();
    let sender = std::thread::spawn(move || writer.write_all(requests.as_bytes()));
    expect(&mut client, &replies);
    sender.join().unwrap().unwrap();
    server.stop().unwrap();
}

#[test]
fn a_protocol_error_is_told_once_after_the_replies_before_it_and_closes() {
    let server = Server::start();
    let mut client = server.connect();
    let reply = "+PONG\r\n-ERR Protocol error: expected '$', got 'x'\r\n";
    talk(&mut client, b"PING\r\n*1\r\nx\r\nPING\r\n", reply);
    expect_closed(&mut client);
    let mut http = server.connect();
    http.write_all(b"POST / HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    expect_closed(&mut http);
    server.stop().unwrap();
}

#[test]
fn a_large_value_in_small_pieces_comes_back_whole() {
    let server = Server::start();
    let mut client = server.connect();
    let value = "v".repeat(3 << 20);
    let request = format!("*2\r\n$4\r\nECHO\r\n${}\r\n{value}\r\n", value.len());
    let mut writer = client.try_clone().unwrap();
    let sender = std::thread::spawn(move || {
        request.as_bytes().chunks(1_000).try_for_each(|chunk| writer.write_all(chunk))
    });
    expect(&mut client, &format!("${}\r\n{value}\r\n", value.len()));
    sender.join().unwrap().unwrap();
    server.stop().unwrap();
}

#[test]
fn hello_changes_the_protocol_and_reset_changes_it_back() {
    let server = Server::start();
    let mut client = server.connect();
    talk(&mut client, b"HELLO 4\r\n", "-NOPROTO unsupported protocol version\r\n");
    talk(&mut client, b"CLIENT GETNAME\r\n", "$-1\r\n");
    client.write_all(b"HELLO 3 SETNAME me\r\n").unwrap();
    expect(&mut client, "%7\r\n$6\r\nserver\r\n$5\r\nredis\r\n$7\r\nversion\r\n$6\r\n7.0.15\r\n");
    expect(&mut client, "$5\r\nproto\r\n:3\r\n$2\r\nid\r\n:1\r\n$4\r\nmode\r\n");
    expect(
        &mut client,
        "$10\r\nstandalone\r\n$4\r\nrole\r\n$6\r\nmaster\r\n$7\r\nmodules\r\n*0\r\n",
    );
    talk(&mut client, b"CLIENT GETNAME\r\n", "$2\r\nme\r\n");
    talk(&mut client, b"CONFIG GET appendonly\r\n", "%1\r\n$10\r\nappendonly\r\n$3\r\nyes\r\n");
    talk(&mut client, b"RESET\r\nCLIENT GETNAME\r\n", "+RESET\r\n$-1\r\n");
    talk(&mut client, b"CONFIG GET save\r\n", "*2\r\n$4\r\nsave\r\n$0\r\n\r\n");
    server.stop().unwrap();
}

#[test]
fn client_reply_off_and_skip_are_silent() {
    let server = Server::start();
    let mut client = server.connect();
    let requests = b"CLIENT REPLY SKIP\r\nECHO skipped\r\nECHO a\r\nCLIENT REPLY OFF\r\nECHO b\r\n\
        SELECT 1\r\nCLIENT REPLY ON\r\nECHO c\r\n";
    talk(&mut client, requests, "$1\r\na\r\n+OK\r\n$1\r\nc\r\n");
    server.stop().unwrap();
}

#[test]
fn quit_answers_and_closes_and_too_many_clients_are_told() {
    let server = Server::start_with(|options| options.clients_max = 1);
    let mut first = server.connect();
    talk(&mut first, b"PING\r\n", "+PONG\r\n");
    let mut second = server.connect();
    expect(&mut second, "-ERR max number of clients reached\r\n");
    talk(&mut first, b"QUIT\r\nPING\r\n", "+OK\r\n");
    expect_closed(&mut first);
    server.stop().unwrap();
}

#[test]
fn a_client_that_only_stops_writing_still_gets_its_replies() {
    let server = Server::start();
    let mut client = server.connect();
    client.write_all(b"ECHO last\r\n").unwrap();
    client.shutdown(std::net::Shutdown::Write).unwrap();
    expect(&mut client, "$4\r\nlast\r\n");
    expect_closed(&mut client);
    server.stop().unwrap();
}

#[test]
fn a_second_process_is_told_what_is_in_use() {
    let server = Server::start();
    talk(&mut server.connect(), b"PING\r\n", "+PONG\r\n");
    let (_stop, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
    let error = run_until(server.options.clone(), theirs).unwrap_err();
    assert!(error.to_string().contains(&server.options.client_address.port().to_string()));
    let mut other = server.options.clone();
    (other.client_address, other.peer_addresses) = (free_address(), vec![free_address()]);
    let (_stop, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
    let error = run_until(other, theirs).unwrap_err();
    assert!(error.to_string().contains("in use by another process"), "{error}");
    server.stop().unwrap();
}

/// A frame as another node of cluster `name` would send it.
fn frame_of(name: &str, from: u16) -> Vec<u8> {
    let mut bytes = Vec::new();
    frame::begin(&mut bytes, frame::cluster_digest(name), NodeId(from), Incarnation(1));
    frame::finish(&mut bytes, 0);
    bytes
}

#[test]
fn what_is_no_frame_of_this_cluster_closes_its_connection_and_nothing_else() {
    let server = Server::start();
    let mut client = server.connect();
    talk(&mut client, b"PING\r\n", "+PONG\r\n");
    let mut damaged = frame_of("test", 1);
    *damaged.last_mut().unwrap() ^= 1;
    let strangers = [
        b"*1\r\n$4\r\nPING\r\n".to_vec(),
        frame_of("other", 1),
        frame_of("test", 7),
        frame_of("test", 0),
        damaged,
    ];
    for bytes in &strangers {
        let mut peer = TcpStream::connect(server.options.peer_addresses[0]).unwrap();
        peer.set_read_timeout(Some(PATIENCE)).unwrap();
        peer.write_all(bytes).unwrap();
        // Closed with bytes unread, the connection may be reset.
        assert!(!matches!(peer.read(&mut [0; 1]), Ok(1..)), "{}", bytes.escape_ascii());
    }
    client.write_all(b"INFO stats\r\n").unwrap();
    let mut text = String::new();
    while !text.contains("peer_connections_refused:5\r\n") {
        let mut piece = [0; 4096];
        let length = client.read(&mut piece).unwrap();
        text.push_str(std::str::from_utf8(piece.get(..length).unwrap()).unwrap());
    }
    server.stop().unwrap();
}

#[test]
fn commands_on_data_and_the_server_s_own_are_answered_in_order_and_data_outlives_the_process() {
    let mut server = Server::start();
    let mut client = server.connect();
    let requests = b"SET k v\r\nPING\r\nGET k\r\nGET none\r\nECHO e\r\nGET k\r\nNOSUCH\r\n";
    talk(&mut client, requests, "+OK\r\n+PONG\r\n$1\r\nv\r\n$-1\r\n$1\r\ne\r\n$1\r\nv\r\n-ERR ");
    drop(client);
    server.restart();
    talk(&mut server.connect(), b"GET k\r\n", "$1\r\nv\r\n");
    server.stop().unwrap();
}

#[test]
fn cluster_commands_describe_the_keyspace_that_was_chosen() {
    let server = Server::start_with(|options| {
        let mut leaderless = Leaderless::defaults(1);
        leaderless.partitions = 2;
        let (id, prefix) = (replication::KeyspaceId(7), b"session:".to_vec());
        let model = Model::Leaderless(leaderless);
        options.cluster.keyspaces.push(Keyspace { id, prefix, model });
        options.slots_keyspace = id;
    });
    let mut client = server.connect();
    talk(&mut client, b"cluster keyslot session:{foo}\r\n", ":12182\r\n");
    talk(&mut client, b"set session:{foo} 1\r\nset {foo} 2\r\n", "+OK\r\n+OK\r\n");
    talk(&mut client, b"cluster countkeysinslot 12182\r\n", ":1\r\n");
    let key = "*1\r\n$13\r\nsession:{foo}\r\n";
    talk(&mut client, b"cluster getkeysinslot 12182 9\r\n", key);
    talk(&mut client, b"cluster getkeysinslot 1 9\r\n", "*0\r\n");
    let bad_slot = "-ERR Invalid or out of range slot\r\n";
    talk(&mut client, b"cluster countkeysinslot 16384\r\n", bad_slot);
    talk(&mut client, b"cluster getkeysinslot 1 -1\r\n", "-ERR Invalid number of keys\r\n");
    client.write_all(b"cluster myid\r\n").unwrap();
    let mut id = [0; 47];
    client.read_exact(&mut id).unwrap();
    let id = String::from_utf8_lossy(&id[5..45]).into_owned();
    // The address is not known here: an empty host means the one that was asked.
    let port = server.options.client_address.port();
    let node = format!("*4\r\n$0\r\n\r\n:{port}\r\n$40\r\n{id}\r\n*0\r\n");
    let slots = format!("*2\r\n*3\r\n:0\r\n:8191\r\n{node}*3\r\n:8192\r\n:16383\r\n{node}");
    talk(&mut client, b"cluster slots\r\n", &slots);
    // Nobody else is there to ask, so nothing is moved.
    talk(&mut client, b"readonly\r\nset session:{foo} 3\r\n", "+OK\r\n+OK\r\n");
    talk(&mut client, b"info cluster\r\n", "$30\r\n# Cluster\r\ncluster_enabled:0\r\n\r\n");
    server.stop().unwrap();
}

#[path = "turn_cost_tests.rs"]
mod turn_cost;

#[path = "stalled_disk_tests.rs"]
mod stalled_disk;

#[test]
fn metrics_tell_what_the_page_describes_and_nothing_else() {
    let server = Server::start_with(|options| options.metrics_address = Some(free_address()));
    let mut client = server.connect();
    talk(&mut client, b"SET k v\r\n", "+OK\r\n");
    let text = server.metrics().unwrap();
    let page = include_str!("../../../docs/metrics.md");
    let described: BTreeSet<&str> =
        page.split("\n| `").skip(1).filter_map(|row| row.split('`').next()).collect();
    let is_sample = |line: &&str| !line.starts_with('#');
    let told: BTreeSet<&str> =
        text.lines().filter(is_sample).filter_map(|line| line.split(['{', ' ']).next()).collect();
    // Of a node alone: no other node, no follower.
    let others = ["trefoil_peer_up", "trefoil_follower_lag_entries", "trefoil_follower_lag_bytes"];
    let mut all = told.clone();
    all.extend(others);
    assert_eq!(all, described, "{text}");
    let group = "{keyspace=\"\",partition=\"0\",datacenter=\"eu\"} 1";
    for line in [
        "trefoil_commands_total 1",
        &format!("trefoil_leader{group}"),
        "trefoil_keys{keyspace=\"\"} 1",
        "# EOF",
    ] {
        assert!(text.lines().any(|found| found == line), "`{line}` is not in:\n{text}");
    }
}

#[test]
fn a_client_closes_others_and_learns_how_many() {
    let server = Server::start();
    let (mut me, mut one, mut other) = (server.connect(), server.connect(), server.connect());
    talk(&mut me, b"CLIENT ID\r\n", ":1\r\n");
    talk(&mut one, b"CLIENT ID\r\n", ":2\r\n");
    talk(&mut other, b"CLIENT ID\r\n", ":3\r\n");
    talk(&mut me, b"CLIENT KILL ID 9\r\n", ":0\r\n");
    talk(&mut me, b"CLIENT KILL 127.0.0.1:1\r\n", "-ERR No such client\r\n");
    talk(&mut me, b"CLIENT KILL ID x\r\n", "-ERR client-id should be greater than 0\r\n");
    talk(&mut me, b"CLIENT KILL ID 1 SKIPME\r\n", "-ERR syntax error\r\n");
    talk(&mut me, b"CLIENT KILL TYPE pubsub\r\n", ":0\r\n");
    let address = one.local_addr().unwrap();
    talk(&mut me, format!("CLIENT KILL {address}\r\n").as_bytes(), "+OK\r\n");
    expect_closed(&mut one);
    talk(&mut me, b"CLIENT KILL TYPE normal\r\n", ":1\r\n");
    expect_closed(&mut other);
    talk(&mut me, b"CLIENT KILL ID 1 SKIPME no\r\n", ":1\r\n");
    expect_closed(&mut me);
}

#[test]
fn whoever_is_told_to_try_help_gets_it() {
    let server = Server::start();
    let mut client = server.connect();
    for command in ["CLIENT", "CLUSTER", "COMMAND", "CONFIG"] {
        let error = format!("-ERR unknown subcommand 'WHAT'. Try {command} HELP.\r\n");
        talk(&mut client, format!("{command} WHAT\r\n").as_bytes(), &error);
        client.write_all(format!("{command} HELP\r\nPING\r\n").as_bytes()).unwrap();
        let mut told = String::new();
        while !told.ends_with("+PONG\r\n") {
            let mut byte = [0];
            client.read_exact(&mut byte).unwrap();
            told.push(char::from(byte[0]));
        }
        assert!(told.starts_with('*') && told.contains(&format!("+{command} <sub")), "{told}");
    }
}

#[test]
fn a_value_is_not_made_longer_than_it_may_be_before_that_is_refused() {
    let server = Server::start_with(|options| options.bulk_bytes_max = 1 << 20);
    let mut client = server.connect();
    let error = "-ERR string exceeds maximum allowed size (proto-max-bulk-len)\r\n";
    for command in ["SETRANGE k 536870000 x\r\n", "SETRANGE k 1048576 x\r\n"] {
        talk(&mut client, command.as_bytes(), error);
    }
    talk(&mut client, b"SETRANGE k 1048575 x\r\n", ":1048576\r\n");
    talk(&mut client, b"SETRANGE k 536870000 \"\"\r\n", ":1048576\r\n");
}

/// The most memory that the process has had, in bytes.
fn peak_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().strip_suffix("kB").unwrap().trim().parse::<u64>().unwrap() << 10
}

#[test]
fn a_pipeline_of_long_reads_is_answered_whole_and_bit_by_bit() {
    const READS: usize = 2_000;
    const VALUE_BYTES: usize = 1 << 20;
    let server = Server::start();
    let mut client = server.connect();
    let value = "x".repeat(VALUE_BYTES);
    let set = format!("*3\r\n$3\r\nSET\r\n$1\r\nk\r\n${VALUE_BYTES}\r\n{value}\r\n");
    talk(&mut client, set.as_bytes(), "+OK\r\n");
    // Commands of the server's own among them, and one that changes what the later ones read.
    let half = "GET k\r\n".repeat(READS / 2);
    let pipeline = format!("{half}PING\r\nAPPEND k y\r\n{half}PING\r\n");
    let before = peak_bytes();
    let mut writer = client.try_clone().unwrap();
    let written = std::thread::spawn(move || writer.write_all(pipeline.as_bytes()).unwrap());
    let mut part = vec![0; VALUE_BYTES];
    let mut get = |length: usize| {
        expect(&mut client, &format!("${length}\r\n"));
        client.read_exact(&mut part).unwrap();
        assert!(part.iter().all(|byte| *byte == b'x'));
        expect(&mut client, &"y\r\n"[VALUE_BYTES + 1 - length..]);
        client.try_clone().unwrap()
    };
    let mut last = None;
    (0..READS / 2).for_each(|_| last = Some(get(VALUE_BYTES)));
    let mut between = last.take().unwrap();
    expect(&mut between, &format!("+PONG\r\n:{}\r\n", VALUE_BYTES + 1));
    (0..READS / 2).for_each(|_| last = Some(get(VALUE_BYTES + 1)));
    expect(&mut last.unwrap(), "+PONG\r\n");
    written.join().unwrap();
    let grown = peak_bytes() - before;
    assert!(grown < 200 << 20, "{grown} bytes more than before, for {READS} MiB of answers");
}
