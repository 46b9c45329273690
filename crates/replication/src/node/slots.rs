//! Who serves the hash slots of a keyspace, as this node sees it now: what cluster-aware clients
//! are told by CLUSTER SLOTS and its kin, and by `-MOVED`.

use super::{Node, Roles};
use crate::keyspace::slot::slot_of;
use crate::keyspace::{Keyspace, Model};
use crate::leaderless::Leaderless;
use crate::{GroupId, NodeId, Time};
use alloc::vec::Vec;

/// A partition's share of the hash slots, and who serves it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SlotShare {
    /// The first slot.
    pub first: u16,
    /// The last slot.
    pub last: u16,
    /// Whom a client should ask: the leader, or the first replica that is up where nobody leads.
    /// `None` while no such node is known to be up.
    pub server: Option<NodeId>,
    /// The nodes that hold it, in preference order.
    pub members: Vec<NodeId>,
    /// The newest epoch that this node knows; 0 where nobody leads.
    pub epoch: u64,
    /// Whether enough nodes are up, as far as this node knows, for reads and writes.
    pub works: bool,
}

impl SlotShare {
    /// Whom a client is told to ask, even while nobody is known to serve the share: this node if
    /// it is a member, else a member that is up, else this node. It keeps the command until there
    /// is a leader, and hands it on.
    pub fn asked(&self, me: NodeId, is_up: impl Fn(NodeId) -> bool) -> NodeId {
        let up = || self.members.iter().copied().find(|node| is_up(*node));
        match self.server {
            Some(server) => server,
            None if self.members.contains(&me) => me,
            None => up().unwrap_or(me),
        }
    }
}

/// Where a command on keys of one partition is carried out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Place {
    /// By this node.
    Here,
    /// By another node.
    At(NodeId),
    /// Nobody is known who could.
    Unknown,
}

impl Node {
    /// How the hash slots of a keyspace are dealt, in order of the slots. Of a keyspace with a
    /// leader in each datacenter: the groups of this node's own datacenter, where it has some.
    pub fn slot_shares(&self, now: Time, keyspace: &Keyspace) -> Vec<SlotShare> {
        let partitions = 0..keyspace.partitions();
        partitions.map(|partition| self.slot_share(now, keyspace, partition)).collect()
    }

    fn slot_share(&self, now: Time, keyspace: &Keyspace, partition: u16) -> SlotShare {
        let id = self.roles.group_in(keyspace, partition);
        let (first, last) = keyspace.slots_of(partition);
        let members = self.roles.placement.get(&id).cloned().unwrap_or_default();
        let up = members.iter().filter(|node| self.is_up(now, **node)).count();
        let server = self.server_of(now, id);
        let works = match &keyspace.model {
            Model::Leaderless(options) => up >= usize::from(options.w.max(options.r)),
            Model::LeaderFollower(_) | Model::MultiLeader(_) => server.is_some(),
        };
        SlotShare { first, last, server, members, epoch: self.roles.epoch_of(id), works }
    }

    /// Where a command on these keys is carried out, if all of them are in one partition of the
    /// keyspace: the slot of the first, and the place. `None` if they are not. `may_follow`: a
    /// follower will do, too.
    pub fn place_of<'a>(
        &self,
        now: Time,
        keyspace: &Keyspace,
        mut keys: impl Iterator<Item = &'a [u8]>,
        may_follow: bool,
    ) -> Option<(u16, Place)> {
        let routes = &self.roles.routes;
        let inside =
            |key: &[u8]| routes.of(key).is_some_and(|route| route.group.keyspace == keyspace.id);
        let slot = keys.next().filter(|key| inside(key)).map(slot_of)?;
        let partition = keyspace.partition_of(slot);
        if !keys.all(|key| inside(key) && keyspace.partition_of(slot_of(key)) == partition) {
            return None;
        }
        let id = self.roles.group_in(keyspace, partition);
        let is_member = self.roles.placement.get(&id).is_some_and(|m| m.contains(&self.local.me));
        if is_member && (may_follow || id.datacenter == GroupId::EVERYWHERE) {
            return Some((slot, Place::Here));
        }
        let place = match self.server_of(now, id) {
            Some(node) if node == self.local.me => Place::Here,
            Some(node) => Place::At(node),
            None => Place::Unknown,
        };
        Some((slot, place))
    }

    /// The keys of a slot of a keyspace that this node holds, at most so many.
    pub fn keys_in_slot(
        &self,
        now: Time,
        keyspace: &Keyspace,
        slot: u16,
        limit: usize,
    ) -> Vec<&[u8]> {
        let id = self.roles.group_in(keyspace, keyspace.partition_of(slot));
        let store = match self.roles.groups.get(&id) {
            Some(group) => Some(&group.state.store),
            None => {
                let leaderless = self.roles.leaderless.get(&id.keyspace);
                leaderless.and_then(|leaderless: &Leaderless| leaderless.store(id))
            }
        };
        let Some(store) = store else { return Vec::new() };
        let records = store.iter_slots(slot, slot);
        let live = records.filter(|(_, record)| record.is_live(now.wall_ms));
        live.map(|(key, _)| key).take(limit).collect()
    }

    /// The leader if it is known to be up; where nobody leads, the first replica that is up.
    fn server_of(&self, now: Time, id: GroupId) -> Option<NodeId> {
        if id.datacenter == GroupId::EVERYWHERE {
            let members = self.roles.placement.get(&id)?;
            return members.iter().copied().find(|node| self.is_up(now, *node));
        }
        let heard = || {
            let leader = &self.roles.leaders.get(&id).filter(|led| !led.is_over)?.node;
            // What others have told of this node itself is older than what it knows.
            (*leader != self.local.me).then_some(*leader)
        };
        let here = self.roles.groups.get(&id).and_then(|group| group.leader());
        here.or_else(heard).filter(|leader| self.is_up(now, *leader))
    }
}

impl Roles {
    fn epoch_of(&self, id: GroupId) -> u64 {
        let heard = self.leaders.get(&id).map_or(0, |led| led.epoch);
        self.groups.get(&id).map_or(heard, |group| group.epoch().max(heard))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn share(server: Option<NodeId>) -> SlotShare {
        let members = alloc::vec![NodeId(1), NodeId(2), NodeId(3)];
        SlotShare { first: 0, last: 9, server, members, epoch: 4, works: server.is_some() }
    }

    #[test]
    fn while_nobody_leads_somebody_is_named_who_lives() {
        let up = |node: NodeId| node == NodeId(3) || node == NodeId(7);
        assert_eq!(share(Some(NodeId(2))).asked(NodeId(1), up), NodeId(2), "the leader goes first");
        assert_eq!(share(None).asked(NodeId(1), up), NodeId(1), "then whoever answers");
        assert_eq!(share(None).asked(NodeId(7), up), NodeId(3), "unless it holds nothing of it");
        assert_eq!(share(None).asked(NodeId(7), |_| false), NodeId(7), "and nobody else is there");
    }
}
