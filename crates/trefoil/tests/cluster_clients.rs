//! Cluster-aware clients: they find their way by the map, survive a failover without a restart, and
//! plain clients beside them notice nothing.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use redis::cluster::{ClusterClient, ClusterConnection};
use redis::{Commands, Value};
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};
use support::{Client, Cluster, Node, eventually, run};

/// One datacenter, three nodes.
const THREE: [&str; 4] = ["--datacenters", "eu", "--nodes", "3"];

/// Who leads the keys without a prefix, and a node that does not.
fn leader_and_other(cluster: &Cluster) -> (Node, Node) {
    let nodes = cluster.nodes();
    let leader = eventually("a leader", || cluster.leader(&nodes[0], ""));
    let other = nodes.into_iter().find(|node| node.name != leader.name).unwrap();
    (leader, other)
}

/// A slot range of CLUSTER SLOTS: first, last, the addresses, whom to ask first.
fn slots(client: &mut Client) -> Vec<(i64, i64, Vec<String>)> {
    let ranges: Vec<Vec<Value>> = client.call("CLUSTER", &["SLOTS"]).unwrap();
    let address = |node: &Value| {
        let node: Vec<Value> = redis::from_redis_value(node.clone()).unwrap();
        let host: String = redis::from_redis_value(node[0].clone()).unwrap();
        let port: u16 = redis::from_redis_value(node[1].clone()).unwrap();
        format!("{host}:{port}")
    };
    let number = |value: &Value| redis::from_redis_value::<i64>(value.clone()).unwrap();
    let range = |range: Vec<Value>| {
        let addresses = range[2..].iter().map(address).collect();
        (number(&range[0]), number(&range[1]), addresses)
    };
    ranges.into_iter().map(range).collect()
}

fn moved_to(result: Result<(), redis::RedisError>) -> Option<String> {
    let error = result.err()?;
    error.redirect_node().map(|(node, _)| node.to_owned())
}

/// A program that is told when to go on.
struct Script {
    child: Child,
    stdin: ChildStdin,
    said: BufReader<std::process::ChildStdout>,
}

impl Script {
    fn python(script: &str, arguments: &[String]) -> Script {
        let mut command = Command::new("python3");
        command.args(["-c", script]).args(arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("this test needs python3 with redis-py");
        let (stdin, stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        Script { child, stdin, said: BufReader::new(stdout) }
    }

    fn expect(&mut self, word: &str) {
        let mut line = String::new();
        self.said.read_line(&mut line).unwrap();
        assert_eq!(line.trim(), word, "its errors are above");
    }

    fn go_on(&mut self) {
        self.stdin.write_all(b"go on\n").unwrap();
        self.stdin.flush().unwrap();
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Writes with one RedisCluster before and after the leader dies. What an error leaves open is
/// tried again, as an application would; what was acknowledged is there.
const REDIS_PY: &str = "\
import sys, time, redis
from redis.cluster import RedisCluster, ClusterNode
dead_line = time.time() + 60
nodes = [ClusterNode(*a.split(':')) for a in sys.argv[1:]]
cluster = RedisCluster(startup_nodes=nodes, decode_responses=True)
def write(count, name):
    for i in range(count):
        while True:
            try:
                cluster.set(f'{name}{i}', i)
                break
            except redis.RedisError as error:
                print(repr(error), file=sys.stderr)
                assert time.time() < dead_line, error
                time.sleep(0.05)
    assert all(cluster.get(f'{name}{i}') == str(i) for i in range(count))
write(50, 'before')
print('written', flush=True)
sys.stdin.readline()
write(50, 'after')
pipe = cluster.pipeline()
[pipe.set(f'piped{i}', i) for i in range(20)]
assert all(pipe.execute())
assert cluster.get('before0') == '0'
print('survived', flush=True)
";

#[test]
fn redis_py_survives_a_failover() {
    let cluster = Cluster::start(&THREE);
    let (leader, other) = leader_and_other(&cluster);
    let addresses: Vec<String> = cluster.nodes().into_iter().map(|node| node.client).collect();
    let mut script = Script::python(REDIS_PY, &addresses);
    script.expect("written");
    cluster.kill(&leader);
    script.go_on();
    script.expect("survived");
    let keys: i64 = Client::of(&other).call("DBSIZE", &[]).unwrap();
    assert_eq!(keys, 50 + 50 + 20);
}

/// The Rust crate's connection without a runtime does not look for a new map when a node is gone;
/// its client does, when it is asked for the next connection, as a pool would.
fn connected(client: &ClusterClient) -> Option<ClusterConnection> {
    let connection = client.get_connection().ok()?;
    connection.set_read_timeout(Some(Duration::from_secs(15))).ok()?;
    Some(connection)
}

#[test]
fn the_rust_cluster_client_survives_a_failover() {
    let cluster = Cluster::start(&THREE);
    let (leader, _) = leader_and_other(&cluster);
    let addresses = cluster.nodes().into_iter().map(|node| format!("redis://{}/", node.client));
    let client = ClusterClient::new(addresses.collect::<Vec<_>>()).unwrap();
    let mut connection = connected(&client).unwrap();
    for number in 0..50 {
        connection.set::<_, _, ()>(format!("before{number}"), number).unwrap();
    }
    cluster.kill(&leader);
    for number in 0..50 {
        eventually("a write is acknowledged again", || {
            match connection.set::<_, _, ()>(format!("after{number}"), number) {
                Ok(()) => Some(()),
                Err(_) => {
                    connection = connected(&client)?;
                    None
                }
            }
        });
    }
    for number in 0..50 {
        for name in ["before", "after"] {
            assert_eq!(connection.get::<_, i64>(format!("{name}{number}")).unwrap(), number);
        }
    }
}

#[test]
fn only_those_who_know_the_map_are_told_moved_and_only_for_its_keys() {
    let cluster = Cluster::start(&THREE);
    let (leader, other) = leader_and_other(&cluster);
    let mut plain = Client::of(&other);
    assert!(plain.set("k", "plain"), "handed on");
    let mut aware = Client::of(&other);
    let told = slots(&mut aware);
    assert_eq!(told.len(), 1);
    assert_eq!((told[0].0, told[0].1, told[0].2.len()), (0, 16383, 3));
    assert_eq!(told[0].2[0], leader.client);
    // The same connection from now on.
    let elsewhere = Some(leader.client.clone());
    assert_eq!(moved_to(aware.call("SET", &["k", "moved"])), elsewhere);
    assert_eq!(moved_to(aware.call("TF.WITH", &["--", "SET", "k", "moved"])), elsewhere);
    assert_eq!(moved_to(aware.call("GET", &["k"])), elsewhere);
    assert_eq!(moved_to(aware.call("MGET", &["k", "l"])), elsewhere);
    assert!(aware.set("user:k", "another keyspace"), "handed on");
    let both: Vec<Option<String>> = aware.call("MGET", &["k", "user:k"]).unwrap();
    assert_eq!(both[0].as_deref(), Some("plain"), "in two keyspaces: put together here");
    assert!(aware.call::<i64>("DBSIZE", &[]).unwrap() >= 2);
    // A reader at followers: what the keyspace's leader has to answer is asked of it.
    aware.call::<()>("READONLY", &[]).unwrap();
    assert_eq!(aware.get("k").unwrap().as_deref(), Some("plain"));
    assert_eq!(moved_to(aware.call("SET", &["k", "moved"])), elsewhere);
    aware.call::<()>("READWRITE", &[]).unwrap();
    assert_eq!(moved_to(aware.call("GET", &["k"])), elsewhere);
    aware.call::<()>("RESET", &[]).unwrap();
    assert!(aware.set("k", "plain again"));
    // Whoever says READONLY is a cluster-aware client, whatever connection has asked for the map.
    let mut reader = Client::of(&other);
    reader.call::<()>("READONLY", &[]).unwrap();
    assert_eq!(moved_to(reader.call("SET", &["k", "moved"])), elsewhere);
    assert_eq!(plain.get("k").unwrap().as_deref(), Some("plain again"), "none of its business");
}

#[test]
fn while_nobody_leads_the_map_names_who_lives() {
    let cluster = Cluster::start(&THREE);
    let (leader, other) = leader_and_other(&cluster);
    let mut client = Client::of(&other);
    let info = |client: &mut Client| client.call::<String>("CLUSTER", &["INFO"]).unwrap();
    assert!(info(&mut client).starts_with("cluster_state:ok\r\n"), "{}", info(&mut client));
    for node in cluster.nodes().iter().filter(|node| node.name != other.name) {
        cluster.kill(node);
    }
    eventually("the node notices that nobody leads", || {
        info(&mut client).starts_with("cluster_state:fail\r\n").then_some(())
    });
    assert!(info(&mut client).contains("cluster_slots_fail:16384\r\n"));
    eventually("only the node that lives is named", || {
        let told = slots(&mut client);
        assert_eq!((told[0].0, told[0].1), (0, 16383), "no slot is ever missing");
        (told[0].2 == [other.client.as_str()]).then_some(())
    });
    let nodes: String = client.call("CLUSTER", &["NODES"]).unwrap();
    let line = |node: &Node| nodes.lines().find(|line| line.contains(&node.client)).unwrap();
    assert!(line(&other).contains(" myself,master "), "{nodes}");
    assert!(line(&leader).contains(",fail ") && line(&leader).contains(" disconnected"), "{nodes}");
    // Nobody better is known, so nobody is named: the command waits here for a leader.
    let error = client.call::<()>("SET", &["k", "v"]).unwrap_err();
    assert_eq!(error.code(), Some("CLUSTERDOWN"), "{error}");
}

#[test]
fn partitions_and_readers_at_followers() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("keyspaces.toml");
    let table = "[[keyspace]]\nprefix = \"\"\nmodel = \"leader-follower\"\npartitions = 4\n\
                 reads = \"follower\"\n";
    std::fs::write(&file, table).unwrap();
    let mut options = THREE.to_vec();
    options.extend(["--config", file.to_str().unwrap()]);
    let cluster = Cluster::start(&options);
    let nodes = cluster.nodes();
    let mut client = Client::of(&nodes[0]);
    let told = eventually("every node knows who leads every partition", || {
        let ok = |node| -> Option<bool> {
            let info: String = Client::of(node).call("CLUSTER", &["INFO"]).ok()?;
            Some(info.starts_with("cluster_state:ok"))
        };
        nodes.iter().all(|node| ok(node) == Some(true)).then(|| slots(&mut client))
    });
    let mut plain = Client::of(&nodes[0]);
    let ranges: Vec<(i64, i64)> = told.iter().map(|(first, last, _)| (*first, *last)).collect();
    assert_eq!(ranges, [(0, 4095), (4096, 8191), (8192, 12287), (12288, 16383)]);
    for number in 0..40 {
        let key = format!("key {number}");
        let slot: i64 = client.call("CLUSTER", &["KEYSLOT", &key]).unwrap();
        let share = told.iter().find(|(first, last, _)| (*first..=*last).contains(&slot)).unwrap();
        let leader = &share.2[0];
        assert!(plain.set(&key, "v"), "any node takes it");
        for node in &nodes {
            let mut aware = Client::of(node);
            aware.call::<()>("READONLY", &[]).unwrap();
            let elsewhere = (*leader != node.client).then(|| leader.clone());
            assert_eq!(moved_to(aware.call("SET", &[&key, "v"])), elsewhere, "{key} at {node:?}");
            eventually("a follower answers", || aware.get(&key).unwrap());
        }
    }
    let shards: Vec<Value> = client.call("CLUSTER", &["SHARDS"]).unwrap();
    assert_eq!(shards.len(), 4);
}

#[test]
fn a_rehearsal_counts_the_silence_of_a_stopped_leader() {
    let cluster = Cluster::start(&THREE);
    let rehearse = |timeout: &str, asked: &Node| {
        let output = run(&["rehearse", "--timeout", timeout, "--addr", &asked.client]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    // On a busy machine another node may lead by the time that the first one is stopped.
    eventually("both followers have noted a leader's silence", || {
        let (leader, other) = leader_and_other(&cluster);
        support::signal("-STOP", leader.pid);
        let stopped = Instant::now();
        while stopped.elapsed() < Duration::from_millis(450) {
            std::thread::sleep(Duration::from_millis(10));
        }
        support::signal("-CONT", leader.pid);
        let text = rehearse("210ms", &other);
        (!text.contains("at most 0 needless")).then_some(())
    });
    let (_, other) = leader_and_other(&cluster);
    let text = rehearse("1000s", &other);
    assert!(text.contains("at most 0 needless") && text.contains("at 600 ms (now)"), "{text}");
    for wrong in ["1h", "20ms"] {
        let output = run(&["rehearse", "--timeout", wrong, "--addr", &other.client]);
        assert!(!output.status.success(), "{wrong}");
    }
}
