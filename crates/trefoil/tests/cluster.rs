//! Real processes: a client on every node, nodes that are killed, clusters that come back.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::collections::BTreeMap;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use support::{Client, Cluster, DEADLINE, Node, eventually, is_running, run, trefoil};

const PREFIXES: [&str; 4] = ["user:", "cart:", "session:", ""];

/// Waits until a node says that a key has a value.
fn wait_for_value(client: &mut Client, key: &str, value: &str) {
    eventually(&format!("{key} = {value}"), || {
        client.get(key).ok().flatten().filter(|found| found == value)
    });
}

/// Writes until it is acknowledged; each try has a value of its own.
fn set_at_last(client: &mut Client, key: &str) -> String {
    let mut tries = 0;
    eventually(&format!("SET {key} is acknowledged"), || {
        tries += 1;
        let value = format!("{key} try {tries}");
        client.set(key, &value).then_some(value)
    })
}

#[test]
fn a_client_on_every_node_reads_and_writes_every_model() {
    let mut cluster = Cluster::start(&[]);
    let nodes = cluster.nodes();
    assert_eq!(nodes.len(), 6);
    let mut acknowledged = BTreeMap::new();
    for (prefix, node) in PREFIXES.iter().flat_map(|p| nodes.iter().map(move |n| (p, n))) {
        let (mut client, key) = (Client::of(node), format!("{prefix}by {}", node.name));
        let value = set_at_last(&mut client, &key);
        assert_eq!(client.get(&key).unwrap().as_ref(), Some(&value), "{key} where it was written");
        acknowledged.insert(key, value);
    }
    // Between datacenters it takes a moment.
    expect_everywhere(&nodes, &acknowledged);
    counters_and_refusals(&nodes);
    cluster.stop();
    assert!(!cluster.directory().join("dev.json").exists());
}

fn counters_and_refusals(nodes: &[Node]) {
    for prefix in PREFIXES {
        let key = format!("{prefix}counter");
        for node in nodes {
            Client::of(node).call::<i64>("INCR", &[&key]).unwrap();
        }
        for node in nodes {
            wait_for_value(&mut Client::of(node), &key, &nodes.len().to_string());
        }
    }
    let mut client = Client::of(&nodes[4]);
    for key in ["cart:x", "session:x"] {
        let error = client.call::<i64>("SETNX", &[key, "1"]).unwrap_err();
        assert_eq!(error.code(), Some("NEEDCOORD"), "{error}");
    }
    let values: Vec<Option<String>> =
        client.call("MGET", &["user:counter", "nobody", "session:counter"]).unwrap();
    assert_eq!(values, [Some("6".to_owned()), None, Some("6".to_owned())]);
    let with = ["W", "3", "R", "1", "--", "SET", "session:w", "all three"];
    client.call::<()>("TF.WITH", &with).unwrap();
    let with = ["W", "1", "R", "3", "--", "GET", "session:w"];
    assert_eq!(client.call::<String>("TF.WITH", &with).unwrap(), "all three");
    let error = client.call::<()>("NOSUCH", &["a"]).unwrap_err();
    assert!(error.to_string().contains("unknown command"), "{error}");
}

#[test]
fn other_clients_work_unchanged() {
    let cluster = Cluster::start(&["--nodes", "1"]);
    let nodes = cluster.nodes();
    let port = |node: &Node| node.client.rsplit(':').next().unwrap().to_owned();
    set_at_last(&mut Client::of(&nodes[0]), "user:warm");
    let output = Command::new("redis-cli")
        .args(["-p", &port(&nodes[1]), "SET", "user:1", "Ada"])
        .output()
        .expect("this test needs redis-cli (Debian: redis-tools)");
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "OK");
    let script = "import sys, redis\n\
        for protocol in (2, 3):\n    \
            r = redis.Redis(port=int(sys.argv[1]), protocol=protocol, decode_responses=True)\n    \
            assert r.get('user:1') == 'Ada'\n    \
            assert r.set('k', 'v', ex=100) and 90 < r.ttl('k') <= 100\n    \
            p = r.pipeline(transaction=False)\n    \
            [p.set(f'user:{i}', i) for i in range(100)]\n    \
            [p.get(f'user:{i}') for i in range(100)]\n    \
            assert p.execute()[100:] == [str(i) for i in range(100)]\n    \
            r.set('user:1', 'Ada')\n";
    let output = Command::new("python3")
        .args(["-c", script, &port(&nodes[0])])
        .output()
        .expect("this test needs python3 with redis-py (Debian: python3-redis)");
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "python3 with redis-py (Debian: python3-redis):\n{text}");
}

#[test]
fn killing_the_leader_loses_no_acknowledged_write() {
    let cluster = Cluster::start(&[]);
    let nodes = cluster.nodes();
    let leader = eventually("a leader of user:", || cluster.leader(&nodes[5], "user:"));
    let survivor = nodes.iter().find(|node| node.name != leader.name).unwrap();
    let mut client = Client::of(survivor);
    let mut acknowledged = BTreeMap::new();
    for number in 0..200 {
        let key = format!("user:{number}");
        if client.set(&key, "before") {
            acknowledged.insert(key, "before".to_owned());
        }
    }
    assert!(!acknowledged.is_empty());
    cluster.kill(&leader);
    let deadline = Instant::now() + DEADLINE;
    let mut after = 0;
    for number in 1000.. {
        assert!(Instant::now() < deadline, "writes do not go on after the leader was killed");
        let key = format!("user:{number}");
        if client.set(&key, "after") {
            acknowledged.insert(key, "after".to_owned());
            after += 1;
        }
        if after == 50 {
            break;
        }
    }
    let new = eventually("a new leader", || {
        cluster.leader(survivor, "user:").filter(|new| new.name != leader.name)
    });
    assert!(is_running(new.pid));
    for number in 0..20 {
        let key = format!("session:{number}");
        acknowledged.insert(key.clone(), set_at_last(&mut client, &key));
    }
    expect_all(survivor, &acknowledged);

    cluster.restart(&leader.name);
    let returned = cluster.node(&leader.name);
    assert_ne!(returned.pid, leader.pid);
    eventually("the old leader is back", || cluster.status(&returned));
    expect_all(&returned, &acknowledged);
    let directory = cluster.directory().display().to_string();
    let again = run(&["dev", "--restart", &leader.name, "--data", &directory]);
    assert!(String::from_utf8_lossy(&again.stderr).contains("is running"));
}

/// Every acknowledged write can be read at a node.
fn expect_all(node: &Node, acknowledged: &BTreeMap<String, String>) {
    let mut client = Client::of(node);
    for (key, value) in acknowledged {
        let found = eventually(&format!("GET {key}"), || client.get(key).ok());
        assert_eq!(found.as_ref(), Some(value), "{key} at {}", node.name);
    }
}

fn write_everywhere(nodes: &[Node], round: &str) -> BTreeMap<String, String> {
    let mut acknowledged = BTreeMap::new();
    for (node, prefix) in nodes.iter().flat_map(|n| PREFIXES.iter().map(move |p| (n, p))) {
        let mut client = Client::of(node);
        for number in 0..10 {
            let key = format!("{prefix}{round} {} {number}", node.name);
            let value = set_at_last(&mut client, &key);
            acknowledged.insert(key, value);
        }
    }
    acknowledged
}

/// Every acknowledged write can be read in the end, at every node.
fn expect_everywhere(nodes: &[Node], acknowledged: &BTreeMap<String, String>) {
    for node in nodes {
        let mut client = Client::of(node);
        for (key, value) in acknowledged {
            wait_for_value(&mut client, key, value);
        }
    }
}

#[test]
fn killing_all_nodes_loses_no_acknowledged_write() {
    let mut cluster = Cluster::start(&[]);
    let mut acknowledged = write_everywhere(&cluster.nodes(), "first");
    for node in cluster.nodes() {
        cluster.kill(&node);
    }
    for node in cluster.nodes() {
        cluster.restart(&node.name);
    }
    expect_everywhere(&cluster.nodes(), &acknowledged);

    acknowledged.extend(write_everywhere(&cluster.nodes(), "second"));
    cluster.kill_dev();
    cluster.resume();
    expect_everywhere(&cluster.nodes(), &acknowledged);
}

/// Starts a node that must refuse to, and returns what it says.
fn refusal(arguments: &[&str]) -> String {
    let mut node = trefoil()
        .arg("serve")
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let deadline = Instant::now() + DEADLINE;
    while node.try_wait().unwrap().is_none() {
        if Instant::now() > deadline {
            node.kill().unwrap();
            panic!("{arguments:?} is not refused");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let output = node.wait_with_output().unwrap();
    assert!(!output.status.success());
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_data_directory_of_another_node_or_with_other_keyspaces_is_refused() {
    let mut cluster = Cluster::start(&["--datacenters", "eu", "--nodes", "2"]);
    let value = set_at_last(&mut Client::of(&cluster.nodes()[1]), "user:1");
    cluster.stop();
    let file = cluster.directory().join("eu-1/trefoil.toml");
    let text = refusal(&["--config", file.to_str().unwrap(), "--node", "eu-2"]);
    assert!(text.contains("eu-1") || text.contains("another node"), "{text}");

    let changed = std::fs::read_to_string(&file).unwrap();
    let changed = changed.replace("replicas = 2", "replicas = 1").replace("semi-sync", "async");
    std::fs::write(&file, changed).unwrap();
    let text = refusal(&["--config", file.to_str().unwrap()]);
    assert!(text.contains("user:"), "{text}");

    cluster.resume();
    let mut client = Client::of(&cluster.nodes()[0]);
    wait_for_value(&mut client, "user:1", &value);
}

/// The segments of a node's log, in order.
fn segments(cluster: &Cluster, node: &str) -> Vec<std::path::PathBuf> {
    let log = eventually("a node's log", || {
        let directory = cluster.directory().join(node);
        let found = std::fs::read_dir(&directory).ok()?.flatten().map(|entry| entry.path());
        found.map(|path| path.join("log")).chain([directory.join("log")]).find(|p| p.is_dir())
    });
    let mut paths: Vec<_> =
        std::fs::read_dir(log).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}

#[test]
fn a_damaged_log_is_repaired_from_the_other_nodes_by_itself() {
    let cluster = Cluster::start(&["--datacenters", "eu", "--nodes", "3"]);
    let nodes = cluster.nodes();
    let acknowledged = write_everywhere(&nodes, "before");
    let leader = eventually("a leader", || cluster.leader(&nodes[0], "user:"));
    let victim = nodes.iter().find(|node| node.name != leader.name).unwrap().clone();
    let incarnation = |node: &Node| {
        let status = cluster.status(node)?;
        Some(status["incarnation"].as_str()?.to_owned())
    };
    let before = incarnation(&victim).unwrap();
    cluster.kill(&victim);

    // A bit in the middle of what had been synced: in a batch's first record.
    let segment = segments(&cluster, &victim.name).swap_remove(0);
    let mut bytes = std::fs::read(&segment).unwrap();
    let mut batches: Vec<usize> = (0..bytes.len()).step_by(512).collect();
    batches.retain(|at| bytes[*at..].starts_with(b"TFLB"));
    bytes[batches[batches.len() / 2] + 60] ^= 4;
    std::fs::write(&segment, &bytes).unwrap();
    cluster.restart(&victim.name);

    let victim = cluster.node(&victim.name);
    let after = eventually("the node answers", || incarnation(&victim));
    assert_ne!(before, after, "it counts as a node with a new disk");
    let aside = segments(&cluster, &victim.name);
    let is_aside = |path: &std::path::PathBuf| {
        path.file_name().unwrap().to_str().unwrap().starts_with("damaged-")
    };
    assert!(aside.iter().any(is_aside), "{aside:?}");
    expect_everywhere(&cluster.nodes(), &acknowledged);
    eventually("the other nodes have admitted it", || {
        let status = cluster.status(&victim)?;
        let keyspaces = status["keyspaces"].as_array()?;
        let roles = keyspaces.iter().flat_map(|keyspace| keyspace["groups"].as_array().unwrap());
        roles.into_iter().all(|group| group["role"] != "learner").then_some(())
    });
    // Its vote counts: without it there would be no majority.
    let other = nodes.iter().find(|n| n.name != victim.name && n.name != leader.name).unwrap();
    cluster.kill(other);
    let nodes: Vec<Node> =
        cluster.nodes().into_iter().filter(|node| node.name != other.name).collect();
    set_at_last(&mut Client::of(&nodes[0]), "user:after");
}
