//! A process that is to stop hands over what it leads: its clients' writes wait for a heartbeat's
//! way and back instead of for an election timeout. Nobody waits for it for ever: the driver does
//! until [`Node::is_spared`], or until its patience ends.
//!
//! Nodes that leave say so in their heartbeats and take no leadership over: of a whole cluster that
//! is stopped at once, nobody waits for another.

use super::{Node, Roles};
use crate::leader_follower::Group;
use crate::leader_follower::transfer::{By, Order};
use crate::turn::Turn;
use crate::{GroupId, NodeId, Time};
use alloc::borrow::Cow;
use alloc::vec::Vec;

impl Roles {
    /// From now on this node hands over whatever it leads.
    pub(super) fn leave(&mut self, turn: &mut Turn<'_>) {
        turn.local.is_leaving = true;
        self.hand_over_all(turn);
        // The others are told at once that this node takes nothing over.
        self.send_heartbeats(turn);
    }

    /// Where this node leaves: what has not been handed over yet, or has come back, is.
    pub(super) fn hand_over_all(&mut self, turn: &mut Turn<'_>) {
        if !turn.local.is_leaving {
            return;
        }
        let led = self.groups.values().filter(|g| g.leads() && !g.is_handing_over());
        let led: Vec<GroupId> = led.map(|group| group.id).collect();
        for id in led {
            let to = self.groups.get(&id).and_then(|group| self.successor_of(turn, group));
            if let Some(to) = to
                && let Some(group) = self.groups.get_mut(&id)
            {
                let why = Cow::Borrowed("its process was told to stop");
                group.hand_over(turn, Order { to, why, by: By::Leaving });
            }
        }
    }

    /// Who would take a group over that this node leads.
    pub(super) fn successor_of(&self, turn: &Turn<'_>, group: &Group) -> Option<NodeId> {
        group.successor(turn.now.monotonic_us, |node| self.may_take_over(turn, node))
    }
}

impl Node {
    /// Whether this node can stop without anybody missing it: it leads nothing that another one
    /// could take over, and those to whom it has handed over serve.
    pub fn is_spared(&self, now: Time) -> bool {
        let may = |node: NodeId| {
            let peer = self.roles.peers.get(usize::from(node.0));
            self.is_up(now, node) && peer.is_some_and(|peer| !peer.is_leaving)
        };
        self.roles.groups.values().all(|group| {
            let is_on_its_way = group.hands_over_to().is_some_and(may);
            !is_on_its_way && group.successor(now.monotonic_us, may).is_none()
        })
    }
}
