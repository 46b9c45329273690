//! How far an epoch leaps. It rises by one with each election, and by far more with an operator's
//! word: the disks that are lost may have been in epochs of which those that are left know nothing,
//! and an epoch that two leaders have had is no name. A leader of the same number would give the
//! lost entries' names to others: a lost write would be told to be committed, and an old disk that
//! comes back would find that its log matches. So the word's epoch is above all that elections can
//! have reached, and above the old disks', of which the voters that they know elect none any more.
//! It is drawn by chance: of two words, each on disks that know nothing of the other's, neither
//! takes the epochs of the other.
//!
//! An epoch that no group can have reached is garbage, and to believe it would use the numbers up:
//! at the last one nobody could be elected any more, or two in the same epoch.
//!
//! It is refused wherever a peer says it, before anything is changed, and counted as an epoch that
//! is refused. A peer that leaps again and again, each time by less than the bound, is no garbage
//! but an enemy with the cluster's secret: that is left out.

use super::Group;
use crate::random::Random;
use crate::turn::Turn;
use crate::{Event, NodeId};

/// By so much, and by chance up to as much again, an operator's word is ahead of all epochs that
/// are heard of: an election a second for 136 years.
const WORD_LEAP: u64 = 1 << 32;

/// By so much an epoch may be ahead: 2048 operators' words in the life of a group, which a node
/// with an empty disk hears of all at once. It leaves 48 bits for the epochs that are believed
/// (`multi_leader/leader.rs` names writes by so many).
const LEAP_MAX: u64 = 1 << 44;

/// The epoch of an operator's word, where this one is the newest that is heard of.
pub fn epoch_of_word(newest: u64, random: &mut Random) -> u64 {
    newest.saturating_add(random.range(WORD_LEAP, 2 * WORD_LEAP))
}

/// Whether an epoch that a peer says is no such that a group can have reached, given one that it
/// has.
pub fn is_leap(known: u64, said: u64) -> bool {
    said.saturating_sub(known) > LEAP_MAX
}

impl Group {
    /// Whether a peer says an epoch that cannot be; it is told, if so.
    pub(super) fn refuses_leap(&self, turn: &mut Turn<'_>, from: NodeId, epoch: u64) -> bool {
        let leaps = is_leap(self.epoch, epoch);
        if leaps {
            turn.event(Event::EpochRefused { group: self.id, from, epoch });
        }
        leaps
    }
}
