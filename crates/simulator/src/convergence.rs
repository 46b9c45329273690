//! Whether all replicas hold the same, byte for byte.

use crate::cluster::Cluster;
use replication::{GroupId, NodeId, replicas};
use std::collections::BTreeMap;

/// What each replica of a partition holds, as a digest.
pub type Digests = Vec<(NodeId, Option<u64>)>;

/// The partitions whose replicas do not all hold the same, each with their digests. A member
/// that is down, or does not know, differs from everybody.
pub fn differences(cluster: &Cluster) -> Vec<(GroupId, Digests)> {
    differences_among(cluster, |_| true)
}

/// The same for some of the replicas.
pub fn differences_among(
    cluster: &Cluster,
    is_asked: impl Fn(NodeId) -> bool,
) -> Vec<(GroupId, Digests)> {
    // A multi-leader keyspace's groups in its datacenters hold the same partition.
    let mut partitions: BTreeMap<GroupId, Digests> = BTreeMap::new();
    for (group, members) in replicas::all_groups(&cluster.plan().cluster) {
        let partition = GroupId { datacenter: GroupId::EVERYWHERE, ..group };
        let digests = partitions.entry(partition).or_default();
        let members = members.into_iter().filter(|member| is_asked(*member));
        digests.extend(members.map(|m| (m, digest(cluster, m, group))));
    }
    let mut differences = Vec::new();
    for (group, digests) in partitions {
        let first = digests.first().and_then(|(_, digest)| *digest);
        if first.is_none() || digests.iter().any(|(_, digest)| *digest != first) {
            differences.push((group, digests));
        }
    }
    differences
}

/// The groups whose members do not all remember the same commands of `TF.ONCE`, each with digests.
pub fn once_differences(cluster: &Cluster) -> Vec<(GroupId, Digests)> {
    once_differences_among(cluster, |_| true)
}

/// The same for some of the replicas.
pub fn once_differences_among(
    cluster: &Cluster,
    is_asked: impl Fn(NodeId) -> bool,
) -> Vec<(GroupId, Digests)> {
    let groups = replicas::all_groups(&cluster.plan().cluster).into_iter();
    let digests = groups.filter(|(group, _)| group.datacenter != GroupId::EVERYWHERE).map(
        |(group, members)| {
            let digest = |member| cluster.server(member)?.node()?.once_digest(group);
            let members = members.into_iter().filter(|member| is_asked(*member));
            (group, members.map(|m| (m, digest(m))).collect::<Digests>())
        },
    );
    digests.filter(|(_, digests)| digests.windows(2).any(|pair| pair[0].1 != pair[1].1)).collect()
}

/// Whether there are none.
pub fn all_equal(cluster: &Cluster) -> bool {
    differences(cluster).is_empty()
}

/// In words: what differs, and the first record in which the replicas of each partition do.
pub fn describe(cluster: &Cluster) -> String {
    let mut text = String::new();
    for (partition, digests) in differences(cluster) {
        text += &format!("\n{partition:?}: {digests:?}");
        let mut records: BTreeMap<String, Vec<(NodeId, String)>> = BTreeMap::new();
        let nodes = cluster.nodes().into_iter();
        for node in nodes.filter_map(|id| cluster.server(id)?.node()) {
            let here = |id: &GroupId| GroupId { datacenter: GroupId::EVERYWHERE, ..*id };
            for group in node.groups().filter(|group| here(&group.id) == partition) {
                let store = &group.state.store;
                for (key, record) in store.iter_slots(store.first_slot(), store.last_slot()) {
                    let key = String::from_utf8_lossy(key).into_owned();
                    records.entry(key).or_default().push((node.id(), format!("{record:?}")));
                }
            }
        }
        let differ = |held: &Vec<(NodeId, String)>| {
            held.len() < digests.len() || held.windows(2).any(|pair| pair[0].1 != pair[1].1)
        };
        if let Some((key, held)) = records.iter().find(|(_, held)| differ(held)) {
            text += &format!("\n{key}: {held:?}");
        }
    }
    text
}

fn digest(cluster: &Cluster, member: NodeId, group: GroupId) -> Option<u64> {
    cluster.server(member)?.node()?.digest(group)
}
