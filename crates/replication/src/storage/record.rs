//! The one record format of all models: what is kept for a key.

use crate::version::{Dot, Stamp};
use alloc::borrow::Cow;

/// What is kept for a key.
///
/// A string is a *base* plus the increments made on that base, one slot per actor. SET and DEL
/// start a new base. Two records with the same (stamp, dot) have the same base; they merge slot by
/// slot. Leader-follower keyspaces fold increments into the base and never have slots.
///
/// A record that was read from a message or an entry borrows from its bytes.
#[derive(Clone, PartialEq, Debug)]
pub struct Record<'a> {
    /// When the base was written.
    pub stamp: Stamp,
    /// Which write made the base.
    pub dot: Dot,
    /// The base. `Absent` without increments is a deleted or never written key.
    pub value: Value<'a>,
    /// When `expires_at_ms` was last set; the larger stamp wins among records of one base.
    pub expiry_stamp: Stamp,
    /// The moment, in wall-clock milliseconds since 1970, from which the key no longer exists.
    pub expires_at_ms: Option<u64>,
    /// In actor order, one slot for each.
    pub increments: Cow<'a, [Increment]>,
}

/// The base of a record.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Value<'a> {
    /// No value: a tombstone, or the base of a counter that was never set.
    Absent,
    /// A Redis string.
    String(Cow<'a, [u8]>),
}

/// All that one actor has added to a base.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Increment {
    /// Who.
    pub actor: u64,
    /// How often he has added: of two states of a slot the one with the larger count is newer.
    pub count: u64,
    /// The sum of his whole increments.
    pub integer: i64,
    /// The sum of his fractional increments.
    pub float: f64,
}

impl Record<'_> {
    /// The same record, borrowing from this one.
    #[inline]
    pub fn borrowed(&self) -> Record<'_> {
        let value = match &self.value {
            Value::Absent => Value::Absent,
            Value::String(bytes) => Value::String(Cow::Borrowed(bytes)),
        };
        Record { value, increments: Cow::Borrowed(&self.increments), ..*self }
    }

    /// The same record, borrowing nothing.
    pub fn into_owned(self) -> Record<'static> {
        let value = match self.value {
            Value::Absent => Value::Absent,
            Value::String(bytes) => Value::String(Cow::Owned(bytes.into_owned())),
        };
        Record { value, increments: Cow::Owned(self.increments.into_owned()), ..self }
    }
}
