//! Commands on more keys than may be uncommitted at a time.
#![allow(clippy::unwrap_used, clippy::panic)]

use replication::Reply;
use replication::keyspace::{Acks, Failover};
use replication::node::Limits;
use simulator::cluster::by_hand::PATIENCE_US;
use simulator::cluster::{Cluster, Plan};
use simulator::options::group;

const UNCOMMITTED_MAX: usize = 4;
const KEYS: usize = 10 * UNCOMMITTED_MAX;

fn cluster() -> Cluster {
    let plan = Plan::of_three(group(3, Acks::Majority, Failover::Safe));
    let limits = Limits { uncommitted_entries_max: UNCOMMITTED_MAX, ..Limits::default() };
    Plan { limits, ..plan }.build(1)
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
        for node in cluster().nodes() {
            let mut cluster = cluster();
            let limit_us = cluster.now_us + PATIENCE_US;
            while cluster.ask(node, &command("MSET", KEYS, true)) != Some(Reply::Ok) {
                assert!(cluster.now_us < limit_us, "nobody leads");
            }
            // Some that there are not, and one of them twice.
            let mut words = command(name, KEYS + 5, false);
            words.push("key0".to_string());
            let done = cluster.ask(node, &words);
            assert_eq!(done, Some(Reply::Integer(KEYS as i64)), "{name} at {node:?}");
            let left = cluster.ask(node, &["DBSIZE"]);
            assert_eq!(left, Some(Reply::Integer(0)));
            let again = cluster.ask(node, &command(name, KEYS, false));
            assert_eq!(again, Some(Reply::Integer(0)));
        }
    }
}
