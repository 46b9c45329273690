//! Commands that read to write: INCR and its family, DEL, EXPIRE, PERSIST, GETEX, SET KEEPTTL.
//!
//! What R replicas answered is merged into what is kept here; the command is evaluated on that
//! and minted into a record that contains it. So a slot of this actor only grows, and what others
//! have added stays.

use super::Leaderless;
use super::operation::{Operation, Phase, partial};
use crate::command::Reply;
use crate::data::{self, Write};
use crate::keyspace::Durability;
use crate::storage::record::Record;
use crate::turn::Turn;
use crate::version::Stamp;

impl Leaderless {
    /// Carries out a command on what is kept here and what was learned from others.
    pub(super) fn modify(
        &mut self,
        turn: &mut Turn<'_>,
        mut operation: Operation,
        learned: Option<&Record<'_>>,
    ) {
        let Some(held) = self.held.get(&operation.group) else { return };
        let key = &operation.command.key;
        let merged = learned.and_then(|learned| held.merged(key, learned));
        let newest = merged.or_else(|| held.store.get(key).map(Record::into_owned));
        let newest = newest.map(|newest| newest.as_of(turn.now.wall_ms).into_owned());
        let command = operation.command.command();
        let evaluation = data::evaluate(&command, newest.as_ref(), turn.now.wall_ms);
        let mut reply = evaluation.reply.into_owned();
        if evaluation.write == Write::Nothing {
            if operation.rewrites > 0 && reply.is_error() {
                // An error would say that nothing was written; but what was made from the older
                // base is somewhere, and is seen until the newer base has come there, too.
                let n = self.held.get(&operation.group).map_or(0, |held| held.replicas.len());
                reply = Reply::error(partial(0, operation.w, n));
            }
            // The reply shows what is kept here: it waits until that is durable.
            if let Some(learned) = learned {
                self.keep_record(turn, operation.group, key, learned, self.options.durability);
            }
            let gate = self.held.get(&operation.group).map(|held| held.gate(key));
            let gate = gate.unwrap_or_default();
            operation.phase = Phase::Holding(gate, reply);
            let id = self.keep(turn, operation);
            if !gate.is_open(turn.local) {
                self.await_gate(turn, id, gate);
            }
            return self.advance(turn, id);
        }
        let seen = newest.as_ref().map_or(Stamp::ZERO, Record::newest_stamp);
        let (name, _) = self.name_write(turn, seen);
        let record = data::mint(evaluation.write, newest.as_ref(), name, self.actor).into_owned();
        // Always synced before it is sent, also in an `interval-1s` keyspace: after a crash the
        // slot would be used again with other content.
        self.send_to_all(turn, operation, record, reply, Durability::Fsync, None);
    }
}
