//! Strings: reading them, writing them, reading and writing parts of them.

use super::{Evaluation, ExpiresAt, Write, expiry};
use crate::command::verb::{Condition, Expiry};
use crate::command::{Reply, error};
use crate::storage::record::Record;
use alloc::borrow::Cow;
use alloc::vec::Vec;

/// The longest that a string may become, in bytes: 512 MiB, Redis's default.
pub const STRING_BYTES_MAX: usize = 512 << 20;

const NOTHING: Cow<'static, [u8]> = Cow::Borrowed(&[]);

/// SET's parts.
pub(super) struct Set<'a> {
    pub(super) value: &'a [u8],
    pub(super) expiry: Expiry,
    pub(super) condition: Condition,
    pub(super) get: bool,
}

#[inline]
pub(super) fn get<'r>(live: Option<&'r Record<'_>>) -> Evaluation<'r, 'static> {
    Evaluation::read(value_or_nil(live))
}

#[inline]
pub(super) fn set<'r, 'c>(
    set: &Set<'c>,
    live: Option<&'r Record<'_>>,
    now_ms: u64,
) -> Evaluation<'r, 'c> {
    let allowed = match set.condition {
        Condition::Always => true,
        Condition::IfAbsent => live.is_none(),
        Condition::IfPresent => live.is_some(),
    };
    let reply = match (set.get, allowed) {
        (true, _) => value_or_nil(live),
        (false, true) => Reply::Ok,
        (false, false) => Reply::Nil,
    };
    if !allowed {
        return Evaluation::read(reply);
    }
    let expires_at_ms = match set.expiry {
        Expiry::Clear => ExpiresAt::Never,
        Expiry::Keep => keep(live),
        Expiry::Set(deadline) => match expiry::moment(deadline, now_ms) {
            Some(at) if at > now_ms => ExpiresAt::At(at),
            // In the past: what is set is gone at once.
            _ => return Evaluation { reply, write: Write::Delete },
        },
    };
    Evaluation { reply, write: Write::Set { value: Cow::Borrowed(set.value), expires_at_ms } }
}

pub(super) fn set_if_absent<'c>(
    value: &'c [u8],
    live: Option<&Record<'_>>,
) -> Evaluation<'static, 'c> {
    match live {
        Some(_) => Evaluation::read(Reply::Integer(0)),
        None => Evaluation { reply: Reply::Integer(1), write: set_forever(value) },
    }
}

pub(super) fn get_set<'r, 'c>(value: &'c [u8], live: Option<&'r Record<'_>>) -> Evaluation<'r, 'c> {
    Evaluation { reply: value_or_nil(live), write: set_forever(value) }
}

pub(super) fn get_delete<'r>(live: Option<&'r Record<'_>>) -> Evaluation<'r, 'static> {
    let write = if live.is_some() { Write::Delete } else { Write::Nothing };
    Evaluation { reply: value_or_nil(live), write }
}

pub(super) fn append<'c>(suffix: &'c [u8], live: Option<&Record<'_>>) -> Evaluation<'static, 'c> {
    let old = value(live);
    if old.len().saturating_add(suffix.len()) > STRING_BYTES_MAX {
        return Evaluation::error(error::TOO_LONG);
    }
    let new: Cow<'c, [u8]> = if old.is_empty() {
        Cow::Borrowed(suffix)
    } else {
        let mut new = Vec::with_capacity(old.len() + suffix.len());
        new.extend_from_slice(&old);
        new.extend_from_slice(suffix);
        Cow::Owned(new)
    };
    changed(new, live)
}

pub(super) fn length(live: Option<&Record<'_>>) -> Evaluation<'static, 'static> {
    Evaluation::read(count(value(live).len()))
}

pub(super) fn get_range<'r>(
    start: i64,
    end: i64,
    live: Option<&'r Record<'_>>,
) -> Evaluation<'r, 'static> {
    let value = value(live);
    let (first, after) = range(start, end, value.len());
    let part = match value {
        Cow::Borrowed(bytes) => Cow::Borrowed(bytes.get(first..after).unwrap_or_default()),
        Cow::Owned(bytes) => Cow::Owned(bytes.get(first..after).unwrap_or_default().into()),
    };
    Evaluation::read(Reply::Bulk(part))
}

pub(super) fn set_range(
    offset: u64,
    part: &[u8],
    live: Option<&Record<'_>>,
) -> Evaluation<'static, 'static> {
    let old = value(live);
    if part.is_empty() {
        return Evaluation::read(count(old.len()));
    }
    let offset = usize::try_from(offset).unwrap_or(usize::MAX);
    let after = offset.saturating_add(part.len());
    if after > STRING_BYTES_MAX {
        return Evaluation::error(error::TOO_LONG);
    }
    let mut new = Vec::with_capacity(old.len().max(after));
    new.extend_from_slice(old.get(..offset).unwrap_or(&old));
    new.resize(offset, 0);
    new.extend_from_slice(part);
    new.extend_from_slice(old.get(after..).unwrap_or_default());
    changed(Cow::Owned(new), live)
}

/// The value, empty where there is none.
pub(super) fn value<'r>(live: Option<&'r Record<'_>>) -> Cow<'r, [u8]> {
    live.and_then(Record::value).unwrap_or(NOTHING)
}

#[inline]
pub(super) fn value_or_nil<'r>(live: Option<&'r Record<'_>>) -> Reply<'r> {
    live.and_then(Record::value).map_or(Reply::Nil, Reply::Bulk)
}

/// The old deadline, if there is one.
fn keep(live: Option<&Record<'_>>) -> ExpiresAt {
    match live.and_then(|record| record.expires_at_ms) {
        Some(_) => ExpiresAt::Keep,
        None => ExpiresAt::Never,
    }
}

fn set_forever(value: &[u8]) -> Write<'_> {
    Write::Set { value: Cow::Borrowed(value), expires_at_ms: ExpiresAt::Never }
}

/// A value made from the old one; replies its length.
fn changed<'c>(new: Cow<'c, [u8]>, live: Option<&Record<'_>>) -> Evaluation<'static, 'c> {
    let reply = count(new.len());
    Evaluation { reply, write: Write::Set { value: new, expires_at_ms: keep(live) } }
}

fn count(length: usize) -> Reply<'static> {
    Reply::Integer(i64::try_from(length).unwrap_or(i64::MAX))
}

/// From where to where GETRANGE reads; negative counts from the end, the last one is included.
fn range(start: i64, end: i64, length: usize) -> (usize, usize) {
    let signed = i64::try_from(length).unwrap_or(i64::MAX);
    let place = |at: i64| if at < 0 { at.saturating_add(signed) } else { at };
    if start < 0 && end < 0 && start > end {
        return (0, 0);
    }
    let first = place(start).max(0);
    // Redis reads the first byte even where the end is before the start of the string.
    let last = place(end).max(0).min(signed.saturating_sub(1));
    if first > last {
        return (0, 0);
    }
    (usize::try_from(first).unwrap_or(length), usize::try_from(last).map_or(length, |n| n + 1))
}
