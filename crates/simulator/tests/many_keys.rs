//! Commands on more keys than may be uncommitted at a time.
#![allow(clippy::unwrap_used, clippy::panic)]

use replication::keyspace::{Acks, Failover, LeaderFollower, Model};
use replication::mutant::Mutants;
use replication::node::{Limits, Timing};
use replication::{DatacenterId, NodeId, Reply};
use simulator::cluster::{Cluster, Outside, Plan};
use simulator::disk::Pace;
use simulator::network::Weather;
use simulator::options::{cluster_of, group};
use simulator::trace::Trace;

const PATIENCE_US: u64 = 5_000_000;
const UNCOMMITTED_MAX: usize = 4;
const KEYS: usize = 10 * UNCOMMITTED_MAX;
const NODES: [NodeId; 3] = [NodeId(0), NodeId(1), NodeId(2)];

fn cluster() -> Cluster {
    let home = DatacenterId(0);
    let group = group(3, Acks::Majority, Failover::Safe);
    let model = Model::LeaderFollower(LeaderFollower { home, partitions: 1, group });
    let plan = Plan {
        cluster: cluster_of(&["eu"], 3, model, 1),
        timing: Timing::default(),
        limits: Limits { uncommitted_entries_max: UNCOMMITTED_MAX, ..Limits::default() },
        mutants: Mutants::default(),
        weather: Weather::calm(),
        pace: Pace::quick(),
    };
    Cluster::new(plan, 1, Trace::new(false))
}

fn ask(cluster: &mut Cluster, node: NodeId, words: Vec<String>) -> Option<Reply<'static>> {
    let connection = cluster.connect(node);
    cluster.request(connection, words);
    let limit_us = cluster.now_us + PATIENCE_US;
    while cluster.now_us < limit_us {
        match cluster.next(limit_us) {
            Some(Outside::Reply { connection: on, reply, .. }) if on == connection => {
                return Some(reply);
            }
            _ => {}
        }
    }
    None
}

/// A command of so many words, twice each where it sets them.
fn command(name: &str, keys: usize, sets: bool) -> Vec<String> {
    let mut words = vec![name.to_string()];
    for number in 0..keys {
        words.push(format!("key{number}"));
        words.extend(sets.then(|| "value".to_string()));
    }
    words
}

#[test]
fn a_del_of_any_length_is_done_whole_by_whichever_node_is_asked() {
    for name in ["DEL", "UNLINK"] {
        for node in NODES {
            let mut cluster = cluster();
            let limit_us = cluster.now_us + PATIENCE_US;
            while ask(&mut cluster, node, command("MSET", KEYS, true)) != Some(Reply::Ok) {
                assert!(cluster.now_us < limit_us, "nobody leads");
            }
            // Some that there are not, and one of them twice.
            let mut words = command(name, KEYS + 5, false);
            words.push("key0".to_string());
            let done = ask(&mut cluster, node, words);
            assert_eq!(done, Some(Reply::Integer(KEYS as i64)), "{name} at {node:?}");
            let left = ask(&mut cluster, node, vec!["DBSIZE".to_string()]);
            assert_eq!(left, Some(Reply::Integer(0)));
            let again = ask(&mut cluster, node, command(name, KEYS, false));
            assert_eq!(again, Some(Reply::Integer(0)));
        }
    }
}
