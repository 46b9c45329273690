//! Deadlines: giving a key one, taking it away, asking for it.

use super::{Evaluation, Write, string};
use crate::command::Reply;
use crate::command::verb::{Deadline, ExpireCondition, Expiry};
use crate::storage::record::Record;

/// What TTL and its like reply where there is no key.
const NO_KEY: i64 = -2;
/// What they reply where the key has no deadline.
const NO_DEADLINE: i64 = -1;
const MS_PER_SECOND: u64 = 1000;

/// The deadline in milliseconds since 1970; `None` is before all time. The parser refuses what
/// would overflow.
pub(super) fn moment(deadline: Deadline, now_ms: u64) -> Option<u64> {
    match deadline {
        Deadline::In(ms) => now_ms.checked_add_signed(ms),
        Deadline::At(ms) => u64::try_from(ms).ok(),
    }
}

pub(super) fn expire(
    deadline: Deadline,
    condition: ExpireCondition,
    live: Option<&Record<'_>>,
    now_ms: u64,
) -> Evaluation<'static, 'static> {
    let Some(record) = live else {
        return Evaluation::read(Reply::Integer(0));
    };
    let new = moment(deadline, now_ms);
    let old = record.expires_at_ms;
    let earlier = old.is_none_or(|old| new < Some(old));
    let allowed = match condition {
        ExpireCondition::Always => true,
        ExpireCondition::IfNone => old.is_none(),
        ExpireCondition::IfSome => old.is_some(),
        ExpireCondition::IfLater => old.is_some_and(|old| new > Some(old)),
        ExpireCondition::IfEarlier => earlier,
        ExpireCondition::IfSomeAndEarlier => old.is_some() && earlier,
    };
    if !allowed {
        return Evaluation::read(Reply::Integer(0));
    }
    Evaluation { reply: Reply::Integer(1), write: expire_at(new, now_ms) }
}

pub(super) fn get_expire<'r>(
    expiry: Expiry,
    live: Option<&'r Record<'_>>,
    now_ms: u64,
) -> Evaluation<'r, 'static> {
    let write = match (expiry, live) {
        (_, None) | (Expiry::Keep, _) => Write::Nothing,
        (Expiry::Clear, Some(record)) => persisted(record),
        (Expiry::Set(deadline), Some(_)) => expire_at(moment(deadline, now_ms), now_ms),
    };
    Evaluation { reply: string::value_or_nil(live), write }
}

pub(super) fn persist(live: Option<&Record<'_>>) -> Evaluation<'static, 'static> {
    let write = live.map_or(Write::Nothing, persisted);
    let reply = Reply::Integer(i64::from(write != Write::Nothing));
    Evaluation { reply, write }
}

pub(super) fn time_to_live(
    absolute: bool,
    milliseconds: bool,
    live: Option<&Record<'_>>,
    now_ms: u64,
) -> Evaluation<'static, 'static> {
    let number = match live.map(|record| record.expires_at_ms) {
        None => NO_KEY,
        Some(None) => NO_DEADLINE,
        Some(Some(at)) => {
            let ms = if absolute { at } else { at.saturating_sub(now_ms) };
            // Redis rounds seconds to the nearest.
            let rounded = (ms.saturating_add(MS_PER_SECOND / 2)) / MS_PER_SECOND;
            i64::try_from(if milliseconds { ms } else { rounded }).unwrap_or(i64::MAX)
        }
    };
    Evaluation::read(Reply::Integer(number))
}

/// A deadline that has passed already removes the key.
fn expire_at(moment: Option<u64>, now_ms: u64) -> Write<'static> {
    match moment {
        Some(at) if at > now_ms => Write::Expire(Some(at)),
        _ => Write::Delete,
    }
}

fn persisted(record: &Record<'_>) -> Write<'static> {
    if record.expires_at_ms.is_some() { Write::Expire(None) } else { Write::Nothing }
}
