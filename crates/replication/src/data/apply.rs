//! A write becomes a record: for models that order all writes of a key, and for models that merge.

use super::{ExpiresAt, Name, Write, counter};
use crate::storage::record::{Record, Value};
use alloc::borrow::Cow;

/// The key's new record where all its writes are ordered; `None` removes the key.
///
/// Every write gives the record its name, and increments become part of the base: there is
/// nothing to merge. `old` is what `evaluate` saw: a record past its deadline is given as `None`.
/// What a command has set is borrowed from it.
pub fn overwrite<'c>(write: Write<'c>, old: Option<&Record<'_>>, name: Name) -> Option<Record<'c>> {
    let (value, expires_at_ms) = match write {
        Write::Nothing => return old.cloned().map(Record::into_owned),
        Write::Delete => return None,
        Write::Set { value, expires_at_ms } => (value, deadline(expires_at_ms, old)),
        Write::Expire(expires_at_ms) => (Cow::Owned(old?.value()?.into_owned()), expires_at_ms),
        Write::Increment { sum, .. } => (Cow::Owned(sum), deadline(ExpiresAt::Keep, old)),
    };
    let Name { stamp, dot } = name;
    let (value, increments) = (Value::String(value), Cow::Borrowed(&[][..]));
    Some(Record { stamp, dot, value, expiry_stamp: stamp, expires_at_ms, increments })
}

/// The key's new record where concurrent writes are merged.
///
/// SET and DEL start a new base; a deadline and an increment belong to the base that they were
/// made on, so that they merge with others made on it. `old` is the record that `evaluate` saw,
/// as it counts at that moment: see [`Record::as_of`].
pub fn mint<'c>(write: Write<'c>, old: Option<&Record<'_>>, name: Name, actor: u64) -> Record<'c> {
    let base = || old.cloned().map_or_else(Record::never_written, Record::into_owned);
    match write {
        Write::Nothing => base(),
        Write::Delete => Record::tombstone(name),
        Write::Set { value, expires_at_ms } => Record {
            value: Value::String(value),
            expires_at_ms: deadline(expires_at_ms, old),
            ..Record::tombstone(name)
        },
        Write::Expire(expires_at_ms) => {
            Record { expires_at_ms, expiry_stamp: name.stamp, ..base() }
        }
        Write::Increment { integer, float, .. } => {
            let mut record = base();
            counter::add(record.increments.to_mut(), actor, integer, float);
            record
        }
    }
}

fn deadline(expires_at: ExpiresAt, old: Option<&Record<'_>>) -> Option<u64> {
    match expires_at {
        ExpiresAt::Keep => old.and_then(|record| record.expires_at_ms),
        ExpiresAt::Never => None,
        ExpiresAt::At(at) => Some(at),
    }
}
