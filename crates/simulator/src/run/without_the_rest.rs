//! A core goes on although the rest of the nodes is dead or cut off for ever: every command is
//! answered, every keyspace is written to on the word of every node of the core, and its replicas
//! become equal.

use super::Play;
use crate::convergence;
use crate::history::Action;
use crate::options::ModelName;
use replication::NodeId;
use replication::keyspace::Keyspace;
use replication::keyspace::slot::slot_of;
use std::collections::BTreeSet;

/// No partition's slots are missed by so many keys.
const KEYS_MAX: u64 = 10_000;

impl Play<'_> {
    /// Whether all that a core owes is done without the rest.
    ///
    /// # Errors
    /// What is not, with the rest.
    pub(super) fn go_on_without(&mut self, rest: &BTreeSet<NodeId>) -> Result<(), String> {
        let gone = || rest.iter().map(NodeId::to_string).collect::<Vec<_>>().join(" and ");
        self.core_goes_on(rest).map_err(|why| format!("core without {}: {why}", gone()))
    }

    fn core_goes_on(&mut self, rest: &BTreeSet<NodeId>) -> Result<(), String> {
        self.wait_for("every command to be answered", |play| play.workload.waiting() == 0)?;
        self.wait_for("every call to be settled", |play| play.once.waiting() == 0)?;
        for node in self.cluster.nodes().into_iter().filter(|node| !rest.contains(node)) {
            for (place, key) in self.a_key_of_each_partition().into_iter().enumerate() {
                let value = format!("~core{}.{place};", node.0);
                self.insist(node, &key, Action::Set(value), false)?;
            }
        }
        if self.options.model == ModelName::Leaderless {
            // Replicas that nobody asks are not compared.
            return Ok(());
        }
        let equal = |play: &Play<'_>| {
            convergence::differences_among(play.cluster, |node| !rest.contains(&node)).is_empty()
        };
        let waited = self.wait_for("all its replicas to be equal", equal);
        waited.map_err(|text| format!("{text}: {}", convergence::describe(self.cluster)))?;
        self.wait_for("its replicas to remember the same calls", |play| {
            let among = |node| !rest.contains(&node);
            convergence::once_differences_among(play.cluster, among).is_empty()
        })
    }

    fn a_key_of_each_partition(&self) -> Vec<String> {
        let cluster = &self.cluster.plan().cluster;
        let key_in = |keyspace: &Keyspace, partition: u16| {
            let prefix = String::from_utf8_lossy(&keyspace.prefix);
            let mut keys = (0..KEYS_MAX).map(|number| format!("{prefix}core:{number}"));
            keys.find(|key| keyspace.partition_of(slot_of(key.as_bytes())) == partition)
        };
        let keyspaces = cluster.keyspaces.iter();
        let keys = keyspaces.flat_map(|keyspace| {
            (0..keyspace.partitions()).filter_map(move |partition| key_in(keyspace, partition))
        });
        keys.collect()
    }
}
