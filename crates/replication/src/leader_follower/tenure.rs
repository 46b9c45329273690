//! Since when a group has had its leader, or none, and why that changed: for the operator's eyes.

use super::Group;
use crate::turn::Turn;
use alloc::borrow::Cow;
use alloc::format;

/// The newest change of leader that this node knows of.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Tenure {
    /// When, in milliseconds since 1970 by this node's wall clock; 0 if there was none yet.
    pub since_ms: u64,
    /// Why, in words.
    pub why: Cow<'static, str>,
    /// In which epoch it was noted.
    epoch: u64,
    /// Whether it is the end of this node's own leadership.
    is_end: bool,
}

impl Group {
    /// Since when and why the group has the leader that it has, or has none.
    pub fn tenure(&self) -> &Tenure {
        &self.tenure
    }

    /// Why the group has the leader that it has, or has none, in words.
    pub fn why(&self) -> Cow<'static, str> {
        if self.voters.is_born() {
            return self.tenure.why.clone();
        }
        Cow::Borrowed(
            "the group has not begun: it does when all its members have been started once and \
             have heard each other",
        )
    }

    /// The leader has changed, and this node knows why.
    pub(super) fn note_tenure(&mut self, turn: &Turn<'_>, why: Cow<'static, str>) {
        self.tenure = Tenure { since_ms: turn.now.wall_ms, why, epoch: self.epoch, is_end: false };
    }

    /// This node leads no longer.
    pub(super) fn note_end_of_tenure(&mut self, turn: &Turn<'_>, why: Cow<'static, str>) {
        self.note_tenure(turn, why);
        self.tenure.is_end = true;
    }

    /// Somebody else leads in this epoch: where this node has led before, its own end is why.
    pub(super) fn note_elected(&mut self, turn: &Turn<'_>) {
        if self.tenure.epoch >= self.epoch {
            return;
        }
        let why = match self.tenure.is_end {
            true => self.tenure.why.clone(),
            false => Cow::Owned(format!("another leader was elected in epoch {}", self.epoch)),
        };
        self.note_tenure(turn, why);
    }
}
