//! What a cut entry wrote over: the key's newest record in the log before it, or else the
//! committed one. That is what its leader had in front of it when it evaluated the command.

use super::report::{LostChange, What};
use crate::conflict::last_write_wins;
use crate::leader_follower::entry::{Entry, Payload};
use crate::leader_follower::state::State;
use crate::storage::record::Record;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;

/// What an entry writes, where nobody knows over what; `None` if it writes nothing.
pub(super) fn without(entry: &Entry<'_>) -> Option<What> {
    what_over(entry, |_| None)
}

/// What an entry writes, and over what `old` says; `None` if it writes nothing.
fn what_over(entry: &Entry<'_>, old: impl Fn(&[u8]) -> Option<Record<'static>>) -> Option<What> {
    match &entry.payload {
        Payload::Clear => Some(What::Everything),
        Payload::Changes(changes) if changes.is_empty() => None,
        Payload::Changes(changes) => {
            let lost = changes.iter().map(|change| LostChange {
                key: change.key.to_vec(),
                old: old(&change.key),
                new: change.record.clone().map(Record::into_owned),
            });
            Some(What::Changes(lost.collect()))
        }
        Payload::Opening(_)
        | Payload::Voter(..)
        | Payload::Covers(_)
        | Payload::HeardOut(_)
        | Payload::Degrade(_)
        | Payload::OpeningAfterLoss(..) => None,
    }
}

/// The records as they were before an entry, while one goes through a log's tail.
pub(super) struct Before<'a> {
    committed: &'a State,
    /// Whether the tail has removed all keys that are not below.
    is_cleared: bool,
    changed: BTreeMap<Vec<u8>, Option<Record<'static>>>,
}

impl Before<'_> {
    /// The committed records.
    pub fn new(committed: &State) -> Before<'_> {
        Before { committed, is_cleared: false, changed: BTreeMap::new() }
    }

    fn record(&self, key: &[u8]) -> Option<Record<'static>> {
        match self.changed.get(key) {
            Some(record) => record.clone(),
            None if self.is_cleared => None,
            None => self.committed.store.get(key).map(Record::into_owned),
        }
    }

    /// What an entry writes, and over what; `None` if it writes nothing.
    pub fn what(&self, entry: &Entry<'_>) -> Option<What> {
        what_over(entry, |key| self.record(key))
    }

    /// The entry is behind.
    pub fn take(&mut self, entry: &Entry<'_>) {
        match &entry.payload {
            Payload::Clear => {
                self.is_cleared = true;
                self.changed.clear();
            }
            Payload::Changes(changes) => {
                for change in changes {
                    let record = match (&change.record, self.record(&change.key)) {
                        (Some(incoming), Some(kept)) if self.committed.merges() => {
                            let merged = last_write_wins::merge(&kept, incoming).outcome;
                            Some(
                                merged
                                    .replacement(incoming.clone())
                                    .map_or(kept, Record::into_owned),
                            )
                        }
                        (record, _) => record.clone().map(Record::into_owned),
                    };
                    self.changed.insert(change.key.to_vec(), record);
                }
            }
            Payload::Opening(_)
            | Payload::Voter(..)
            | Payload::Covers(_)
            | Payload::HeardOut(_)
            | Payload::Degrade(_)
            | Payload::OpeningAfterLoss(..) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::version::{EntryId, Stamp};

    #[test]
    fn an_entry_that_only_remembers_a_reply_takes_nothing_with_it() {
        let id = EntryId { epoch: 1, index: 1 };
        let payload = Payload::Changes(Vec::new().into());
        let stamp = Stamp::ZERO;
        let entry = Entry { id, stamp, origin: None, asker: None, once: None, payload };
        let state = State::new(0, 16383, 1, false);
        assert!(Before::new(&state).what(&entry).is_none());
        assert!(without(&entry).is_none());
    }
}
