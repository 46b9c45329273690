//! What is known of the cluster under test: its nodes, what the keyspace promises, and who leads
//! when. All of it comes from `TF.STATUS`.

use super::connection::Connection;
use super::workload::Clock;
use miette::miette;
use replication::keyspace::SLOTS;
use replication::keyspace::slot::slot_of;
use replication::quorum::Quorum;
use replication::{DatacenterId, GroupId, KeyspaceId, NodeId, Reply};
use serde::Deserialize;
use simulator::judge::Promises;
use simulator::observe::Leadership;
use std::collections::BTreeSet;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// How long a node may take to say how it is.
const STATUS_TIMEOUT: Duration = Duration::from_secs(2);
/// How often each node is asked who leads.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// A node that clients ask.
#[derive(Clone, Debug)]
pub struct Target {
    /// Its name.
    pub name: String,
    /// Its place in the cluster's list of nodes.
    pub node: NodeId,
    /// Where it stands.
    pub datacenter: DatacenterId,
    /// Where clients reach it.
    pub address: SocketAddr,
}

/// The keyspace under test.
#[derive(Clone, Debug)]
pub struct Keyspace {
    /// Its prefix.
    pub prefix: String,
    /// How it acknowledges, elects and reads, in the configuration's words.
    pub options: KeyspaceOptions,
    /// What follows from them.
    pub quorum: Quorum,
    /// Into how many partitions its keys are dealt.
    pub partitions: u16,
}

impl Keyspace {
    /// What its checkers hold it to.
    pub fn promises(&self) -> Promises {
        let leader_reads = self.options.reads == "leader";
        // An OK at this level is outside of the guarantee.
        let is_weak = self.options.ack_level == "received";
        Promises {
            acknowledged_survives: !is_weak && self.quorum.acknowledged_survives(),
            linearizable: !is_weak && leader_reads && self.quorum.commit <= self.quorum.acks,
            flushes: false,
        }
    }

    /// The partition of a key.
    pub fn partition_of(&self, key: &str) -> u16 {
        let slot = u32::from(slot_of(key.as_bytes()));
        (slot * u32::from(self.partitions) / u32::from(SLOTS)) as u16
    }
}

/// Options of a leader-follower keyspace as `TF.STATUS` has them.
#[derive(Deserialize, Clone, Default, Debug)]
pub struct KeyspaceOptions {
    /// `acks`.
    pub acks: String,
    /// `ack-level`; empty where a node does not say.
    #[serde(default)]
    pub ack_level: String,
    /// `failover`.
    pub failover: String,
    /// `reads`.
    pub reads: String,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Status {
    node: String,
    members: Vec<MemberStatus>,
    keyspaces: Vec<KeyspaceStatus>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct MemberStatus {
    name: String,
    datacenter: String,
    client: Option<SocketAddr>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct KeyspaceStatus {
    prefix: String,
    model: String,
    options: Option<KeyspaceOptions>,
    quorum: Option<QuorumStatus>,
    groups: Vec<GroupStatus>,
}

#[derive(Deserialize)]
struct QuorumStatus {
    replicas: usize,
    acks: usize,
    election: usize,
    commit: usize,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct GroupStatus {
    partition: u16,
    role: Option<String>,
    epoch: Option<u64>,
}

/// Asks the given addresses until one answers, and finds the nodes to ask and the keyspace.
///
/// # Errors
/// In words for the command line: nobody answers, a name that no node has, no such keyspace, one
/// of another model, or a node that cannot be reached.
pub fn learn(
    addresses: &[SocketAddr],
    names: Option<&[String]>,
    prefix: &str,
) -> miette::Result<(Vec<Target>, Keyspace)> {
    let mut silent = Vec::new();
    let mut found = None;
    for address in addresses {
        match ask(*address) {
            Ok(status) => {
                found = Some(status);
                break;
            }
            Err(error) => silent.push(format!("{address} ({error})")),
        }
    }
    let Some(status) = found else {
        return Err(miette!("no Trefoil node answers at {}", silent.join(", ")));
    };
    let targets = targets(&status, names)?;
    let keyspace = keyspace(status.keyspaces, prefix)?;
    for target in &targets {
        let answer = ask(target.address);
        let named = answer.as_ref().is_ok_and(|status| status.node == target.name);
        if !named {
            let why = match answer {
                Ok(status) => format!("the node there is `{}`", status.node),
                Err(error) => error.to_string(),
            };
            return Err(miette!(
                "{} does not answer at {}: {why}; leave it out with --nodes NAME,...",
                target.name,
                target.address
            ));
        }
    }
    Ok((targets, keyspace))
}

fn ask(address: SocketAddr) -> io::Result<Status> {
    status(&mut Connection::open(address, STATUS_TIMEOUT)?)
}

fn status(connection: &mut Connection) -> io::Result<Status> {
    match connection.call(&["TF.STATUS"])? {
        Reply::Bulk(text) => serde_json::from_slice(&text).map_err(io::Error::other),
        Reply::Error(text) => Err(io::Error::other(text.into_owned())),
        _ => Err(io::Error::other("it is not a Trefoil node")),
    }
}

fn targets(status: &Status, names: Option<&[String]>) -> miette::Result<Vec<Target>> {
    let known: Vec<&str> = status.members.iter().map(|member| member.name.as_str()).collect();
    for name in names.unwrap_or_default() {
        if !known.contains(&name.as_str()) {
            let known = known.join(", ");
            return Err(miette!("--nodes: the cluster has no node `{name}`; it has: {known}"));
        }
    }
    let mut datacenters: Vec<&str> = Vec::new();
    let mut targets = Vec::new();
    for (number, member) in status.members.iter().enumerate() {
        let place = datacenters.iter().position(|name| *name == member.datacenter);
        let place = place.unwrap_or_else(|| {
            datacenters.push(&member.datacenter);
            datacenters.len() - 1
        });
        let wanted = names.is_none_or(|names| names.contains(&member.name));
        if let (true, Some(address)) = (wanted, member.client) {
            targets.push(Target {
                name: member.name.clone(),
                node: NodeId(number as u16),
                datacenter: DatacenterId(place as u8),
                address,
            });
        }
    }
    match targets.is_empty() {
        true => Err(miette!("the cluster does not say where clients reach its nodes")),
        false => Ok(targets),
    }
}

fn keyspace(known: Vec<KeyspaceStatus>, prefix: &str) -> miette::Result<Keyspace> {
    let list: Vec<String> = known.iter().map(|k| format!("`{}` ({})", k.prefix, k.model)).collect();
    let list = list.join(", ");
    let Some(found) = known.into_iter().find(|keyspace| keyspace.prefix == prefix) else {
        return Err(miette!("--prefix: no keyspace has the prefix `{prefix}`; there are: {list}"));
    };
    if found.model != "leader-follower" {
        let model = found.model;
        return Err(miette!(
            "--prefix: `{prefix}` is {model}, not leader-follower; there are: {list}"
        ));
    }
    let (Some(options), Some(quorum)) = (found.options, found.quorum) else {
        return Err(miette!("the nodes are too old: they do not say what `{prefix}` promises"));
    };
    let QuorumStatus { replicas, acks, election, commit } = quorum;
    Ok(Keyspace {
        prefix: found.prefix,
        options,
        quorum: Quorum { replicas, acks, election, commit },
        partitions: u16::try_from(found.groups.len()).unwrap_or(u16::MAX).max(1),
    })
}

/// Watches one node until told to stop: every leadership that it says to hold, once.
pub fn watch(target: &Target, prefix: &str, clock: Clock, stop: &AtomicBool) -> Vec<Leadership> {
    let mut connection = None;
    let mut seen = BTreeSet::new();
    let mut leaderships = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let answer = match connection.take() {
            Some(open) => Ok(open),
            None => Connection::open(target.address, STATUS_TIMEOUT),
        };
        let answer = answer.and_then(|mut open| Ok((status(&mut open)?, open)));
        if let Ok((status, open)) = answer {
            connection = Some(open);
            for (partition, epoch) in led(&status, prefix) {
                if seen.insert((partition, epoch)) {
                    leaderships.push(Leadership {
                        at_us: clock.now_us(),
                        node: target.node,
                        group: group(partition),
                        epoch,
                    });
                }
            }
        }
        std::thread::sleep(LOOK_EVERY);
    }
    leaderships
}

fn led(status: &Status, prefix: &str) -> Vec<(u16, u64)> {
    let keyspaces = status.keyspaces.iter().filter(|keyspace| keyspace.prefix == prefix);
    let groups = keyspaces.flat_map(|keyspace| &keyspace.groups);
    groups
        .filter(|group| group.role.as_deref() == Some("leader"))
        .filter_map(|group| Some((group.partition, group.epoch?)))
        .collect()
}

/// A partition of the keyspace under test: only one is looked at, so its number is all that counts.
fn group(partition: u16) -> GroupId {
    GroupId { keyspace: KeyspaceId(0), generation: 0, partition, datacenter: DatacenterId(0) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const STATUS: &str = r#"{"node":"a","members":[
        {"name":"a","datacenter":"eu","client":"127.0.0.1:1"},
        {"name":"b","datacenter":"us","client":"127.0.0.1:2"}],
        "keyspaces":[{"prefix":"cart:","model":"multi-leader","groups":[]},
          {"prefix":"user:","model":"leader-follower","groups":[
            {"partition":0,"role":"leader","epoch":7},{"partition":1,"role":"follower","epoch":9}],
           "options":{"acks":"async","failover":"available","reads":"leader"},
           "quorum":{"replicas":3,"acks":1,"election":2,"commit":2}}]}"#;

    fn parsed() -> Status {
        serde_json::from_str(STATUS).unwrap()
    }

    #[test]
    fn a_keyspace_is_held_to_what_it_promises() {
        let found = keyspace(parsed().keyspaces, "user:").unwrap();
        assert_eq!(found.partitions, 2);
        assert!(!found.promises().acknowledged_survives && !found.promises().linearizable);
        for (prefix, words) in [("cart:", "is multi-leader"), ("x", "no keyspace has the prefix")] {
            let error = keyspace(parsed().keyspaces, prefix).unwrap_err().to_string();
            assert!(error.contains(words) && error.contains("`user:`"), "{error}");
        }
    }

    #[test]
    fn nodes_are_chosen_by_name_and_leaderships_seen() {
        let names = [String::from("b")];
        let chosen = targets(&parsed(), Some(&names)).unwrap();
        assert_eq!((chosen.len(), chosen[0].node, chosen[0].datacenter.0), (1, NodeId(1), 1));
        let error = targets(&parsed(), Some(&[String::from("c")])).unwrap_err().to_string();
        assert!(error.contains("no node `c`; it has: a, b"), "{error}");
        assert_eq!(led(&parsed(), "user:"), [(0, 7)]);
    }
}
