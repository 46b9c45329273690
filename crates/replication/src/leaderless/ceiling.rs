//! The durable ceiling below which this node gives stamps, so that a dot never names two writes.
//!
//! A dot's counter is the hybrid stamp of its write. A crash may lose the newest records, so the
//! clock alone could give a stamp again. Hence the log holds a ceiling above every stamp that
//! others may have heard of: reserved in blocks, ahead of time. A process begins above the ceiling
//! of the one before. A write above what is durably reserved (the first after a quiet time) is not
//! refused: it is only sent when its ceiling is durable.

use super::Leaderless;
use crate::Position;
use crate::data::Name;
use crate::keyspace::Durability;
use crate::mutant::Mutant;
use crate::turn::Turn;
use crate::version::{Dot, Stamp};

/// How far ahead of its stamps a node reserves, in milliseconds. A restarted node's clock may be
/// ahead of the wall by so much.
const BLOCK_MS: u64 = 10_000;

/// A new block is reserved when less than this is left, in milliseconds.
const LEFT_MIN_MS: u64 = 5_000;

/// What is reserved.
#[derive(Default)]
pub(super) struct Ceiling {
    /// No stamp above it was ever given.
    reserved: Stamp,
    /// The record that says so.
    position: Position,
    /// The ceiling that is known to be durable.
    durable: Stamp,
    /// The ceiling of earlier processes.
    recovered: Stamp,
}

impl Ceiling {
    /// A ceiling from the log.
    pub(super) fn recover(&mut self, ceiling: Stamp) {
        self.recovered = self.recovered.max(ceiling);
    }

    /// The newest ceiling, for the log's rolling image.
    pub(super) fn newest(&self) -> Stamp {
        self.reserved.max(self.recovered)
    }
}

impl Leaderless {
    /// A name for a write that has seen everything up to `seen`, and the record of the log that
    /// must be synced before anybody may hear it.
    pub(super) fn name_write(&mut self, turn: &mut Turn<'_>, seen: Stamp) -> (Name, Position) {
        self.clock.observe(self.ceiling.recovered);
        self.clock.observe(seen);
        let stamp = self.clock.next(turn.now.wall_ms);
        if turn.local.synced >= self.ceiling.position {
            self.ceiling.durable = self.ceiling.reserved;
        }
        if stamp.wall_ms().saturating_add(LEFT_MIN_MS) >= self.ceiling.reserved.wall_ms() {
            self.ceiling.reserved = Stamp::at(stamp.wall_ms().saturating_add(BLOCK_MS));
            let record = self.ceiling_record(self.ceiling.reserved);
            self.ceiling.position = turn.append(&record, Durability::Fsync);
        }
        let unreserved = stamp > self.ceiling.durable;
        let send_at = if unreserved { self.ceiling.position } else { Position(0) };
        let dot = Dot { actor: self.actor, counter: stamp.0 };
        let wall_only = turn.local.mutants.is(Mutant::WallClockWins);
        let stamp = if wall_only { Stamp::at(turn.now.wall_ms) } else { stamp };
        (Name { stamp, dot }, send_at)
    }
}
