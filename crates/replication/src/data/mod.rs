//! Data types: a command is *evaluated* once, against one record, into a reply and a [`Write`];
//! the model makes the write into a new record. Replicas are told records, never commands: no
//! clock and no chance runs twice.

use crate::command::Reply;
use crate::storage::record::Record;
use crate::version::{Dot, Stamp};
use alloc::borrow::Cow;
use alloc::vec::Vec;

/// What a command on one key comes to.
#[derive(Clone, PartialEq, Debug)]
pub struct Evaluation<'a> {
    /// What to answer, once the write counts.
    pub reply: Reply<'a>,
    /// What to change.
    pub write: Write<'a>,
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

#[allow(unused)]
fn uses(_: &Record) {}
