//! How a group says something to its other members.

use super::Group;
use super::message::{Body, Message};
use crate::NodeId;
use crate::keyspace::Durability;
use crate::turn::Turn;
use alloc::vec::Vec;

impl Group {
    pub(super) fn message<'a>(&self, body: Body<'a>) -> crate::Message<'a> {
        let message = Message { group: self.id, epoch: self.epoch, body };
        crate::Message::LeaderFollower(message)
    }

    /// Says something that depends on no epoch.
    pub(super) fn say(&self, turn: &mut Turn<'_>, to: NodeId, body: Body<'static>) {
        turn.send(to, self.message(body));
    }

    /// Says something in this epoch: not before the epoch is on disk.
    pub(super) fn say_epoch(&self, turn: &mut Turn<'_>, to: NodeId, body: Body<'static>) {
        turn.send_when_durable(self.epoch_position, Durability::Fsync, to, self.message(body));
    }

    pub(super) fn broadcast(&self, turn: &mut Turn<'_>, body: &Body<'static>) {
        for to in self.others(turn.local.me) {
            self.say(turn, to, body.clone());
        }
    }

    pub(super) fn others(&self, me: NodeId) -> Vec<NodeId> {
        self.members.iter().copied().filter(|node| *node != me).collect()
    }
}
