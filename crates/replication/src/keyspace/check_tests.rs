//! Each contradiction by itself.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::keyspace::{Conflicts, Failover};
use alloc::string::ToString;
use alloc::vec;

const EU: DatacenterId = DatacenterId(0);
const US: DatacenterId = DatacenterId(1);

fn members() -> Vec<Member> {
    let member = |name: &str, datacenter| Member { name: name.to_string(), datacenter };
    vec![
        member("us-1", US),
        member("us-2", US),
        member("us-3", US),
        member("eu-1", EU),
        member("eu-2", EU),
        member("eu-3", EU),
    ]
}

fn datacenters() -> Vec<String> {
    vec!["eu".to_string(), "us".to_string()]
}

fn try_six_nodes(keyspaces: Vec<(&str, Model)>) -> Result<Cluster, Vec<Contradiction>> {
    let keyspaces = keyspaces.into_iter().map(|(prefix, model)| (prefix.into(), model)).collect();
    Cluster::new("test".to_string(), 0xFEED_BEEF, datacenters(), members(), keyspaces)
}

/// Two datacenters, eu and us, with three nodes each.
pub(crate) fn six_nodes(keyspaces: Vec<(&str, Model)>) -> Cluster {
    try_six_nodes(keyspaces).unwrap()
}

fn leader_follower(change: impl Fn(&mut LeaderFollower)) -> Model {
    let mut options = LeaderFollower::defaults(EU, 3);
    change(&mut options);
    Model::LeaderFollower(options)
}

pub(crate) fn multi_leader(change: impl Fn(&mut MultiLeader)) -> Model {
    let mut options = MultiLeader {
        datacenters: vec![EU, US],
        partitions: 1,
        group: GroupOptions::defaults(3),
        conflicts: Conflicts::LastWriteWins,
    };
    change(&mut options);
    Model::MultiLeader(options)
}

fn leaderless(change: impl Fn(&mut Leaderless)) -> Model {
    let mut options = Leaderless::defaults(6);
    change(&mut options);
    Model::Leaderless(options)
}

/// The model is refused for this option alone, with this sentence.
#[track_caller]
fn refused(model: Model, option: &str, text: &str) {
    let found = try_six_nodes(vec![("p:", model)]).unwrap_err();
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0].prefix.as_deref(), Some(&b"p:"[..]));
    assert_eq!((found[0].option, found[0].text.as_str()), (option, text));
}

#[test]
fn members_and_keyspaces_are_sorted_and_the_empty_prefix_is_there() {
    let cluster = six_nodes(vec![("user:", leader_follower(|_| ())), ("a", leaderless(|_| ()))]);
    let names: Vec<&str> = cluster.members.iter().map(|member| member.name.as_str()).collect();
    assert_eq!(names, ["eu-1", "eu-2", "eu-3", "us-1", "us-2", "us-3"]);
    let prefixes: Vec<&[u8]> = cluster.keyspaces.iter().map(|k| k.prefix.as_slice()).collect();
    assert_eq!(prefixes, [&b""[..], b"a", b"user:"]);
    assert_eq!(cluster.keyspaces[0].model, leader_follower(|_| ()));
    let id = cluster.keyspaces[2].id;
    assert_eq!(id, KeyspaceId(xxh3_64(b"user:") as u32));
    assert_eq!(six_nodes(vec![("user:", multi_leader(|_| ()))]).keyspaces[1].id, id);
    assert_eq!(cluster.keyspace_of(b"user:7").unwrap().id, id);
    let own = six_nodes(vec![("", leaderless(|_| ()))]);
    assert_eq!(own.keyspaces.len(), 1);
}

#[test]
fn a_single_node_gets_a_single_replica() {
    let member = Member { name: "n1".to_string(), datacenter: EU };
    let names = vec!["here".to_string()];
    let cluster = Cluster::new("one".to_string(), 1, names, vec![member], vec![]).unwrap();
    let Model::LeaderFollower(options) = &cluster.keyspaces[0].model else { unreachable!() };
    assert_eq!(options.group, GroupOptions::defaults(1));
}

#[test]
fn contradictions_of_leader_follower() {
    refused(
        leader_follower(|o| o.group.acks = Acks::Exactly(4)),
        "acks",
        "4 copies are more than the 3 replicas; 1 to 3",
    );
    refused(
        leader_follower(|o| (o.group.acks, o.group.replicas) = (Acks::SemiSync, 1)),
        "acks",
        "semi-sync means 2 copies, these are more than the 1 replicas; 1 to 1",
    );
    refused(
        leader_follower(|o| {
            (o.group.acks, o.group.failover) = (Acks::Exactly(0), Failover::Available);
        }),
        "acks",
        "0 copies acknowledge nothing; 1 to 3 (async is 1)",
    );
    refused(
        leader_follower(|o| o.group.replicas = 4),
        "replicas",
        "4 replicas need as many nodes, \"eu\" has 3; at most 3",
    );
    refused(
        leader_follower(|o| o.group.replicas = 0),
        "replicas",
        "0 replicas hold nothing; at least 1",
    );
    refused(
        leader_follower(|o| o.home = DatacenterId(2)),
        "home",
        "this datacenter does not exist; there are: eu, us",
    );
    refused(
        leader_follower(|o| o.partitions = 0),
        "partitions",
        "0 is not possible; 1 to 16384 are",
    );
    refused(
        leader_follower(|o| o.partitions = 16385),
        "partitions",
        "16385 is not possible; 1 to 16384 are",
    );
    refused(
        leader_follower(|o| o.group.ack_timeout_ms = 0),
        "ack-timeout-ms",
        "after 0 ms every write would have failed; at least 1",
    );
}

#[test]
fn contradictions_of_multi_leader() {
    refused(
        multi_leader(|o| o.datacenters = vec![US]),
        "datacenters",
        "multi-leader needs at least 2 datacenters, here is 1; add one, or use leader-follower",
    );
    refused(
        multi_leader(|o| o.datacenters = vec![US, US]),
        "datacenters",
        "\"us\" stands there twice; name it once",
    );
    refused(
        multi_leader(|o| o.datacenters = vec![US, DatacenterId(9)]),
        "datacenters",
        "this datacenter does not exist; there are: eu, us",
    );
    refused(
        multi_leader(|o| o.group.acks = Acks::Exactly(9)),
        "acks",
        "9 copies are more than the 3 replicas; 1 to 3",
    );
}

#[test]
fn contradictions_of_leaderless() {
    let at_most = "7 replicas need as many nodes, the cluster has 6; at most 6";
    refused(leaderless(|o| o.n = 7), "n", at_most);
    refused(leaderless(|o| o.n = 0), "n", "0 replicas hold nothing; at least 1");
    refused(leaderless(|o| o.w = 4), "w", "a write cannot have 4 of 3 replicas; 1 to 3");
    refused(leaderless(|o| o.r = 4), "r", "a read cannot have 4 of 3 replicas; 1 to 3");
    let nothing = "a write that waits for no replica says nothing; 1 to 3";
    refused(leaderless(|o| o.w = 0), "w", nothing);
    let found = try_six_nodes(vec![("p:", leaderless(|o| (o.w, o.r) = (9, 0)))]).unwrap_err();
    assert_eq!(found.iter().map(|c| c.option).collect::<Vec<_>>(), ["w", "r"]);
    let shown = "keyspace \"p:\", w: a write cannot have 9 of 3 replicas; 1 to 3";
    assert_eq!(found[0].to_string(), shown);
}

#[test]
fn a_prefix_stands_there_once() {
    let twice = vec![("p:", leaderless(|_| ())), ("p:", leader_follower(|_| ()))];
    let found = try_six_nodes(twice).unwrap_err();
    assert_eq!((found.len(), found[0].option), (1, "prefix"));
    assert_eq!(found[0].prefix.as_deref(), Some(&b"p:"[..]));
    assert_eq!(found[0].text, "\"p:\" stands there twice; a prefix has one model");
}

#[test]
fn two_prefixes_with_one_number_are_refused() {
    // A birthday search over short prefixes: 2^17 of them have a pair by all likelihood.
    let mut seen = alloc::collections::BTreeMap::new();
    let pair = (0..1_000_000u32).find_map(|number| {
        let prefix = number.to_string().into_bytes();
        seen.insert(xxh3_64(&prefix) as u32, prefix.clone()).map(|other| (other, prefix))
    });
    let (one, two) = pair.unwrap();
    let keyspaces = vec![(one, leaderless(|_| ())), (two, leaderless(|_| ()))];
    let found = Cluster::new("test".to_string(), 1, datacenters(), members(), keyspaces);
    let found = found.unwrap_err();
    assert_eq!((found.len(), found[0].option), (1, "prefix"));
    assert!(found[0].text.contains("the same number"));
}

#[test]
fn contradictions_of_the_cluster() {
    type Change = fn(&mut String, &mut Vec<String>, &mut Vec<Member>);
    let cases: &[(Change, &str, &str)] = &[
        (|name, _, _| name.clear(), "name", "a name is empty"),
        (|name, _, _| *name = "x".repeat(65), "name", "65 bytes; at most 64"),
        (|name, _, _| *name = "a b".into(), "name", "\"a b\" may hold only letters"),
        (|_, dcs, _| dcs.push("asia".into()), "datacenters", "no node is in \"asia\""),
        (|_, dcs, _| dcs.push("eu".into()), "datacenters", "\"eu\" stands there twice"),
        (|_, _, members| members[0].name = "eu-1".into(), "members", "two nodes are called"),
        (|_, _, members| members[0].name = "ü".into(), "members", "may hold only letters"),
        (
            |_, _, members| members[0].datacenter = DatacenterId(7),
            "members",
            "the node \"us-1\" is in a datacenter that does not exist; there are: eu, us",
        ),
    ];
    for (change, option, text) in cases {
        let (mut name, mut datacenters, mut members) = ("t".to_string(), datacenters(), members());
        change(&mut name, &mut datacenters, &mut members);
        let found = Cluster::new(name, 1, datacenters, members, vec![]).unwrap_err();
        assert_eq!((found.len(), &found[0].option), (1, option), "{found:?}");
        assert!(found[0].text.contains(text), "{found:?}");
        assert_eq!(found[0].prefix, None);
    }
    let found = Cluster::new("t".to_string(), 1, vec![], vec![], vec![]).unwrap_err();
    let options: Vec<&str> = found.iter().map(|c| c.option).collect();
    assert_eq!(options, ["datacenters", "members"]);
}
