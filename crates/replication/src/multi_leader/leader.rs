//! The leader of a datacenter: how it names its writes, and what it must refuse.
//!
//! Every local write gets a dense number, which is taken when its entry is appended and goes on
//! in the log of whoever leads next; and a stamp that is larger than that of everything its
//! leader had seen.

use crate::DatacenterId;
use crate::command::Verb;
use crate::command::verb::{Condition, Needs};
use crate::data::Name;
use crate::storage::record::Record;
use crate::version::{Dot, Stamp, VersionVector};
use alloc::format;
use alloc::string::String;

/// How far the stamps of other datacenters may be ahead of this node's wall clock, in
/// milliseconds. Beyond it, local writes are refused and updates are held: a clock that is wrong
/// by more would decide conflicts for as long as it is wrong.
pub const MAX_SKEW_MS: u64 = 10_000;

/// Keys that one entry removes at most when all keys are removed.
pub const FLUSHED_KEYS_PER_ENTRY_MAX: usize = 256;

/// The incarnation of a group that has never been restored.
pub const FIRST_INCARNATION: u64 = 1;

/// Under which incarnation a group names its writes. `history` is the newest epoch in its log that
/// began under a possible loss, 0 for none.
///
/// Such a leader may lack committed writes that other datacenters have already. No number may be
/// given again, so its writes, and those of the leaders after it, have numbers of their own: its
/// epoch was on disk before it began. What was lost here then comes back from there, as any write
/// does. The price is an actor more in every vector and in counters.
pub fn incarnation(history: u64) -> u64 {
    FIRST_INCARNATION.max(history)
}

const INCARNATION_BITS: u32 = 48;

/// The name of a datacenter's group among those who write a partition: the datacenter in the
/// upper 16 bits, the group's incarnation in the others.
pub fn actor(datacenter: DatacenterId, incarnation: u64) -> u64 {
    let incarnation = incarnation & ((1 << INCARNATION_BITS) - 1);
    (u64::from(datacenter.0) << INCARNATION_BITS) | incarnation
}

/// Whether an actor is a group of a datacenter, in whichever incarnation.
pub fn is_of(actor: u64, datacenter: DatacenterId) -> bool {
    actor >> INCARNATION_BITS == u64::from(datacenter.0)
}

/// The next local write: its name, and everything of others that its leader had seen.
#[derive(Clone, Debug)]
pub struct Proposal {
    /// Its stamp and its dot.
    pub name: Name,
    /// What of others it was made on.
    pub dependencies: VersionVector,
}

/// Names the next local write of the actor. `covered` is what the whole log covers, the
/// uncommitted tail included.
pub fn propose(actor: u64, covered: &VersionVector, stamp: Stamp) -> Proposal {
    let dot = Dot { actor, counter: covered.get(actor).saturating_add(1) };
    Proposal { name: Name { stamp, dot }, dependencies: covered.without(actor) }
}

/// Whether stamps have run ahead of the wall clock too far to add another one; the error to
/// answer with. Nothing was written.
pub fn clock_error(newest: Stamp, wall_ms: u64) -> Option<String> {
    let ahead_ms = newest.wall_ms().saturating_sub(wall_ms);
    (ahead_ms > MAX_SKEW_MS).then(|| {
        format!(
            "CLOCK this node's clock is {ahead_ms} ms behind the newest write that it has seen \
             (max {MAX_SKEW_MS} ms); nothing was written; set the clocks of the nodes right"
        )
    })
}

/// Whether a stamp is too far ahead of the wall clock to be taken in.
pub fn is_ahead(stamp: Stamp, wall_ms: u64) -> bool {
    stamp.wall_ms().saturating_sub(wall_ms) > MAX_SKEW_MS
}

/// The error for a command that claims or compares: no leader can know what the others are
/// writing at the same time.
pub fn coordination_error(verb: &Verb<'_>) -> Option<String> {
    (verb.needs() == Needs::Coordination).then(|| {
        let command = name_of(verb);
        format!(
            "NEEDCOORD {command} would claim or compare, but every datacenter of this multi-leader \
             keyspace writes without asking the others; use SET, DEL or INCR, or put the key in \
             a leader-follower keyspace"
        )
    })
}

/// The words of a command that needs coordination.
fn name_of(verb: &Verb<'_>) -> &'static str {
    match verb {
        Verb::SetIfAbsent(_) => "SETNX",
        Verb::GetSet(_) => "GETSET",
        Verb::GetDelete => "GETDEL",
        Verb::Set { condition: Condition::IfAbsent, .. } => "SET with NX",
        Verb::Set { condition: Condition::IfPresent, .. } => "SET with XX",
        Verb::Set { .. } => "SET with GET",
        Verb::Expire(..) => "an expiry with NX, XX, GT or LT",
        _ => "this command",
    }
}

/// The newest stamp in what a write is made on, so that its own is larger.
pub fn newest_seen(record: Option<&Record<'_>>) -> Stamp {
    record.map_or(Stamp::ZERO, Record::newest_stamp)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::command::verb::{ExpireCondition, Expiry};

    #[test]
    fn numbers_are_dense_for_each_actor() {
        let (eu, us) = (actor(DatacenterId(0), 1), actor(DatacenterId(1), 1));
        assert_ne!(eu, us);
        assert_ne!(eu, actor(DatacenterId(0), 2));
        assert!(is_of(us, DatacenterId(1)) && !is_of(us, DatacenterId(0)));
        let mut covered = VersionVector::from_iter([(us, 7)]);
        for counter in 1..4 {
            let proposal = propose(eu, &covered, Stamp(1));
            assert_eq!(proposal.name.dot, Dot { actor: eu, counter });
            assert_eq!(proposal.dependencies, covered.without(eu));
            covered.advance(proposal.name.dot);
        }
    }

    #[test]
    fn a_clock_that_is_far_behind_refuses_and_one_that_is_a_little_behind_does_not() {
        let newest = Stamp::at(50_000);
        assert!(clock_error(newest, 50_000 - MAX_SKEW_MS).is_none());
        let text = clock_error(newest, 50_000 - MAX_SKEW_MS - 1).unwrap();
        assert!(text.starts_with("CLOCK") && text.contains("10001 ms"), "{text}");
        assert!(clock_error(newest, 90_000).is_none());
    }

    #[test]
    fn what_claims_or_compares_is_refused_by_name() {
        let (expiry, value) = (Expiry::Clear, &b"v"[..]);
        let set = |condition, get| Verb::Set { value, expiry, condition, get };
        let deadline = crate::command::verb::Deadline::In(1);
        for (verb, name) in [
            (Verb::SetIfAbsent(b"v"), "SETNX"),
            (Verb::GetDelete, "GETDEL"),
            (set(Condition::IfAbsent, false), "NX"),
            (set(Condition::Always, true), "GET"),
            (Verb::Expire(deadline, ExpireCondition::IfLater), "GT"),
        ] {
            let text = coordination_error(&verb).unwrap();
            assert!(text.starts_with("NEEDCOORD ") && text.contains(name), "{text}");
        }
        for verb in [
            Verb::Get,
            Verb::Append(b"x"),
            Verb::SetRange(1, b"x"),
            Verb::Increment(1),
            set(Condition::Always, false),
            Verb::Expire(deadline, ExpireCondition::Always),
        ] {
            assert_eq!(coordination_error(&verb), None, "{verb:?}");
        }
    }
}
