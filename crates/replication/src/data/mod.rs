//! Data types: a command is *evaluated* once, against one record, into a reply and a [`Write`];
//! the model makes the write into a new record. Replicas are told records, never commands: no
//! clock and no chance runs twice.

mod apply;
mod counter;
mod decimal;
mod expiry;
mod record;
mod string;
#[cfg(test)]
mod tests;

pub use apply::{mint, overwrite};
pub use string::STRING_BYTES_MAX;

use crate::command::{KeyCommand, Reply, Verb};
use crate::storage::record::Record;
use crate::version::{Dot, Stamp};
use alloc::borrow::Cow;
use alloc::vec::Vec;

/// What a command on one key comes to: the reply borrows from the record, the write from the
/// command, so that the record may be changed while the write is at hand.
#[derive(Clone, PartialEq, Debug)]
pub struct Evaluation<'r, 'c> {
    /// What to answer, once the write counts.
    pub reply: Reply<'r>,
    /// What to change.
    pub write: Write<'c>,
}

/// A change of one key, before the model has given it its stamp and its dot.
#[derive(Clone, PartialEq, Debug)]
pub enum Write<'a> {
    /// Nothing changes.
    Nothing,
    /// A new base.
    Set {
        /// The value.
        value: Cow<'a, [u8]>,
        /// What becomes of the deadline.
        expires_at_ms: ExpiresAt,
    },
    /// A new, absent base.
    Delete,
    /// Only the deadline changes; `None` takes it away.
    Expire(Option<u64>),
    /// An addition to the base.
    Increment {
        /// A whole number, or 0.
        integer: i64,
        /// A fraction, or 0.
        float: f64,
        /// The sum as a string, for a model that keeps no slots.
        sum: Vec<u8>,
    },
}

impl Write<'_> {
    /// How long the value becomes, in bytes, as far as the command says.
    pub fn value_bytes(&self) -> usize {
        match self {
            Write::Set { value, .. } => value.len(),
            Write::Increment { sum, .. } => sum.len(),
            Write::Nothing | Write::Delete | Write::Expire(_) => 0,
        }
    }
}

/// The deadline that goes with a new base.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ExpiresAt {
    /// The old record's.
    Keep,
    /// None.
    Never,
    /// This one, in milliseconds since 1970.
    At(u64),
}

/// How a new record is named.
#[derive(Clone, Copy, Debug)]
pub struct Name {
    /// Its moment.
    pub stamp: Stamp,
    /// Its write.
    pub dot: Dot,
}

/// What a command on one key comes to, given the key's record, with the semantics of Redis 7.
///
/// A record that is past its deadline, or without a value, is a key that does not exist. The reply
/// borrows from the record where it can: a GET of a plain string copies nothing.
#[inline]
pub fn evaluate<'r, 'c>(
    command: &KeyCommand<'c>,
    record: Option<&'r Record<'_>>,
    now_ms: u64,
) -> Evaluation<'r, 'c> {
    let live = record.filter(|record| record.is_live(now_ms));
    match command.verb {
        Verb::Get => string::get(live),
        Verb::Set { value, expiry, condition, get } => {
            string::set(&string::Set { value, expiry, condition, get }, live, now_ms)
        }
        Verb::SetIfAbsent(value) => string::set_if_absent(value, live),
        Verb::GetSet(value) => string::get_set(value, live),
        Verb::GetDelete => string::get_delete(live),
        Verb::GetExpire(expiry) => expiry::get_expire(expiry, live, now_ms),
        Verb::Append(value) => string::append(value, live),
        Verb::Length => string::length(live),
        Verb::GetRange(start, end) => string::get_range(start, end, live),
        Verb::SetRange(offset, value) => string::set_range(offset, value, live),
        Verb::Increment(delta) => counter::increment(delta, live),
        Verb::IncrementFloat(delta) => counter::increment_float(delta, live),
        Verb::Delete => match live {
            Some(_) => Evaluation { reply: Reply::Integer(1), write: Write::Delete },
            None => Evaluation::read(Reply::Integer(0)),
        },
        Verb::Exists => Evaluation::read(Reply::Integer(i64::from(live.is_some()))),
        Verb::Type => {
            let kind = if live.is_some() { "string" } else { "none" };
            Evaluation::read(Reply::Simple(Cow::Borrowed(kind)))
        }
        Verb::Expire(deadline, condition) => expiry::expire(deadline, condition, live, now_ms),
        Verb::TimeToLive { absolute, milliseconds } => {
            expiry::time_to_live(absolute, milliseconds, live, now_ms)
        }
        Verb::Persist => expiry::persist(live),
    }
}

impl<'r, 'c> Evaluation<'r, 'c> {
    /// An answer that changes nothing.
    fn read(reply: Reply<'r>) -> Evaluation<'r, 'c> {
        Evaluation { reply, write: Write::Nothing }
    }

    /// An error, which changes nothing.
    fn error(text: &'static str) -> Evaluation<'r, 'c> {
        Evaluation::read(Reply::error(text))
    }
}
