//! What has become of writes that were on their way to a leader when it was killed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use support::{Client, Cluster, Node, eventually};

const ONE_DATACENTER: [&str; 4] = ["--datacenters", "eu", "--nodes", "3"];
/// Commands that are out at once on a connection, and connections to each follower.
const PIPELINE: usize = 64;
const CONNECTIONS: usize = 2;
/// A reply takes no longer, whatever happens.
const REPLY_TIMEOUT: Duration = Duration::from_secs(20);

/// Writes keys, each once, in pipelines, until a reply is `-UNKNOWN` or it is told to stop; every
/// key with its reply.
fn write_on(node: &Node, writer: &str, stop: &AtomicBool) -> BTreeMap<String, String> {
    let mut stream = TcpStream::connect(&node.client).unwrap();
    stream.set_read_timeout(Some(REPLY_TIMEOUT)).unwrap();
    let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
    let mut replies = BTreeMap::new();
    for round in 0.. {
        let keys: Vec<String> =
            (0..PIPELINE).map(|number| format!("user:{writer}.{round}.{number}")).collect();
        let commands: String = keys.iter().map(|key| format!("SET {key} v\r\n")).collect();
        stream.write_all(commands.as_bytes()).unwrap();
        let mut is_over = false;
        for key in keys {
            let reply = lines.next().expect("a reply").expect("in time");
            is_over |= reply.starts_with("-UNKNOWN");
            replies.insert(key, reply);
        }
        if is_over || stop.load(Ordering::Relaxed) {
            return replies;
        }
    }
    replies
}

/// The last word on a token.
fn outcome(client: &mut Client, token: &str) -> String {
    eventually("a write's outcome", || {
        let answer = client.call::<String>("TF.OUTCOME", &[token]).ok()?;
        (answer != "PENDING").then_some(answer)
    })
}

#[test]
fn every_write_that_was_forwarded_to_a_killed_leader_can_be_asked_about() {
    let cluster = Cluster::start(&ONE_DATACENTER);
    let nodes = cluster.nodes();
    let leader = eventually("a leader", || cluster.leader(&nodes[0], "user:"));
    let followers: Vec<&Node> = nodes.iter().filter(|node| node.name != leader.name).collect();
    let stop = AtomicBool::new(false);
    let replies: BTreeMap<String, String> = std::thread::scope(|scope| {
        let mut writers = Vec::new();
        for (node, number) in
            followers.iter().flat_map(|node| (0..CONNECTIONS).map(move |n| (node, n)))
        {
            let writer = format!("{}.{number}", node.name);
            let stop = &stop;
            writers.push(scope.spawn(move || write_on(node, &writer, stop)));
        }
        let mut client = Client::of(followers[0]);
        for writer in followers.iter().map(|node| &node.name) {
            let key = format!("user:{writer}.0.0.0");
            eventually("writes are on their way", || client.get(&key).ok()?);
        }
        cluster.kill(&leader);
        // A write that is answered was ordered by whoever leads now.
        eventually("another leader", || client.set("user:after", "the kill").then_some(()));
        stop.store(true, Ordering::Relaxed);
        writers.into_iter().flat_map(|writer| writer.join().unwrap()).collect()
    });
    let mut clients: Vec<Client> = followers.iter().map(|node| Client::of(node)).collect();
    let (mut open, mut committed) = (0, 0);
    for (number, (key, reply)) in replies.iter().enumerate() {
        let place = number % clients.len();
        let client = &mut clients[place];
        let there = eventually("a read", || client.get(key).ok()).is_some();
        match reply.as_str() {
            "+OK" => assert!(there, "{key} was acknowledged"),
            reply if reply.starts_with("-UNKNOWN") => {
                let token = reply.split(' ').find_map(|word| word.strip_prefix("token="));
                let token = token.unwrap_or_else(|| panic!("no token: {reply}"));
                let expected = if there { "COMMITTED" } else { "LOST" };
                assert_eq!(outcome(client, token), expected, "{key}: {reply}");
                (open, committed) = (open + 1, committed + usize::from(there));
            }
            refused => assert!(!there, "{key}: {refused}"),
        }
    }
    println!("{} writes, {open} of them open: {committed} were committed", replies.len());
    assert!(open > 0, "nothing was on its way");
}
