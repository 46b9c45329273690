//! What a record means: whether its key exists, what its value is, how old it is.

use super::{Name, counter};
use crate::storage::record::{Record, Value};
use crate::version::{Dot, Stamp};
use alloc::borrow::Cow;

impl<'a> Record<'a> {
    /// The record of a deleted key.
    pub fn tombstone(name: Name) -> Record<'a> {
        Record {
            stamp: name.stamp,
            dot: name.dot,
            value: Value::Absent,
            expiry_stamp: name.stamp,
            expires_at_ms: None,
            increments: Cow::Borrowed(&[]),
        }
    }

    /// What increments are made on where a key was never written: older than every write, and the
    /// same for all actors, so that two who create a counter at the same time add up.
    pub(super) fn never_written() -> Record<'a> {
        Record::tombstone(Name { stamp: Stamp::ZERO, dot: Dot::default() })
    }

    /// Whether the key exists: it has a value, or increments on none, and its deadline is not
    /// reached.
    #[inline]
    pub fn is_live(&self, now_ms: u64) -> bool {
        self.has_value() && !self.is_past(now_ms)
    }

    /// The value, increments added up; `None` for a tombstone. Does not look at the deadline.
    #[inline]
    pub fn value(&self) -> Option<Cow<'_, [u8]>> {
        match &self.value {
            Value::String(bytes) if self.increments.is_empty() => Some(Cow::Borrowed(bytes)),
            Value::String(bytes) => Some(counter::total(Some(bytes), &self.increments)),
            Value::Absent if self.increments.is_empty() => None,
            Value::Absent => Some(counter::total(None, &self.increments)),
        }
    }

    /// The record as it counts at a moment: past its deadline it is a tombstone.
    ///
    /// That tombstone is the same on every replica: its stamp follows from the record alone. It is
    /// newer than the record, and not older than the deadline, so that what is written on it after
    /// the deadline wins over the record; whatever is written then has a larger stamp yet. It is a
    /// way to look at a record: replicas keep and merge the record itself, or else the tombstone
    /// would win over a longer life that another replica has given the key at the same time.
    pub fn as_of(&self, now_ms: u64) -> Record<'_> {
        match self.expires_at_ms {
            Some(deadline) if self.has_value() && deadline <= now_ms => {
                let stamp = Stamp(self.stamp.0.saturating_add(1)).max(Stamp::at(deadline));
                Record::tombstone(Name { stamp, dot: self.dot })
            }
            _ => self.borrowed(),
        }
    }

    /// The newest stamp in the record: a clock that has seen it gives larger ones.
    pub fn newest_stamp(&self) -> Stamp {
        self.stamp.max(self.expiry_stamp)
    }

    fn has_value(&self) -> bool {
        self.value != Value::Absent || !self.increments.is_empty()
    }

    fn is_past(&self, now_ms: u64) -> bool {
        self.expires_at_ms.is_some_and(|deadline| deadline <= now_ms)
    }
}
