//! What the queues of a node hold that all of its groups share, counted anew: for observers who
//! look whether bounds are kept.

use super::Node;
use crate::leader_follower::sizes::{OnWay, Size};
use crate::{GroupId, NodeId};
use alloc::collections::BTreeMap;
use alloc::vec::Vec;

/// What is on its way to another node, of all groups.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct OnLink {
    /// Bytes of entries and of pieces of snapshots; what is kept is the node's window.
    pub bytes: Size,
    /// What each group has on its way.
    pub groups: Vec<(GroupId, OnWay)>,
}

impl Node {
    /// What is on its way to each other node.
    pub fn on_links(&self) -> BTreeMap<NodeId, OnLink> {
        let mut links: BTreeMap<NodeId, OnLink> = BTreeMap::new();
        for group in self.roles.groups.values() {
            for on_way in group.on_way(&self.local) {
                let link = links.entry(on_way.node).or_default();
                link.bytes.found += on_way.bytes.found;
                link.groups.push((group.id, on_way));
            }
        }
        for (node, link) in &mut links {
            link.bytes.kept = self.local.windows.bytes(*node) as u64;
        }
        links
    }

    /// How many commands of each group wait here for somebody who can carry them out, or for his
    /// answer; counted anew.
    pub fn waiting_commands(&self) -> BTreeMap<GroupId, usize> {
        self.roles.forwards.recount()
    }

    /// How many messages wait until the log is kept.
    pub fn owed_messages(&self) -> usize {
        self.local.owed_messages()
    }
}
