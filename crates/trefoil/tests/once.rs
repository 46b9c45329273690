//! A client that sends its commands again after every error, under their names, through any node,
//! while leaders are killed: each is carried out once.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::process::{Command, Stdio};
use support::{Client, Cluster, eventually};

/// Counts to 400 by redis-py. What is answered must be what is counted: each number comes once.
const REDIS_PY: &str = r#"
import itertools, random, redis, sys, time
addresses = [address.rsplit(":", 1) for address in sys.argv[1:]]
clients = [redis.Redis(host, int(port), socket_timeout=3, retry=None) for host, port in addresses]
session = f"{int(time.time() * 1000)}-python"
answers, errors = [], 0
deadline = time.time() + 100
for number in range(1, 401):
    while True:
        assert time.time() < deadline, f"{number} of 400 after 100 s"
        client = random.choice(clients)
        try:
            answer = client.execute_command("TF.ONCE", session, number, "--", "INCR", "user:n")
            answers.append(answer)
            break
        except redis.RedisError as error:
            assert "not executed now" not in str(error), error
            errors += 1
            time.sleep(0.02)
    if random.random() < 0.2:
        again = random.choice(clients)
        try:
            old = max(1, number - random.randrange(20))
            answer = again.execute_command("TF.ONCE", session, old, "--", "INCR", "user:n")
            assert answer == answers[old - 1], (old, answer)
        except (redis.ConnectionError, redis.TimeoutError, redis.ResponseError):
            errors += 1
    time.sleep(0.005)
assert answers == list(range(1, 401)), answers
print("errors", errors)
"#;

#[test]
fn every_command_is_carried_out_once_while_leaders_are_killed() {
    let cluster = Cluster::start(&["--datacenters", "eu", "--nodes", "3"]);
    let nodes = cluster.nodes();
    let mut python = Command::new("python3");
    python.args(["-c", REDIS_PY]).args(nodes.iter().map(|node| &node.client));
    python.stdout(Stdio::piped()).stderr(Stdio::piped());
    let counting = python.spawn().expect("this test needs python3 with redis-py");
    for _ in 0..2 {
        let up = eventually("a leader that is up", || {
            let leaders = cluster.nodes().into_iter().filter_map(|n| cluster.leader(&n, "user:"));
            leaders.into_iter().find(|leader| support::is_running(leader.pid))
        });
        cluster.kill(&up);
        let others = || cluster.nodes().into_iter().filter(|node| node.name != up.name);
        eventually("another leader", || {
            let leader = others().find_map(|node| cluster.leader(&node, "user:"))?;
            (leader.name != up.name).then_some(())
        });
        cluster.restart(&up.name);
    }
    let output = counting.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    let read = |node| Client::of(node).get("user:n").ok().flatten();
    let nodes = cluster.nodes();
    assert_eq!(eventually("the counter is read", || read(&nodes[0])), "400");
}

#[test]
fn what_cannot_be_carried_out_once_is_refused() {
    let cluster = Cluster::start(&["--datacenters", "eu,us", "--nodes", "3"]);
    let mut client = Client::of(&cluster.nodes()[0]);
    let mut refused = |arguments: &[&str], why: &str| {
        let error = client.call::<redis::Value>("TF.ONCE", arguments).unwrap_err().to_string();
        assert!(error.contains(why), "{arguments:?}: {error}");
    };
    refused(&["1-x", "1", "--", "INCR", "cart:n"], "leader-follower");
    refused(&["1-x", "1", "--", "INCR", "session:n"], "leader-follower");
    refused(&["1-x", "1", "--", "GET", "user:n"], "not a write");
    refused(&["x", "1", "--", "INCR", "user:n"], "session's name");
    refused(&["1-x", "-1", "--", "INCR", "user:n"], "number");
    refused(&["1-x", "1", "INCR", "user:n"], "'--' is missing");
}
