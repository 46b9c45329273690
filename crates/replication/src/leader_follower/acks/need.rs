//! What a write's reply waits for: so many copies of a kind. Mostly the keyspace's own, but a
//! single command may ask for more, and for less where its keyspace lets it.
//!
//! It moves the reply to this writer and nothing else: an entry is committed by C durable copies
//! and visible from min(A, C) durable copies on, whatever any writer waits for.

use super::super::message::Wants;
use super::super::{Group, Role};
use crate::command::verb::With;
use crate::keyspace::{AckLevel, MissingAcks};
use crate::mutant::Mutant;
use crate::quorum::copies_of;
use crate::turn::Turn;
use alloc::borrow::Cow;
use alloc::format;

/// Writes of one group that wait for something else than their keyspace's acks. They are looked
/// at one by one whenever copies are added.
pub const SPECIAL_WRITES_MAX: usize = 4096;

/// What a write's reply waits for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Need {
    /// Replicas, the leader included.
    pub copies: usize,
    /// When a replica counts.
    pub level: AckLevel,
    /// The writer has said so himself, and gets that or nothing: also where it is what his keyspace
    /// declares, and acks that are missing there are lowered for others.
    pub is_firm: bool,
}

impl Group {
    /// What the keyspace's writers wait for.
    pub fn need(&self) -> Need {
        Need { copies: self.quorum.acks, level: self.options.ack_level, is_firm: false }
    }

    /// What a writer waits for who says so himself.
    ///
    /// # Errors
    /// Why he cannot: nothing was written.
    pub fn need_with(&self, turn: &Turn<'_>, with: With) -> Result<Need, Cow<'static, str>> {
        let usual = self.need();
        if with.acks.is_none() && with.level.is_none() {
            return Ok(usual);
        }
        let replicas = self.quorum.replicas;
        let acks = with.acks.unwrap_or(self.options.acks);
        let level = with.level.unwrap_or(usual.level);
        // Where nothing is lowered, who asks for what is declared may wait in line with the others.
        let is_firm = self.options.missing_acks == MissingAcks::Degrade
            && !turn.local.mutants.is(Mutant::NamedAcksDegraded);
        let need = Need { copies: copies_of(acks, replicas), level, is_firm };
        if need.copies > replicas || need.copies == 0 {
            let copies = need.copies;
            return Err(Cow::Owned(format!(
                "ERR ACKS {acks} means {copies} copies, and there are {replicas} replicas; nothing \
                 was written"
            )));
        }
        let is_weaker = need.copies < usual.copies || need.level < usual.level;
        if is_weaker && !self.options.weaker_acks {
            return Err(Cow::Owned(format!(
                "ERR {acks} {level} (A = {}) is weaker than the keyspace's {} {} (A = {}), and \
                 weaker-acks is false there; nothing was written",
                need.copies, self.options.acks, usual.level, usual.copies
            )));
        }
        match &self.role {
            Role::Leader(leader) if leader.held.special.len() >= SPECIAL_WRITES_MAX => {
                Err(Cow::Borrowed(
                    "TRYAGAIN too many writes with acks of their own wait; nothing was written",
                ))
            }
            _ => Ok(need),
        }
    }

    /// What the followers are to tell at once because somebody waits for it.
    pub(in super::super) fn wants(&self) -> Wants {
        let Role::Leader(leader) = &self.role else { return Wants::default() };
        let (held, usual) = (&leader.held, self.options.ack_level);
        let waits_for = |level| {
            (usual == level && !held.writes.is_empty())
                || held.special.iter().any(|special| special.need.level == level)
        };
        Wants {
            received: waits_for(AckLevel::Received),
            applied: waits_for(AckLevel::Applied),
            synced: held.waits.iter().any(|wait| wait.local.is_some()),
        }
    }
}
