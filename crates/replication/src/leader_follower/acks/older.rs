//! A read of a key whose newest write does not become visible: while copies are missing, because
//! disks stall or replicas are down, the key stays readable.
//!
//! The read waits for the write, as it always does. At its deadline it is answered with what was
//! visible of the key when it was evaluated, if a lease or a round that began after that has
//! confirmed this leader. That is linearizable: at the moment of evaluation this node led, nobody
//! had been shown or told of the newer write, so that it takes effect later, or never; and nobody
//! is shown an older state afterwards, for what is visible only grows, and a newer leader's reads
//! come after this node's last lease or round. `docs/decisions/011` has the argument.
//!
//! Where one of the hidden writes became visible meanwhile, or its writer was told that it is done,
//! and only a later one of them did not, the reader is told to try again: the first may be one that
//! he has sent before, on the same connection.
//!
//! Where a writer was told OK for less than what makes a write visible (level `received`, or a
//! weaker ack that the keyspace allows), the older state would contradict him: there the reader is
//! told to try again. So he is where a write waits beyond its deadline (`when-acks-are-missing` is
//! `block` or `degrade`) and one that is not visible is the reader's own, sent before on the same
//! connection: it may still be acknowledged, and he must not miss his own. And where all keys are
//! about to be removed, where writes merge, and where the read came right after the standstill
//! began: the older state is looked for only then.

use super::super::entry::Entry;
use super::super::leader::Leader;
use super::super::{Group, Role};
use crate::command::{KeyCommand, Reply};
use crate::data::{self, Write};
use crate::keyspace::MissingAcks;
use crate::turn::Turn;

/// How long nothing has become visible before readers are given a second answer for the case that
/// it stays so, in microseconds: longer than a sync takes when all is well.
const STILL_US: u64 = 20_000;

/// What became visible, and when.
#[derive(Clone, Copy, Debug, Default)]
pub(in super::super) struct Sight {
    /// Since when nothing has.
    since_us: u64,
    /// The newest entry whose writer was told that it is done.
    told: u64,
}

/// What a read answers that saw a write which is not visible.
pub(in super::super) struct Either {
    /// What it saw.
    pub(in super::super) newest: Reply<'static>,
    /// What was visible.
    pub(in super::super) older: Reply<'static>,
    /// The first write of the key that was not.
    pub(in super::super) hidden: u64,
}

impl Sight {
    /// What is visible has grown.
    pub(in super::super) fn grew(&mut self, now_us: u64) {
        self.since_us = now_us;
    }

    /// A writer is told that it is done.
    pub(in super::super) fn told(&mut self, index: u64) {
        self.told = self.told.max(index);
    }
}

impl Leader {
    /// Whether nobody was shown an entry, or told that it is done.
    pub(in super::super) fn hides(&self, index: u64) -> bool {
        self.visible.max(self.sight.told) < index
    }
}

impl Group {
    /// The answer to a read that saw a write which is not visible and may not become so in time:
    /// what is visible now, and the first write that is hidden by that; `None` where it must not be
    /// told, or nothing stands still.
    pub(in super::super) fn older_reply(
        &self,
        turn: &Turn<'_>,
        command: &KeyCommand<'_>,
        index: u64,
        now_ms: u64,
    ) -> Option<(Reply<'static>, u64)> {
        let Role::Leader(leader) = &self.role else { return None };
        let still_us = turn.now.monotonic_us.saturating_sub(leader.sight.since_us);
        let is_told = leader.sight.told > leader.visible;
        if index <= leader.visible || still_us < STILL_US || is_told || !self.is_serving() {
            return None;
        }
        // A write that outlives the read's deadline may yet be acknowledged.
        let outlives = self.options.missing_acks != MissingAcks::Error;
        if outlives && self.has_own_after(turn, leader.visible) {
            return None;
        }
        let (record, hidden) = self.state.record_at(command.key, leader.visible)?;
        let evaluation = data::evaluate(command, record.as_ref(), now_ms);
        let says = evaluation.write == Write::Nothing;
        says.then(|| (evaluation.reply.into_owned(), hidden))
    }

    /// Whether who asks now has written anything behind an entry, on the same connection.
    fn has_own_after(&self, turn: &Turn<'_>, index: u64) -> bool {
        let Some(asker) = &turn.local.asker else { return true };
        (index + 1..=self.log.last_index()).any(|index| {
            let Some(body) = self.log.get(index) else { return true };
            match Entry::asker_of(body) {
                Ok(Some(by)) => {
                    (by.node, by.process, by.client) == (asker.node, asker.process, asker.client)
                }
                Ok(None) => false,
                Err(_) => true,
            }
        })
    }
}
