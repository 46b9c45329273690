//! The numbers and the sentences that somebody relies on.

use super::*;
use crate::keyspace::check::tests::{multi_leader, six_nodes};
use crate::keyspace::{
    AckLevel, Durability, Failover, GroupOptions, Leaderless, MissingAcks, Reads,
};
use crate::keyspace::{Acks, LeaderFollower};
use alloc::vec;

/// The explanation of one keyspace in a cluster of two datacenters with three nodes each.
fn explained(model: Model) -> String {
    let cluster = six_nodes(vec![("p:", model)]);
    let keyspace = cluster.keyspace_of(b"p:1").cloned();
    let lines = keyspace.map(|keyspace| explain(&cluster, &keyspace)).unwrap_or_default();
    for line in &lines {
        if line.ends_with(':') {
            continue;
        }
        let (text, holders) = match line.strip_suffix(']').and_then(|line| line.rsplit_once(" [")) {
            Some((text, holders)) => (text, holders),
            None => (line.as_str(), "arithmetic"),
        };
        assert!(!text.contains("  ") && text.ends_with('.'), "{line:?}");
        for holder in holders.split(", ") {
            assert!(
                holder == "arithmetic" || CHECKERS.contains(&holder),
                "{holder:?} is no checker: {line:?}"
            );
        }
    }
    lines.join("\n")
}

fn leader_follower(acks: Acks, change: impl Fn(&mut GroupOptions)) -> String {
    let mut options = LeaderFollower::defaults(DatacenterId(0), 3);
    (options.group.acks, options.group.failover) = (acks, Failover::default_for(acks));
    change(&mut options.group);
    explained(Model::LeaderFollower(options))
}

fn leaderless(n: u8, w: u8, r: u8) -> String {
    explained(Model::Leaderless(Leaderless { n, w, r, ..Leaderless::defaults(6) }))
}

#[track_caller]
fn says(text: &str, sentences: &[&str]) {
    for sentence in sentences {
        assert!(text.contains(sentence), "{sentence:?} is not in:\n{text}");
    }
}

#[test]
fn majority_of_three() {
    let text = leader_follower(Acks::Majority, |_| ());
    says(
        &text,
        &[
            "leader-follower: keys that start with \"p:\", in 1 partition.",
            "In eu: N = 3 replicas",
            "A = 2 (acks = majority, ack-level = durable)",
            "E = 2 (failover = safe: the larger of N - A + 1 and 2)",
            "C = 2 (N - E + 1)",
            "writes go on with 1 other node down, reads with 1.",
            "another one takes over by itself with 1 node down, the old leader included",
            "No failover loses an acknowledged write: A + E = 4 > N = 3.",
            "durability = fsync",
            "there are 2 copies or more: with 1 of their disks destroyed there is still one",
            "does not have 2 of 3 copies within 1000 ms is answered -UNKNOWN",
            "reads = leader: linearizable",
            "Then it is answered with what was visible when it came",
            "All replicas are in eu",
        ],
    );
    assert!(!text.contains("LOSE") && !text.contains("STALE"));
}

#[test]
fn async_can_lose_and_says_so() {
    let text = leader_follower(Acks::Async, |_| ());
    says(
        &text,
        &[
            "A = 1 (acks = async, ack-level = durable)",
            "E = 2 (failover = available: a majority of 3)",
            "writes go on with 1 other node down",
            "A failover CAN LOSE acknowledged writes: A + E = 3 is not more than N = 3.",
            "those that fewer than C = 2 replicas had",
            "one copy may be all there is",
            "every write acknowledged before it that no failover has lost",
            "kept aside and reported once",
        ],
    );
    assert!(!text.contains("linearizable"));
}

#[test]
fn safe_async_has_no_failover_but_loses_nothing() {
    let text = leader_follower(Acks::Async, |group| group.failover = Failover::Safe);
    says(
        &text,
        &[
            "E = 3",
            "C = 1",
            "writes go on with 2 other nodes down, reads with 2.",
            "nobody can take over until it is back",
            "No failover loses an acknowledged write: A + E = 4 > N = 3.",
        ],
    );
}

#[test]
fn sync_stops_writing_with_any_node_down() {
    let text = leader_follower(Acks::Sync, |group| group.missing_acks = MissingAcks::Block);
    says(
        &text,
        &[
            "A = 3 (acks = sync, ack-level = durable)",
            "writes go on with 0 other nodes down, reads with 1.",
            "with 1 node down, the old leader included; then writes go on with 0 down in all.",
            "with 2 of their disks destroyed there is still one",
            "when-acks-are-missing = block",
        ],
    );
}

#[test]
fn followers_may_be_stale_and_the_interval_may_lose() {
    let text = leader_follower(Acks::SemiSync, |group| {
        (group.reads, group.durability) = (Reads::Follower, Durability::Interval);
    });
    says(
        &text,
        &[
            "A read may be STALE by the replication lag",
            "What one follower shows of a partition never goes back",
            "reads with 2.",
            "a power cut CAN TAKE the copies of the last second",
            "power cuts of up to 1 of 3 nodes at once lose nothing that C = 2 had",
        ],
    );
    assert!(!text.contains("linearizable"));
}

#[test]
fn multi_leader_tells_what_holds_in_a_datacenter_and_what_between() {
    let text = explained(multi_leader(|_| ()));
    says(
        &text,
        &[
            "One leader in each of eu, us",
            "In eu: N = 3 replicas",
            "In us: the same numbers as in eu.",
            "Once committed (C = 2)",
            "nothing is linearizable across datacenters",
            "the acknowledged writes that it had not yet sent ARE LOST",
            "the other IS DROPPED",
            "-NEEDCOORD",
        ],
    );
}

#[test]
fn the_four_rows_of_the_article() {
    let balanced = leaderless(3, 2, 2);
    says(
        &balanced,
        &[
            "in 64 partitions",
            "N = 3 replicas of each key",
            "Writes go on with 1 of a key's replicas down (N - W), reads with 1 (N - R).",
            "W + R = 4 > N = 3: every read meets at least 1 replica",
            "NOT linearizable even so",
            "A write with fewer than 2 acks after 1000 ms is answered -PARTIAL",
        ],
    );
    assert!(!balanced.contains("STALE") && !balanced.contains("2W"));
    says(
        &leaderless(3, 3, 1),
        &["with 0 of a key's replicas down (N - W), reads with 2", "W + R = 4"],
    );
    says(
        &leaderless(3, 1, 3),
        &["with 2 of a key's replicas down (N - W), reads with 0", "2W = 2"],
    );
    says(
        &leaderless(3, 1, 1),
        &["W + R = 2 is not more than N = 3: a read MAY BE STALE", "one copy may be all there is"],
    );
    says(&leaderless(3, 3, 3), &["every read meets at least 3 replicas"]);
}

#[test]
fn leaderless_tells_what_a_datacenter_takes_with_it() {
    says(
        &leaderless(3, 2, 1),
        &[
            "With eu down (1 to 2 of a key's 3 replicas): writes go on for some keys only, reads \
             go on.",
            "With us down (1 to 2 of a key's 3 replicas)",
        ],
    );
    says(
        &leaderless(6, 4, 3),
        &["With eu down (3 of a key's 6 replicas): writes stop, reads go on."],
    );
}

#[test]
fn the_empty_prefix_is_explained_too() {
    let cluster = six_nodes(vec![]);
    let lines: Vec<String> =
        cluster.keyspaces.iter().flat_map(|keyspace| explain(&cluster, keyspace)).collect();
    says(&lines.join("\n"), &["leader-follower: keys of no other keyspace, in 1 partition."]);
}

#[test]
fn degrade_says_where_it_acts_and_where_it_cannot() {
    let degrade = |group: &mut GroupOptions| group.missing_acks = MissingAcks::Degrade;
    let text = leader_follower(Acks::Sync, degrade);
    says(
        &text,
        &[
            "acknowledged as soon as it is committed (C = 2 copies)",
            "writes go on with 1 node down and an OK still survives every failover",
            "writes go on with 1 other node down, then with acks that are lowered",
            "with 1 of their disks destroyed",
            "A retry (TF.ONCE) follows the same rule",
            "TF.DEGRADED LIST",
        ],
    );
    let text = leader_follower(Acks::Majority, degrade);
    says(&text, &["degrade CAN DO NOTHING here", "the C = 2 copies", "A = 2 is not more"]);
}

#[test]
fn an_ok_that_is_worth_less_says_so() {
    let text = leader_follower(Acks::Majority, |group| group.ack_level = AckLevel::Received);
    says(
        &text,
        &[
            "2 of 3 replicas have the write in memory",
            "CAN LOSE acknowledged writes, whatever A + E is",
            "OUTSIDE OF THE GUARANTEE",
            "there need be no durable copy",
        ],
    );
    assert!(!text.contains("linearizable"));
    let text = leader_follower(Acks::Majority, |group| group.weaker_acks = true);
    says(&text, &["weaker-acks = true", "fewer than 2 acks", "OUTSIDE OF THE GUARANTEE"]);
    let text = leader_follower(Acks::Async, |group| group.ack_level = AckLevel::Applied);
    says(&text, &["No failover loses an acknowledged write: only what is committed is applied."]);
}

#[test]
fn every_statement_about_a_leader_follower_keyspace_names_who_holds_it() {
    for acks in [Acks::Async, Acks::SemiSync, Acks::Majority, Acks::Sync] {
        for missing in [MissingAcks::Error, MissingAcks::Block, MissingAcks::Degrade] {
            for (level, reads, durability) in [
                (AckLevel::Durable, Reads::Leader, Durability::Fsync),
                (AckLevel::Durable, Reads::Follower, Durability::Interval),
                (AckLevel::Received, Reads::Leader, Durability::Fsync),
                (AckLevel::Applied, Reads::Leader, Durability::Interval),
            ] {
                // What degrade lowers is the number of durable copies.
                if missing == MissingAcks::Degrade && level != AckLevel::Durable {
                    continue;
                }
                let text = leader_follower(acks, |group| {
                    (group.missing_acks, group.ack_level) = (missing, level);
                    (group.reads, group.durability) = (reads, durability);
                });
                // The first two say what there is.
                let claims = text.lines().skip(2).filter(|line| !line.ends_with(':'));
                claims.for_each(|line| assert!(line.ends_with(']'), "{line:?}"));
            }
        }
    }
}
