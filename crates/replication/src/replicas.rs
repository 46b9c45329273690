//! Which nodes hold a key.
//!
//! Rendezvous hashing (Thaler and Ravishankar, "Using Name-Based Mappings to Increase Hit Rates",
//! 1998): each node draws a weight for each partition, and the heaviest hold it. The weight depends
//! on the node's name, not its number, so a new member takes over the partitions in which it is
//! among the heaviest and nothing else moves.

use crate::keyspace::{Cluster, Keyspace, Model};
use crate::wire::Writer;
use crate::{DatacenterId, GroupId, NodeId};
use alloc::vec::Vec;
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// The nodes that hold a partition, in preference order.
///
/// Leader-follower: nodes of the home datacenter, whatever `datacenter` is. Multi-leader: nodes of
/// the given datacenter, none if the keyspace is not there; without one, those of all its
/// datacenters, one datacenter after another. Leaderless: nodes of all datacenters, the best of
/// each in turn, so that a partition is spread over as many datacenters as possible.
pub fn of_partition(
    cluster: &Cluster,
    keyspace: &Keyspace,
    partition: u16,
    datacenter: Option<DatacenterId>,
) -> Vec<NodeId> {
    let ranking = |datacenter| ranking(cluster, keyspace, partition, datacenter);
    match &keyspace.model {
        Model::LeaderFollower(options) => {
            best(ranking(options.home), usize::from(options.group.replicas))
        }
        Model::MultiLeader(options) => {
            let here = |wanted: &DatacenterId| datacenter.is_none_or(|given| given == *wanted);
            let datacenters = options.datacenters.iter().copied().filter(here);
            let replicas = usize::from(options.group.replicas);
            datacenters.flat_map(|datacenter| best(ranking(datacenter), replicas)).collect()
        }
        Model::Leaderless(options) => {
            let count = u8::try_from(cluster.datacenters.len()).unwrap_or(u8::MAX);
            let datacenters = (0..count).map(|number| ranking(DatacenterId(number)));
            spread(datacenters.collect(), usize::from(options.n))
        }
    }
}

/// All groups of all keyspaces with their nodes in preference order.
pub fn all_groups(cluster: &Cluster) -> Vec<(GroupId, Vec<NodeId>)> {
    let mut groups = Vec::new();
    for keyspace in &cluster.keyspaces {
        for partition in 0..keyspace.partitions() {
            let mut add = |name: DatacenterId, datacenter| {
                let nodes = of_partition(cluster, keyspace, partition, datacenter);
                groups.push((keyspace.group(partition, name), nodes));
            };
            match &keyspace.model {
                Model::LeaderFollower(options) => add(options.home, None),
                Model::MultiLeader(options) => {
                    options.datacenters.iter().for_each(|name| add(*name, Some(*name)));
                }
                Model::Leaderless(_) => add(GroupId::EVERYWHERE, None),
            }
        }
    }
    groups
}

/// The groups of all keyspaces that a node is in, with their nodes in preference order.
pub fn groups(cluster: &Cluster, me: NodeId) -> Vec<(GroupId, Vec<NodeId>)> {
    let mut groups = all_groups(cluster);
    groups.retain(|(_, nodes)| nodes.contains(&me));
    groups
}

/// A node's weight for one partition, and the node.
type Weighed = (u64, NodeId);

/// A datacenter's nodes, the heaviest first.
fn ranking(
    cluster: &Cluster,
    keyspace: &Keyspace,
    partition: u16,
    datacenter: DatacenterId,
) -> Vec<Weighed> {
    let mut bytes = Vec::new();
    let mut ranking: Vec<Weighed> = Vec::new();
    for (number, member) in (0..).zip(&cluster.members) {
        if member.datacenter != datacenter {
            continue;
        }
        bytes.clear();
        let mut writer = Writer(&mut bytes);
        writer.u32(keyspace.id.0);
        writer.u16(partition);
        writer.bytes(member.name.as_bytes());
        ranking.push((xxh3_64_with_seed(&bytes, cluster.secret), NodeId(number)));
    }
    // Members are sorted by name, so equal weights, too, are decided by the name.
    ranking.sort_unstable_by(|a, b| b.0.cmp(&a.0).then(a.1.cmp(&b.1)));
    ranking
}

fn best(ranking: Vec<Weighed>, count: usize) -> Vec<NodeId> {
    ranking.into_iter().take(count).map(|(_, node)| node).collect()
}

/// Takes the best node of each datacenter, then the second best, and so on. The datacenter with
/// the heaviest node begins.
fn spread(mut datacenters: Vec<Vec<Weighed>>, count: usize) -> Vec<NodeId> {
    datacenters.retain(|ranking| !ranking.is_empty());
    datacenters.sort_by_key(|ranking| {
        ranking.first().map(|(weight, node)| (core::cmp::Reverse(*weight), *node))
    });
    let rounds = datacenters.iter().map(Vec::len).max().unwrap_or(0);
    let in_turn = (0..rounds).flat_map(|round| {
        datacenters.iter().filter_map(move |ranking| ranking.get(round).map(|(_, node)| *node))
    });
    in_turn.take(count).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::KeyspaceId;
    use crate::keyspace::{Conflicts, GroupOptions};
    use crate::keyspace::{Durability, LeaderFollower, Leaderless, Member, MultiLeader};
    use alloc::collections::{BTreeMap, BTreeSet};
    use alloc::string::{String, ToString};
    use alloc::{format, vec};

    const PARTITIONS: u16 = 200;

    /// A cluster of datacenters with so many nodes each.
    fn cluster(sizes: &[usize]) -> Cluster {
        let mut members = Vec::new();
        for (datacenter, size) in (0..).zip(sizes) {
            for number in 0..*size {
                let name = format!("d{datacenter}-{number}");
                members.push(Member { name, datacenter: DatacenterId(datacenter) });
            }
        }
        let datacenters = (0..sizes.len()).map(|number| format!("d{number}")).collect();
        let keyspaces = vec![leader_follower(), multi_leader(), leaderless()];
        Cluster { name: "test".to_string(), secret: 7, datacenters, members, keyspaces }
    }

    fn keyspace(prefix: &str, model: Model) -> Keyspace {
        Keyspace { id: KeyspaceId(prefix.len() as u32), prefix: prefix.into(), model }
    }

    fn options() -> GroupOptions {
        GroupOptions::defaults(3)
    }

    fn leader_follower() -> Keyspace {
        let (home, partitions) = (DatacenterId(1), PARTITIONS);
        let model = LeaderFollower { home, partitions, group: options() };
        keyspace("a", Model::LeaderFollower(model))
    }

    fn multi_leader() -> Keyspace {
        let model = MultiLeader {
            datacenters: vec![DatacenterId(0), DatacenterId(1)],
            partitions: PARTITIONS,
            group: options(),
            conflicts: Conflicts::LastWriteWins,
        };
        keyspace("ab", Model::MultiLeader(model))
    }

    fn leaderless() -> Keyspace {
        let model = Leaderless {
            partitions: PARTITIONS,
            n: 3,
            w: 2,
            r: 2,
            durability: Durability::Fsync,
            timeout_ms: 1000,
        };
        keyspace("abc", Model::Leaderless(model))
    }

    fn names(cluster: &Cluster, nodes: &[NodeId]) -> Vec<String> {
        nodes.iter().map(|node| cluster.member(*node).unwrap().name.clone()).collect()
    }

    fn datacenters(cluster: &Cluster, nodes: &[NodeId]) -> BTreeSet<DatacenterId> {
        nodes.iter().map(|node| cluster.member(*node).unwrap().datacenter).collect()
    }

    #[test]
    fn every_partition_has_its_number_of_distinct_nodes_where_they_belong() {
        let cluster = cluster(&[4, 5, 3]);
        for (group, nodes) in all_groups(&cluster) {
            assert_eq!(nodes.iter().collect::<BTreeSet<_>>().len(), 3, "{group:?}");
            if group.datacenter == GroupId::EVERYWHERE {
                assert_eq!(datacenters(&cluster, &nodes).len(), 3, "{group:?}");
            } else {
                assert_eq!(datacenters(&cluster, &nodes), [group.datacenter].into());
            }
        }
        assert_eq!(all_groups(&cluster).len(), 4 * usize::from(PARTITIONS));
    }

    #[test]
    fn leaderless_takes_second_nodes_only_when_every_datacenter_has_given_one() {
        let cluster = cluster(&[1, 4]);
        for partition in 0..PARTITIONS {
            let nodes = of_partition(&cluster, &leaderless(), partition, None);
            assert_eq!(nodes.len(), 3);
            assert!(nodes.contains(&NodeId(0)), "the only node of its datacenter");
        }
    }

    #[test]
    fn multi_leader_without_a_datacenter_names_all_replicas() {
        let cluster = cluster(&[4, 4, 4]);
        let of = |datacenter| of_partition(&cluster, &multi_leader(), 9, datacenter);
        let both = [of(Some(DatacenterId(0))), of(Some(DatacenterId(1)))].concat();
        assert_eq!(of(None), both);
        assert_eq!(of(Some(DatacenterId(2))), vec![]);
    }

    /// Adds a member and requires that what changes, changes in its favour.
    fn stays(keyspace: &Keyspace, sizes: &[usize], new: DatacenterId) {
        let old = cluster(sizes);
        let mut grown = old.clone();
        // Sorts before all others: every number changes.
        grown.members.insert(0, Member { name: "a-new".to_string(), datacenter: new });
        let mut moved = 0;
        for partition in 0..PARTITIONS {
            let before = names(&old, &of_partition(&old, keyspace, partition, None));
            let after = names(&grown, &of_partition(&grown, keyspace, partition, None));
            if !after.contains(&"a-new".to_string()) {
                assert_eq!(before, after);
                continue;
            }
            moved += 1;
            let kept = after.iter().filter(|name| before.contains(name)).count();
            assert_eq!(kept + 1, after.len(), "{before:?} {after:?}");
        }
        assert!(moved > 0 && moved < PARTITIONS, "{moved}");
    }

    #[test]
    fn a_new_member_moves_only_what_it_takes_over() {
        stays(&leader_follower(), &[4, 4], DatacenterId(1));
        stays(&leaderless(), &[6], DatacenterId(0));
        stays(&leaderless(), &[3, 3], DatacenterId(0));
        stays(&leaderless(), &[3, 3], DatacenterId(1));
        stays(&leaderless(), &[3, 3, 3, 3], DatacenterId(2));
    }

    #[test]
    fn partitions_and_first_places_are_balanced() {
        let cluster = cluster(&[3, 3]);
        let (mut held, mut first) = (BTreeMap::new(), BTreeMap::new());
        for partition in 0..PARTITIONS {
            let nodes = of_partition(&cluster, &leaderless(), partition, None);
            *first.entry(nodes[0]).or_insert(0) += 1;
            nodes.into_iter().for_each(|node| *held.entry(node).or_insert(0) += 1);
        }
        // The means are 100 and 33; the bounds are five standard deviations away.
        assert!(
            held.len() == 6 && held.values().all(|count| (65..=135).contains(count)),
            "{held:?}"
        );
        assert!(first.len() == 6 && first.values().all(|count| (8..=60).contains(count)));
    }

    #[test]
    fn the_secret_and_the_keyspace_decide_too() {
        let one = cluster(&[9]);
        let mut other = one.clone();
        other.secret = 8;
        let all = |cluster: &Cluster, keyspace: &Keyspace| {
            let of = |partition| of_partition(cluster, keyspace, partition, None);
            (0..PARTITIONS).map(of).collect::<Vec<_>>()
        };
        let mut renamed = leaderless();
        renamed.id = KeyspaceId(77);
        assert_ne!(all(&one, &leaderless()), all(&other, &leaderless()));
        assert_ne!(all(&one, &leaderless()), all(&one, &renamed));
        assert_eq!(all(&one, &leaderless()), all(&cluster(&[9]), &leaderless()));
    }

    #[test]
    fn a_node_knows_its_groups() {
        let cluster = cluster(&[3, 4]);
        let mine = groups(&cluster, NodeId(0));
        assert!(mine.iter().all(|(_, nodes)| nodes.contains(&NodeId(0))));
        assert!(mine.iter().any(|(group, _)| group.datacenter == GroupId::EVERYWHERE));
        assert!(mine.iter().all(|(group, _)| group.datacenter != DatacenterId(1)));
    }
}
