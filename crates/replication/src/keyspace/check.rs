//! From what a configuration file says to a [`Cluster`] that cannot contradict itself.

use super::{
    AckLevel, Acks, Cluster, GroupOptions, Keyspace, LeaderFollower, Leaderless, Member,
    MissingAcks, Model, MultiLeader, SLOTS,
};
use crate::leaderless::REPLICAS_MAX;
use crate::quorum::Quorum;
use crate::{DatacenterId, KeyspaceId};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use xxhash_rust::xxh3::xxh3_64;

/// How long a name may be, in bytes.
pub const NAME_BYTES_MAX: usize = 64;
/// Nodes of a cluster. The number after the last one means "no node" on the wire.
pub const MEMBERS_MAX: usize = u16::MAX as usize;
/// Datacenters of a cluster. The number after the last one means "everywhere".
pub const DATACENTERS_MAX: usize = u8::MAX as usize;

/// Two things that cannot both be, or one that cannot be at all.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Contradiction {
    /// The keyspace; `None` where it is about the cluster.
    pub prefix: Option<Vec<u8>>,
    /// The option, as the configuration file calls it.
    pub option: &'static str,
    /// What is wrong, and what would be right.
    pub text: String,
}

impl fmt::Display for Contradiction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.prefix {
            Some(prefix) => write!(f, "keyspace \"{}\", ", prefix.escape_ascii())?,
            None => f.write_str("cluster, ")?,
        }
        write!(f, "{}: {}", self.option, self.text)
    }
}

impl Cluster {
    /// Checks a description. Sorts members by name and keyspaces by prefix, and adds the keyspace
    /// of the empty prefix where it is missing: leader-follower with the defaults in the first
    /// datacenter. On error, all that contradicts is named, not only the first.
    pub fn new(
        name: String,
        secret: u64,
        datacenters: Vec<String>,
        mut members: Vec<Member>,
        keyspaces: Vec<(Vec<u8>, Model)>,
    ) -> Result<Cluster, Vec<Contradiction>> {
        members.sort_by(|a, b| a.name.cmp(&b.name));
        let with_id = |(prefix, model): (Vec<u8>, Model)| Keyspace {
            id: KeyspaceId(xxh3_64(&prefix) as u32),
            prefix,
            model,
        };
        let keyspaces: Vec<Keyspace> = keyspaces.into_iter().map(with_id).collect();
        let mut cluster = Cluster { name, secret, datacenters, members, keyspaces };
        if cluster.keyspaces.iter().all(|keyspace| !keyspace.prefix.is_empty()) {
            let home = DatacenterId(0);
            let model = LeaderFollower::defaults(home, cluster.nodes_in(home));
            cluster.keyspaces.push(with_id((Vec::new(), Model::LeaderFollower(model))));
        }
        cluster.keyspaces.sort_by(|a, b| a.prefix.cmp(&b.prefix));
        let mut found = check_cluster(&cluster);
        // Without nodes every keyspace would complain of the same.
        if found.is_empty() {
            for keyspace in &cluster.keyspaces {
                check_keyspace(&cluster, keyspace, &mut found);
            }
        }
        if found.is_empty() { Ok(cluster) } else { Err(found) }
    }

    /// How many nodes a datacenter has.
    pub fn nodes_in(&self, datacenter: DatacenterId) -> usize {
        self.members.iter().filter(|member| member.datacenter == datacenter).count()
    }
}

fn check_cluster(cluster: &Cluster) -> Vec<Contradiction> {
    let mut found = Vec::new();
    let mut wrong = |option, text| found.push(Contradiction { prefix: None, option, text });
    if let Some(text) = wrong_name(&cluster.name) {
        wrong("name", text);
    }
    check_datacenters(cluster, &mut wrong);
    check_members(cluster, &mut wrong);
    check_prefixes(cluster, &mut found);
    found
}

fn check_prefixes(cluster: &Cluster, found: &mut Vec<Contradiction>) {
    for (place, keyspace) in cluster.keyspaces.iter().enumerate() {
        let earlier = cluster.keyspaces.iter().take(place);
        let same_number = |other: &&Keyspace| other.id == keyspace.id;
        for other in earlier.filter(same_number) {
            let (one, two) = (other.prefix.escape_ascii(), keyspace.prefix.escape_ascii());
            let text = if other.prefix == keyspace.prefix {
                format!("\"{two}\" stands there twice; a prefix has one model")
            } else {
                format!(
                    "\"{one}\" and \"{two}\" have the same number by chance; change one of them"
                )
            };
            let prefix = Some(keyspace.prefix.clone());
            found.push(Contradiction { prefix, option: "prefix", text });
        }
    }
}

fn check_datacenters(cluster: &Cluster, wrong: &mut impl FnMut(&'static str, String)) {
    let datacenters = &cluster.datacenters;
    if datacenters.is_empty() {
        wrong("datacenters", "there is none; name at least one".into());
    }
    if datacenters.len() > DATACENTERS_MAX {
        let count = datacenters.len();
        wrong("datacenters", format!("there are {count}; at most {DATACENTERS_MAX} may be"));
        return;
    }
    for (number, name) in (0..).zip(datacenters) {
        if let Some(text) = wrong_name(name) {
            wrong("datacenters", text);
        }
        if datacenters.iter().take(usize::from(number)).any(|other| other == name) {
            wrong("datacenters", format!("\"{name}\" stands there twice; name it once"));
        } else if cluster.nodes_in(DatacenterId(number)) == 0 {
            let text = format!("no node is in \"{name}\"; put one there, or leave it out");
            wrong("datacenters", text);
        }
    }
}

fn check_members(cluster: &Cluster, wrong: &mut impl FnMut(&'static str, String)) {
    let members = &cluster.members;
    if members.is_empty() {
        wrong("members", "there is no node; name at least one".into());
    }
    if members.len() > MEMBERS_MAX {
        wrong("members", format!("there are {}; at most {MEMBERS_MAX} may be", members.len()));
    }
    for (place, member) in members.iter().enumerate() {
        if let Some(text) = wrong_name(&member.name) {
            wrong("members", text);
        }
        // They are sorted: equal names are neighbours.
        if place.checked_sub(1).and_then(|p| members.get(p)).is_some_and(|m| m.name == member.name)
        {
            wrong("members", format!("two nodes are called \"{}\"; rename one", member.name));
        }
        if usize::from(member.datacenter.0) >= cluster.datacenters.len() {
            let text = format!(
                "the node \"{}\" is in a datacenter that does not exist; there are: {}",
                member.name,
                cluster.datacenters.join(", ")
            );
            wrong("members", text);
        }
    }
}

/// What is wrong with a name, if anything: names go into files, metrics and replies.
fn wrong_name(name: &str) -> Option<String> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    if name.is_empty() {
        return Some("a name is empty; give it 1 to 64 bytes".into());
    }
    if name.len() > NAME_BYTES_MAX {
        let length = name.len();
        return Some(format!("\"{name}\" has {length} bytes; at most {NAME_BYTES_MAX} may be"));
    }
    (!name.bytes().all(allowed)).then(|| {
        format!("\"{}\" may hold only letters, digits, '.', '_' and '-'", name.escape_debug())
    })
}

fn check_keyspace(cluster: &Cluster, keyspace: &Keyspace, found: &mut Vec<Contradiction>) {
    let prefix = Some(keyspace.prefix.clone());
    let mut wrong = |option, text| {
        found.push(Contradiction { prefix: prefix.clone(), option, text });
    };
    let partitions = keyspace.partitions();
    if partitions == 0 || partitions > SLOTS {
        wrong("partitions", format!("{partitions} is not possible; 1 to {SLOTS} are"));
    }
    match &keyspace.model {
        Model::LeaderFollower(options) => {
            check_datacenter(cluster, "home", options.home, &options.group, &mut wrong);
            check_group(&options.group, &mut wrong);
        }
        Model::MultiLeader(options) => check_multi_leader(cluster, options, &mut wrong),
        Model::Leaderless(options) => check_leaderless(cluster, options, &mut wrong),
    }
}

/// A datacenter that is to hold a group.
fn check_datacenter(
    cluster: &Cluster,
    option: &'static str,
    datacenter: DatacenterId,
    group: &GroupOptions,
    wrong: &mut impl FnMut(&'static str, String),
) {
    let Some(name) = cluster.datacenters.get(usize::from(datacenter.0)) else {
        let known = cluster.datacenters.join(", ");
        wrong(option, format!("this datacenter does not exist; there are: {known}"));
        return;
    };
    let (replicas, nodes) = (group.replicas, cluster.nodes_in(datacenter));
    if usize::from(replicas) > nodes {
        let text = format!(
            "{replicas} replicas need as many nodes, \"{name}\" has {nodes}; at most {nodes}"
        );
        wrong("replicas", text);
    }
}

fn check_group(group: &GroupOptions, wrong: &mut impl FnMut(&'static str, String)) {
    if group.replicas == 0 {
        wrong("replicas", "0 replicas hold nothing; at least 1".into());
        return;
    }
    let (acks, replicas) = (Quorum::of(group).acks, usize::from(group.replicas));
    if acks == 0 {
        wrong("acks", format!("0 copies acknowledge nothing; 1 to {replicas} (async is 1)"));
    }
    if acks > replicas {
        let word = match group.acks {
            Acks::Exactly(_) => format!("{acks} copies"),
            named => format!("{named} means {acks} copies, these"),
        };
        let text = format!("{word} are more than the {replicas} replicas; 1 to {replicas}");
        wrong("acks", text);
    }
    if group.missing_acks == MissingAcks::Degrade && group.ack_level != AckLevel::Durable {
        let level = group.ack_level;
        let text = format!(
            "degrade lowers the number of durable copies, and ack-level is \"{level}\"; with \
             degrade it is \"durable\""
        );
        wrong("when-acks-are-missing", text);
    }
    if group.disk_stall_ms == 0 {
        wrong("disk-stall-ms", "0 ms are up before any disk answers; at least 1".into());
    }
    if group.ack_timeout_ms == 0 {
        wrong("ack-timeout-ms", "after 0 ms every write would have failed; at least 1".into());
    }
}

fn check_multi_leader(
    cluster: &Cluster,
    options: &MultiLeader,
    wrong: &mut impl FnMut(&'static str, String),
) {
    let datacenters = &options.datacenters;
    if datacenters.len() < 2 {
        let text = format!(
            "multi-leader needs at least 2 datacenters, here is {}; add one, or use \
             leader-follower",
            datacenters.len()
        );
        wrong("datacenters", text);
    }
    for (place, datacenter) in datacenters.iter().enumerate() {
        if datacenters.iter().take(place).any(|other| other == datacenter) {
            let name = cluster.datacenter_name(*datacenter);
            wrong("datacenters", format!("\"{name}\" stands there twice; name it once"));
            continue;
        }
        check_datacenter(cluster, "datacenters", *datacenter, &options.group, wrong);
    }
    check_group(&options.group, wrong);
}

fn check_leaderless(
    cluster: &Cluster,
    options: &Leaderless,
    wrong: &mut impl FnMut(&'static str, String),
) {
    let (n, nodes) = (options.n, cluster.members.len());
    if n == 0 {
        wrong("n", "0 replicas hold nothing; at least 1".into());
        return;
    }
    if usize::from(n) > nodes {
        let text = format!("{n} replicas need as many nodes, the cluster has {nodes}");
        wrong("n", format!("{text}; at most {nodes}"));
    }
    if usize::from(n) > REPLICAS_MAX {
        wrong("n", format!("{n} replicas of a key are too many; at most {REPLICAS_MAX}"));
    }
    let quorums = [("w", options.w, "a write"), ("r", options.r, "a read")];
    for (option, count, who) in quorums {
        if count == 0 {
            wrong(option, format!("{who} that waits for no replica says nothing; 1 to {n}"));
        }
        if count > n {
            wrong(option, format!("{who} cannot have {count} of {n} replicas; 1 to {n}"));
        }
    }
    if options.timeout_ms == 0 {
        wrong("timeout-ms", "after 0 ms everything would have failed; at least 1".into());
    }
}

#[cfg(test)]
#[path = "check_tests.rs"]
pub(crate) mod tests;
