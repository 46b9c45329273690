//! The options that must be the same on all nodes and over restarts: those that decide where keys
//! are, how many copies there are, and which elections are possible.
//!
//! A node remembers their list beside its data, and nodes compare its digest when they meet. What
//! may differ from node to node for a while (acks that leave the election quorum alone, W, R,
//! reads, durability, timeouts) is not in it.

use super::{Cluster, GroupOptions, Keyspace, Model};
use crate::DatacenterId;
use crate::quorum::Quorum;
use crate::wire::Writer;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

/// A protected option and its value, each in words.
pub type Protected = (String, String);

impl Cluster {
    /// The protected options in a canonical order: equal lists, equal clusters. The secret is
    /// there as a hash only.
    pub fn describe(&self) -> Vec<Protected> {
        let mut lines = Vec::new();
        let mut add = |option: &str, value: String| lines.push((option.to_string(), value));
        add("cluster's name", self.name.clone());
        add("cluster's secret", format!("{:016x}", xxh3_64_with_seed(b"secret", self.secret)));
        add("datacenters", self.datacenters.join(", "));
        for member in &self.members {
            let option = format!("datacenter of the node {}", member.name);
            add(&option, self.datacenter_name(member.datacenter).to_string());
        }
        for keyspace in &self.keyspaces {
            let prefix = keyspace.prefix.escape_ascii();
            for (option, value) in self.options(keyspace) {
                add(&format!("{option} of the keyspace \"{prefix}\""), value);
            }
        }
        lines
    }

    /// A hash of [`Cluster::describe`]: two nodes may work together if theirs are equal.
    pub fn digest(&self) -> u64 {
        let mut bytes = Vec::new();
        let mut writer = Writer(&mut bytes);
        for (option, value) in self.describe() {
            writer.bytes(option.as_bytes());
            writer.bytes(value.as_bytes());
        }
        xxh3_64(&bytes)
    }

    /// A datacenter's name; its number where it has none.
    pub fn datacenter_name(&self, datacenter: DatacenterId) -> String {
        let name = self.datacenters.get(usize::from(datacenter.0));
        name.cloned().unwrap_or_else(|| format!("number {}", datacenter.0))
    }

    fn options(&self, keyspace: &Keyspace) -> Vec<(&'static str, String)> {
        let mut options = alloc::vec![
            ("model", keyspace.model.name().to_string()),
            ("partitions", keyspace.partitions().to_string()),
        ];
        let group = |options: &mut Vec<_>, group: &GroupOptions| {
            options.push(("replicas", group.replicas.to_string()));
            let election = Quorum::of(group).election;
            options.push(("election quorum (from acks and failover)", election.to_string()));
        };
        match &keyspace.model {
            Model::LeaderFollower(model) => {
                options.push(("home", self.datacenter_name(model.home)));
                group(&mut options, &model.group);
            }
            Model::MultiLeader(model) => {
                let names = model.datacenters.iter().map(|number| self.datacenter_name(*number));
                options.push(("datacenters", names.collect::<Vec<_>>().join(", ")));
                group(&mut options, &model.group);
                options.push(("conflicts", model.conflicts.to_string()));
            }
            Model::Leaderless(model) => options.push(("n", model.n.to_string())),
        }
        options
    }
}

/// The first option in which two lists differ, as a sentence: mine is "here", theirs "there".
pub fn difference(mine: &[Protected], theirs: &[Protected]) -> Option<String> {
    let value_in = |list: &[Protected], option: &String| {
        let found = list.iter().find(|(other, _)| other == option);
        found.map_or("not there at all".to_string(), |(_, value)| format!("\"{value}\""))
    };
    let options = mine.iter().chain(theirs).map(|(option, _)| option);
    for option in options {
        let (here, there) = (value_in(mine, option), value_in(theirs, option));
        if here != there {
            return Some(format!("the {option}: here it is {here}, there it is {there}"));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::keyspace::check::tests::six_nodes;
    use crate::keyspace::{Acks, Failover, Leaderless, Reads};
    use alloc::vec;

    fn leaderless(n: u8, r: u8) -> Model {
        Model::Leaderless(Leaderless { n, r, ..Leaderless::defaults(6) })
    }

    #[test]
    fn equal_clusters_have_equal_digests() {
        let one = six_nodes(vec![("s:", leaderless(3, 2))]);
        let other = six_nodes(vec![("s:", leaderless(3, 1))]);
        assert_eq!(one.digest(), other.digest());
        assert_eq!(difference(&one.describe(), &other.describe()), None);
    }

    #[test]
    fn the_first_difference_is_named() {
        let one = six_nodes(vec![("s:", leaderless(3, 2))]);
        let other = six_nodes(vec![("s:", leaderless(5, 2))]);
        assert_ne!(one.digest(), other.digest());
        assert_eq!(
            difference(&one.describe(), &other.describe()).unwrap(),
            "the n of the keyspace \"s:\": here it is \"3\", there it is \"5\""
        );
        let without = six_nodes(vec![]);
        assert_eq!(
            difference(&without.describe(), &one.describe()).unwrap(),
            "the model of the keyspace \"s:\": here it is not there at all, \
             there it is \"leaderless\""
        );
        let mut renamed = one.clone();
        renamed.secret += 1;
        let difference = difference(&one.describe(), &renamed.describe()).unwrap();
        assert!(difference.starts_with("the cluster's secret"), "{difference}");
        assert!(!difference.contains(&format!("{:x}", one.secret)));
    }

    #[test]
    fn what_changes_no_quorum_may_differ() {
        let change = |change: &dyn Fn(&mut GroupOptions)| {
            let mut cluster = six_nodes(vec![]);
            if let Model::LeaderFollower(model) = &mut cluster.keyspaces[0].model {
                change(&mut model.group);
            }
            cluster.digest()
        };
        let same = change(&|_| ());
        assert_eq!(change(&|group| group.reads = Reads::Follower), same);
        assert_eq!(change(&|group| group.acks = Acks::Sync), same);
        assert_ne!(change(&|group| group.acks = Acks::Async), same);
        let available = |group: &mut GroupOptions| {
            (group.acks, group.failover) = (Acks::Async, Failover::Available);
        };
        assert_eq!(change(&available), same);
    }
}
