//! What a turn of another node has to say, part by part.

use super::Leaderless;
use super::message::Parts;
use super::parts::Part;
use crate::storage::store::{IN_STEP, look_ahead};
use crate::turn::Turn;
use crate::{Event, NodeId};
use alloc::borrow::Cow;
use alloc::format;

impl Leaderless {
    /// What one turn of another node has to say. Each part counts only if its sender is a replica
    /// of the partition that it is about.
    pub(super) fn on_batch(&mut self, turn: &mut Turn<'_>, from: NodeId, parts: &Parts<'_>) {
        self.has_spoken(from);
        let mut parts = parts.iter().peekable();
        while parts.peek().is_some() {
            let some: [_; IN_STEP] = core::array::from_fn(|_| parts.next());
            look_ahead(some.iter().flatten().flatten().filter_map(|part| match part {
                Part::Write { partition, body, .. } => {
                    Some((&self.partitions.at(*partition)?.store, body.key))
                }
                Part::Read { partition, key, .. } => {
                    Some((&self.partitions.at(*partition)?.store, *key))
                }
                _ => None,
            }));
            for part in some.into_iter().flatten() {
                let Ok(part) = part else {
                    let text = format!("malformed parts of a batch from {from}");
                    return turn.event(Event::Alarm(Cow::Owned(text)));
                };
                self.on_part(turn, from, part);
            }
        }
    }

    fn on_part(&mut self, turn: &mut Turn<'_>, from: NodeId, part: Part<'_>) {
        match part {
            // A coordinator wants a record kept.
            Part::Write { operation, partition, body } => {
                self.on_write(turn, from, operation, partition, &body);
            }
            // A replica has kept ours.
            Part::Kept { operation } => self.on_write_answer(turn, from, operation, None),
            // A replica holds a newer one.
            Part::Newer { operation, record } => {
                self.on_write_answer(turn, from, operation, Some(&record));
            }
            // A coordinator wants to know what we hold.
            Part::Read { operation, partition, digest, key } => {
                self.on_read(turn, from, (operation, digest), partition, key);
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
            Part::Repair { partition, body } => self.on_repair(turn, from, partition, &body),
        }
    }
}
