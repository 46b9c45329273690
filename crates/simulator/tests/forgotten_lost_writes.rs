//! A report of a lost write has copies on several nodes. What an operator forgets does not come
//! back from any of them; and a list that is long can be read in parts.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use replication::keyspace::{Acks, Failover, LeaderFollower, Model};
use replication::leader_follower::Group;
use replication::{DatacenterId, NodeId, Reply};
use simulator::cluster::by_hand::{MS, PATIENCE_US};
use simulator::cluster::{Cluster, Plan};
use simulator::options::{cluster_of, group};

/// Lost with the first leader: so many.
const LOST: u64 = 5;

fn see<T>(cluster: &mut Cluster, look: impl Fn(&Cluster) -> Option<T>) -> T {
    cluster.within(PATIENCE_US, look).expect("it comes to be")
}

/// Five nodes, whose first leader and one follower had writes that the others did not elect: the
/// cluster, the one that led, its witness, and the others.
fn after_a_failover() -> (Cluster, NodeId, NodeId, Vec<NodeId>) {
    let group = group(5, Acks::Async, Failover::Available);
    let model = LeaderFollower { home: DatacenterId(0), partitions: 1, group };
    let plan = Plan::calm(cluster_of(&["eu"], 5, Model::LeaderFollower(model), 1));
    let mut cluster = plan.build(1);
    let old = see(&mut cluster, Cluster::leader);
    see(&mut cluster, |cluster| cluster.all_disks_count().then_some(()));
    let mut others = cluster.others(old);
    let witness = others.remove(0);
    for other in &others {
        cluster.cut_between(old, *other, true);
        cluster.cut_between(witness, *other, true);
    }
    let connection = cluster.connect(old);
    let before = cluster.last_index(old);
    for number in 0..LOST {
        cluster.send(connection, &["SET", &format!("k{number}"), "lost"]);
    }
    see(&mut cluster, |cluster| (cluster.last_index(witness) >= before + LOST).then_some(()));
    let rest = others.clone();
    let new = see(&mut cluster, |cluster| {
        cluster.node_where(|group| group.is_serving() && group.epoch() > 1)
    });
    assert!(rest.contains(&new));
    for other in &others {
        cluster.cut_between(old, *other, false);
        cluster.cut_between(witness, *other, false);
    }
    see(&mut cluster, |cluster| (reported(cluster, old) == LOST).then_some(()));
    see(&mut cluster, |cluster| {
        let keeps = |group: &Group| group.kept_lost() as u64 == LOST;
        cluster.group(witness).is_some_and(keeps).then_some(())
    });
    see(&mut cluster, |cluster| cluster.group(new)?.unheard().next().is_none().then_some(()));
    (cluster, old, witness, others)
}

fn reported(cluster: &Cluster, node: NodeId) -> u64 {
    cluster.group(node).map_or(0, |group| group.reported_counts().all())
}

fn text(reply: &Reply<'_>) -> String {
    match reply {
        Reply::Bulk(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        other => format!("{other:?}"),
    }
}

/// What a list has: kinds and ids, and after which id it goes on.
fn list(cluster: &mut Cluster, node: NodeId, words: &[&str]) -> (Vec<String>, Option<String>) {
    let words: Vec<&str> = ["TF.LOST", "LIST"].iter().chain(words).copied().collect();
    let reply = cluster.ask(node, &words).expect("an answer");
    let Reply::Array(elements) = reply else { unreachable!("{reply:?}") };
    let (mut ids, mut next) = (Vec::new(), None);
    for element in elements {
        let Reply::Array(fields) = element else { unreachable!("{element:?}") };
        let field = |name: &str| {
            let mut pairs = fields.chunks_exact(2);
            pairs.find(|pair| text(&pair[0]) == name).map(|pair| text(&pair[1]))
        };
        match field("kind").as_deref() {
            Some("lost-write") => ids.extend(field("id")),
            Some("more") => next = field("after"),
            _ => {}
        }
    }
    (ids, next)
}

#[test]
fn a_forgotten_report_does_not_come_back_from_a_witness_that_was_away() {
    let (mut cluster, old, witness, others) = after_a_failover();
    let (ids, _) = list(&mut cluster, others[0], &[]);
    assert_eq!(ids.len() as u64, LOST);
    cluster.crash(witness, false);
    // It is known to be away before it is asked.
    cluster.pass(500 * MS);
    for id in &ids {
        let reply = cluster.ask(others[0], &["TF.LOST", "FORGET", id]).expect("an answer");
        assert!(format!("{reply:?}").contains("PARTIAL"), "{reply:?}");
    }
    // Its leader can tell no more, so the witness would.
    cluster.crash(old, false);
    cluster.wipe(old);
    cluster.start(old);
    cluster.start(witness);
    see(&mut cluster, |cluster| cluster.all_disks_count().then_some(()));
    for other in &others {
        cluster.crash(*other, false);
        cluster.start(*other);
    }
    see(&mut cluster, |cluster| (reported(cluster, witness) == LOST).then_some(()));
    see(&mut cluster, Cluster::leader);
    assert_eq!(list(&mut cluster, others[0], &[]).0, Vec::<String>::new());
    cluster.pass(100 * MS);
    assert_eq!(reported(&cluster, witness), 0, "a list tells it");
    cluster.crash(witness, false);
    cluster.start(witness);
    see(&mut cluster, |cluster| cluster.group(witness).map(|_| ()));
    assert_eq!(reported(&cluster, witness), 0, "also after a restart");
    let reply = cluster.ask(others[1], &["TF.LOST", "SHOW", &ids[0]]).expect("an answer");
    assert!(reply.is_error(), "{reply:?}");
}

#[test]
fn a_long_list_is_read_in_parts() {
    let (mut cluster, _, _, others) = after_a_failover();
    let (all, next) = list(&mut cluster, others[0], &[]);
    assert_eq!(next, None);
    let (mut parts, mut after) = (Vec::new(), None::<String>);
    loop {
        let words = match &after {
            Some(after) => vec!["k", "COUNT", "2", "AFTER", after],
            None => vec!["COUNT", "2"],
        };
        let (ids, next) = list(&mut cluster, others[1], &words);
        assert!(ids.len() <= 2, "{ids:?}");
        parts.extend(ids);
        let Some(next) = next else { break };
        after = Some(next);
    }
    assert_eq!(parts, all);
}

#[test]
fn a_list_under_a_prefix_that_nothing_has_is_an_error() {
    let (mut cluster, _, _, others) = after_a_failover();
    let ask = |cluster: &mut Cluster, words: &[&str]| {
        format!("{:?}", cluster.ask(others[0], words).expect("an answer"))
    };
    let lost = ask(&mut cluster, &["TF.LOST", "LIST", "zzz"]);
    let degraded = ask(&mut cluster, &["TF.DEGRADED", "LIST", "zzz"]);
    assert!(lost.contains("no keyspace has the prefix"), "{lost}");
    assert_eq!(lost, degraded);
    assert_eq!(list(&mut cluster, others[0], &["k3"]).0.len(), 1);
    for wrong in [vec!["COUNT", "0"], vec!["COUNT", "x"], vec!["AFTER", "x"], vec!["SOME", "1"]] {
        let words: Vec<&str> = ["TF.LOST", "LIST"].into_iter().chain(wrong).collect();
        assert!(ask(&mut cluster, &words).contains("ERR"), "{words:?}");
    }
}
