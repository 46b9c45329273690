//! Commands that read to write: INCR and its family, DEL, EXPIRE, PERSIST, GETEX, SET KEEPTTL.
//!
//! What R replicas answered is merged into what is kept here; the command is evaluated on that
//! and minted into a record that contains it. So a slot of this actor only grows, and what others
//! have added stays.

use super::Leaderless;
use super::operation::{Phase, partial};
use super::parts::Body;
use crate::command::Reply;
use crate::conflict::last_write_wins::{self, Outcome};
use crate::data::{self, Write};
use crate::keyspace::Durability;
use crate::storage::record::Record;
use crate::turn::Turn;
use crate::version::Stamp;
use crate::wire::Reader;
use alloc::vec::Vec;

impl Leaderless {
    /// Carries out a command on what is kept here and what was learned from others.
    pub(super) fn modify(&mut self, turn: &mut Turn<'_>, place: u32, learned: Option<&Record<'_>>) {
        let Some(operation) = self.operations.at_mut(place) else { return };
        let Some(held) = self.partitions.at(operation.partition) else { return };
        let command = core::mem::take(&mut operation.command);
        let mut body = core::mem::take(&mut operation.body);
        let stored = held.store.get_by(command.key(), operation.hashes);
        let newest = match (stored, learned) {
            (None, learned) => learned.map(Record::borrowed),
            (Some(stored), None) => Some(stored),
            (Some(stored), Some(learned)) => {
                Some(match last_write_wins::merge(&stored, &learned.borrowed()).outcome {
                    Outcome::Kept => stored,
                    Outcome::Incoming => learned.borrowed(),
                    Outcome::Both(merged) => merged,
                })
            }
        };
        let newest = newest.map(|newest| newest.as_of(turn.now.wall_ms).into_owned());
        let evaluation = data::evaluate(&command.command(), newest.as_ref(), turn.now.wall_ms);
        let reply = evaluation.reply.into_owned();
        let nothing = evaluation.write == Write::Nothing;
        body.clear();
        if !nothing {
            let seen = newest.as_ref().map_or(Stamp::ZERO, |newest| newest.newest_stamp());
            let (name, _) = self.name_write(turn, seen);
            let record = data::mint(evaluation.write, newest.as_ref(), name, self.actor);
            Body::encode(&mut body, command.key(), &record);
        }
        let Some(operation) = self.operations.at_mut(place) else { return };
        (operation.command, operation.body) = (command, body);
        if nothing {
            return self.hold_unwritten(turn, place, learned, reply);
        }
        let Some(held) = self.partitions.at_mut(operation.partition) else { return };
        // What this node has encoded itself is never malformed.
        let Ok(body) = Body::decode(&mut Reader(&operation.body)) else { return };
        // Always synced before it is sent, also in an `interval-1s` keyspace: after a crash the
        // slot would be used again with other content.
        let own = held.keep(turn, operation.hashes, &body, Durability::Fsync).gate;
        self.send_to_all(turn, place, reply, own, own.newest());
    }

    /// Nothing is to be written. The reply shows what is kept here: it waits until that is durable.
    fn hold_unwritten(
        &mut self,
        turn: &mut Turn<'_>,
        place: u32,
        learned: Option<&Record<'_>>,
        mut reply: Reply<'static>,
    ) {
        let Some(operation) = self.operations.at(place) else { return };
        let Some(held) = self.partitions.at_mut(operation.partition) else { return };
        if operation.rewrites > 0 && reply.is_error() {
            // An error would say that nothing was written; but what was made from the older
            // base is somewhere, and is seen until the newer base has come there, too.
            reply = Reply::error(partial(0, operation.w, held.replicas.len()));
        }
        if let Some(learned) = learned {
            let mut bytes = Vec::new();
            Body::encode(&mut bytes, operation.key(), learned);
            if let Ok(body) = Body::decode(&mut Reader(&bytes)) {
                held.keep(turn, operation.hashes, &body, self.options.durability);
            }
        }
        let gate = held.gate(operation.hashes.slot);
        let number = self.begin_phase(turn, place, Phase::Holding(gate, reply));
        if !gate.is_open(turn.local) {
            self.await_gate(turn, number, gate);
        }
        self.advance_at(turn, place);
    }
}
