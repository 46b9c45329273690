//! What a turn of another node has to say, part by part.

use super::Leaderless;
use super::message::Parts;
use super::parts::Part;
use crate::storage::store::{Hashes, IN_STEP, look_ahead_by};
use crate::turn::Turn;
use crate::wire::Reader;
use crate::{Event, NodeId};
use alloc::borrow::Cow;
use alloc::format;

impl Leaderless {
    /// What one turn of another node has to say. Each part counts only if its sender is a replica
    /// of the partition that it is about.
    pub(super) fn on_batch(&mut self, turn: &mut Turn<'_>, from: NodeId, parts: &Parts<'_>) {
        self.has_spoken(from);
        let (mut ahead, mut rest) = (Reader(&parts.0), Reader(&parts.0));
        while !ahead.is_empty() {
            let mut keys: [(u16, Hashes); IN_STEP] = Default::default();
            let mut count = 0;
            while let Some(place) = keys.get_mut(count).filter(|_| !ahead.is_empty()) {
                // What is malformed here is told when the part is read.
                let named = Part::skim(&mut ahead).unwrap_or_default();
                *place = named.map_or((u16::MAX, Hashes::default()), |(partition, key)| {
                    (partition, self.operations.hashes(key))
                });
                count += 1;
            }
            let keys = keys.get(..count).unwrap_or_default();
            look_ahead_by(keys.iter().filter_map(|(partition, hashes)| {
                Some((&self.partitions.at(*partition)?.store, *hashes))
            }));
            for (_, hashes) in keys {
                let Ok(part) = Part::decode(&mut rest) else {
                    let text = format!("malformed parts of a batch from {from}");
                    return turn.event(Event::Alarm(Cow::Owned(text)));
                };
                self.on_part(turn, from, part, *hashes);
            }
        }
    }

    /// One part. The hashes are those of the key that it names, if it names one.
    #[inline]
    fn on_part(&mut self, turn: &mut Turn<'_>, from: NodeId, part: Part<'_>, hashes: Hashes) {
        match part {
            // A coordinator wants a record kept.
            Part::Write { operation, partition, body } => {
                self.on_write(turn, from, (operation, partition), &body, hashes);
            }
            // A replica has kept ours.
            Part::Kept { operation } => self.on_write_answer(turn, from, operation, None),
            // A replica holds a newer one.
            Part::Newer { operation, record } => {
                self.on_write_answer(turn, from, operation, Some(&record));
            }
            // A coordinator wants to know what we hold.
            Part::Read { operation, partition, digest, key } => {
                self.on_read(turn, from, (operation, digest), (partition, key), hashes);
            }
            // A replica says what it holds.
            Part::Same { operation } => self.on_read_answer(turn, from, operation, None),
            Part::Missing { operation } => {
                self.on_read_answer(turn, from, operation, Some(None));
            }
            Part::Holds { operation, record } => {
                self.on_read_answer(turn, from, operation, Some(Some(record)));
            }
            // A replica does not know.
            Part::NotReady { operation } => self.on_not_ready(turn, from, operation),
            // A coordinator has seen that we are stale.
            Part::Repair { partition, body } => {
                self.on_repair(turn, from, partition, &body, hashes);
            }
        }
    }
}
