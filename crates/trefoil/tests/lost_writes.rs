//! Real processes: an asynchronous leader takes writes that no follower gets, and comes back after
//! a failover. What it had acknowledged is reported, and can be brought back.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use redis::Value;
use std::collections::BTreeMap;
use support::{Client, Cluster, Node, eventually, signal};

const KEYSPACES: &str =
    "[[keyspace]]\nprefix = \"\"\nmodel = \"leader-follower\"\nacks = \"async\"\n";

/// A report as `TF.LOST LIST` shows it: names and values in turns.
fn fields(report: &Value) -> BTreeMap<String, Value> {
    let Value::Array(flat) = report else { panic!("{report:?}") };
    flat.chunks_exact(2).map(|pair| (text(&pair[0]), pair[1].clone())).collect()
}

fn text(value: &Value) -> String {
    match value {
        Value::BulkString(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        Value::Int(number) => number.to_string(),
        Value::Nil => "nil".into(),
        other => panic!("{other:?}"),
    }
}

/// The lost writes, by key.
fn lost(client: &mut Client) -> BTreeMap<String, BTreeMap<String, Value>> {
    let Ok(Value::Array(reports)) = client.call::<Value>("TF.LOST", &["LIST"]) else {
        return BTreeMap::new();
    };
    let reports = reports.iter().map(fields).filter(|report| text(&report["kind"]) == "lost-write");
    reports.map(|report| (text(&report["key"]), report)).collect()
}

/// The leader acknowledges writes that its followers do not get: they stand still, and then they
/// are gone with all that had reached their machine. Returns what was acknowledged.
fn write_alone(cluster: &Cluster, leader: &Node, followers: &[Node]) -> Vec<String> {
    let mut client = Client::of(leader);
    assert!(client.set("kept", "before"));
    assert_eq!(client.call::<i64>("WAIT", &["2", "10000"]).unwrap(), 2);
    for follower in followers {
        signal("-STOP", follower.pid);
    }
    let keys = ["kept", "lost:1", "lost:2", "lost:3"];
    let done = keys.iter().take_while(|key| client.set(key, &format!("lost {key}")));
    let done = done.map(|key| (*key).to_owned()).collect();
    for follower in followers {
        cluster.kill(follower);
    }
    done
}

#[test]
fn what_an_asynchronous_leader_had_acknowledged_alone_is_reported_and_brought_back() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("keyspaces.toml");
    std::fs::write(&file, KEYSPACES).unwrap();
    let file = file.display().to_string();
    let cluster =
        Cluster::start(&["--datacenters", "eu", "--nodes", "3", "--config", file.as_str()]);
    let nodes = cluster.nodes();
    let leader = eventually("a leader", || cluster.leader(&nodes[0], ""));
    let followers: Vec<Node> = nodes.into_iter().filter(|n| n.name != leader.name).collect();

    let done = write_alone(&cluster, &leader, &followers);
    assert!(done.len() > 1, "the leader takes writes alone for a moment: {done:?}");
    signal("-STOP", leader.pid);
    for follower in &followers {
        cluster.restart(&follower.name);
    }
    let follower = cluster.node(&followers[0].name);
    let mut client = Client::of(&follower);
    eventually("the followers go on without the leader", || {
        client.set("kept", "after").then_some(())
    });
    assert_eq!(client.get(&done[1]).unwrap(), None, "the followers never had it");

    // The old leader finds a newer one, cuts what only it has, and tells.
    signal("-CONT", leader.pid);
    let reports = eventually("every acknowledged write that is lost is reported", || {
        let reports = lost(&mut client);
        done.iter().all(|key| reports.contains_key(key)).then_some(reports)
    });
    for key in &done {
        let report = &reports[key];
        assert_eq!(text(&report["status"]), "acknowledged", "{report:?}");
        assert_eq!(text(&report["level"]), "durable");
        assert_eq!(text(&report["leader"]), leader.name);
        assert_eq!(text(&report["new"]), format!("lost {key}"));
        assert!(text(&report["client"]).starts_with("127.0.0.1:"), "{report:?}");
    }
    let id = |key: &str| text(&reports[key]["id"]);
    let refused = client.call::<()>("TF.LOST", &["REPLAY", &id("kept")]).unwrap_err();
    assert_eq!(refused.code(), Some("CONFLICT"), "{refused}");
    let again = &done[1];
    client.call::<()>("TF.LOST", &["REPLAY", &id(again)]).unwrap();
    assert_eq!(client.get(again).unwrap(), Some(format!("lost {again}")));
    client.call::<()>("TF.LOST", &["FORGET", &id("kept")]).unwrap();

    // Also after the node that reported them has started anew.
    let leader = cluster.node(&leader.name);
    cluster.kill(&leader);
    cluster.restart(&leader.name);
    let returned = cluster.node(&leader.name);
    eventually("the old leader is back", || cluster.status(&returned));
    let left = eventually("the other reports", || {
        let reports = lost(&mut client);
        (reports.len() == done.len() - 2).then_some(reports)
    });
    assert!(!left.contains_key("kept") && !left.contains_key(again.as_str()), "{left:?}");
    assert_eq!(client.get("kept").unwrap(), Some("after".into()));
}
