//! Several datacenters as values: writes are made anywhere and delivered in any order, from any
//! place, any number of times. In the end all hold the same records, byte for byte.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use super::catch_up::{self, Transfer};
use super::leader::{self, propose};
use super::message::Page;
use super::sync::{self, Batch, Taken, Update, Verdict, judge};
use crate::conflict::last_write_wins;
use crate::data::{ExpiresAt, Write, mint};
use crate::storage::record::Record;
use crate::version::{Dot, HybridClock, Stamp, VersionVector};
use crate::wire::{Reader, Writer};
use crate::{DatacenterId, GroupId, KeyspaceId, NodeId};
use alloc::borrow::Cow;
use alloc::collections::BTreeMap;
use alloc::vec;
use alloc::vec::Vec;
use proptest::prelude::*;

/// What a datacenter's group comes to: its log, its records, and what they cover.
struct Site {
    actor: u64,
    clock: HybridClock,
    wall_ms: u64,
    covered: VersionVector,
    log: Vec<Update<'static>>,
    records: BTreeMap<Vec<u8>, Record<'static>>,
    added: i64,
}

impl Site {
    fn new(number: u8) -> Site {
        Site {
            actor: leader::actor(DatacenterId(number), 1),
            clock: HybridClock::default(),
            // The clocks are apart, but not by more than is allowed.
            wall_ms: 1_000_000 + u64::from(number) * 3_000,
            covered: VersionVector::default(),
            log: Vec::new(),
            records: BTreeMap::new(),
            added: 0,
        }
    }

    fn write(&mut self, key: u8, what: u8) {
        let key = vec![b'k', key];
        let name = propose(self.actor, &self.covered, self.clock.next(self.wall_ms)).name;
        let write = match what {
            0 => Write::Delete,
            1 | 2 => {
                let value = Cow::Owned(vec![b'0' + what]);
                Write::Set { value, expires_at_ms: ExpiresAt::Never }
            }
            _ => {
                self.added += i64::from(what);
                Write::Increment { integer: what.into(), float: 0.0, sum: Vec::new() }
            }
        };
        let record = mint(write, self.records.get(&key), name, self.actor);
        let update = Update {
            index: 0,
            dot: name.dot,
            stamp: name.stamp,
            dependencies: self.covered.without(self.actor),
            changes: Cow::Owned(change(&key, &record)),
        };
        self.append(update);
    }

    fn append(&mut self, mut update: Update<'static>) {
        self.clock.observe(update.stamp);
        self.covered.advance(update.dot);
        let mut r = Reader(&update.changes);
        let (key, record) = (r.bytes().unwrap(), r.record().unwrap());
        self.merge(key.to_vec(), record.into_owned());
        update.index = self.log.len() as u64 + 1;
        self.log.push(update);
    }

    fn merge(&mut self, key: Vec<u8>, record: Record<'static>) {
        let merged = match self.records.get(&key) {
            Some(kept) => last_write_wins::merge(kept, &record).outcome.replacement(record),
            None => Some(record),
        };
        if let Some(merged) = merged {
            self.records.insert(key, merged);
        }
    }

    fn batch(&self, cursor: u64, covered: &VersionVector, bytes_max: usize) -> Vec<u8> {
        let mut batch = Batch::new(cursor, covered, bytes_max, Vec::new());
        for update in self.log.iter().skip(cursor as usize) {
            if !batch.offer(update.index, 50, Some(update)) {
                break;
            }
        }
        batch.updates
    }

    /// Takes what it can; whether anything was new.
    fn take(&mut self, bytes: &[u8]) -> bool {
        let mut r = Reader(bytes);
        let mut any = false;
        while !r.is_empty() {
            let update = Update::decode(&mut r).unwrap();
            match judge(&update, &self.covered, self.wall_ms) {
                Verdict::Known => continue,
                Verdict::Take => {
                    any = true;
                    let changes = Cow::Owned(update.changes.into_owned());
                    self.append(Update { changes, ..update });
                }
                Verdict::Early | Verdict::Ahead => return any,
            }
        }
        any
    }

    fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut w = Writer(&mut bytes);
        for (key, record) in &self.records {
            w.bytes(key);
            w.record(record);
        }
        bytes
    }
}

/// What an update changes, as the logs of these sites have it.
fn change(key: &[u8], record: &Record<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut w = Writer(&mut bytes);
    w.bytes(key);
    w.record(record);
    bytes
}

/// Everybody pulls from everybody until nobody gets anything new.
fn settle(sites: &mut [Site]) {
    loop {
        let mut any = false;
        for target in 0..sites.len() {
            for source in 0..sites.len() {
                let covered = sites[target].covered.clone();
                let bytes = sites[source].batch(0, &covered, 1 << 20);
                any |= source != target && sites[target].take(&bytes);
            }
        }
        if !any {
            return;
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    Write { site: usize, key: u8, what: u8 },
    Deliver { from: usize, to: usize, cursor: u64, bytes_max: usize, blind: bool },
}

fn steps(what: impl Strategy<Value = u8>) -> impl Strategy<Value = Vec<Step>> {
    let write =
        (0..3usize, 0..2u8, what).prop_map(|(site, key, what)| Step::Write { site, key, what });
    let deliver = (0..3usize, 1..3usize, 0..12u64, 1..400usize, any::<bool>()).prop_map(
        |(from, way, cursor, bytes_max, blind)| {
            let to = (from + way) % 3;
            Step::Deliver { from, to, cursor, bytes_max, blind }
        },
    );
    prop::collection::vec(prop_oneof![write, deliver], 0..60)
}

fn play(steps: Vec<Step>) -> Vec<Site> {
    let mut sites: Vec<Site> = (0..3).map(Site::new).collect();
    for step in steps {
        match step {
            Step::Write { site, key, what } => sites[site].write(key, what),
            Step::Deliver { from, to, cursor, bytes_max, blind } => {
                // A blind answer repeats what is known; a late cursor leaves gaps.
                let covered = match blind {
                    true => VersionVector::default(),
                    false => sites[to].covered.clone(),
                };
                let bytes = sites[from].batch(cursor, &covered, bytes_max);
                sites[to].take(&bytes);
            }
        }
    }
    settle(&mut sites);
    sites
}

proptest! {
    #[test]
    fn any_delivery_converges(steps in steps(0..6u8)) {
        let sites = play(steps);
        for site in &sites {
            prop_assert_eq!(site.bytes(), sites[0].bytes());
            prop_assert_eq!(&site.covered, &sites[0].covered);
            prop_assert_eq!(site.log.len(), sites[0].log.len(), "each write is an entry once");
        }
    }

    #[test]
    fn counters_add_up_exactly(steps in steps(3..9u8)) {
        let sites = play(steps);
        let added: i64 = sites.iter().map(|site| site.added).sum();
        for site in &sites {
            let number = |record: &Record<'_>| -> i64 {
                core::str::from_utf8(&record.value().unwrap()).unwrap().parse().unwrap()
            };
            let numbers = site.records.values().map(number);
            prop_assert_eq!(numbers.sum::<i64>(), added);
        }
    }

    #[test]
    fn state_brings_what_the_log_no_longer_has(steps in steps(0..6u8), slots in 1..4u16) {
        let sites = play(steps);
        let (mut away, source) = (Site::new(1), &sites[0]);
        let mut current: Option<Transfer> = None;
        for place in 0..slots {
            let mut records = Vec::new();
            let here = |key: &[u8]| u16::from(key[1]) % slots == place;
            for (key, record) in source.records.iter().filter(|(key, _)| here(key)) {
                Writer(&mut records).bytes(key);
                Writer(&mut records).record(record);
            }
            let page = page(place, place + 1 == slots, source.covered.clone(), records);
            let new = catch_up::news(&page, |key| away.records.get(key).cloned()).unwrap().records;
            let new: Vec<_> = new.into_iter().map(|(k, r)| (k.to_vec(), r.into_owned())).collect();
            new.into_iter().for_each(|(key, record)| away.merge(key, record));
            let again = catch_up::news(&page, |key| away.records.get(key).cloned()).unwrap();
            prop_assert!(again.records.is_empty(), "a page that comes twice brings nothing new");
            current = Transfer::after(current.as_ref(), &page, 0);
        }
        let transfer = current.unwrap();
        prop_assert!(transfer.is_complete());
        prop_assert_eq!(transfer.covered(), &source.covered);
        prop_assert_eq!(away.bytes(), source.bytes());
    }
}

fn page(slot: u16, done: bool, covered: VersionVector, records: Vec<u8>) -> Page<'static> {
    let group = |datacenter| GroupId {
        keyspace: KeyspaceId(1),
        generation: 0,
        partition: 0,
        datacenter: DatacenterId(datacenter),
    };
    Page {
        source: group(0),
        target: group(1),
        number: 1,
        commit: 9,
        covered,
        first_slot: slot,
        last_slot: slot,
        done,
        records: Cow::Owned(records),
    }
}

fn update(actor: u64, counter: u64, dependencies: &[(u64, u64)], stamp: Stamp) -> Update<'static> {
    let dependencies = VersionVector::from_iter(dependencies.iter().copied());
    let changes = Cow::Borrowed(&[][..]);
    Update { index: 1, dot: Dot { actor, counter }, stamp, dependencies, changes }
}

#[test]
fn an_update_is_taken_once_in_order_and_after_what_it_depends_on() {
    let covered = VersionVector::from_iter([(1, 5), (2, 3)]);
    let verdict = |u: &Update<'_>| judge(u, &covered, 1000);
    let now = Stamp::at(1000);
    assert_eq!(verdict(&update(1, 6, &[(1, 5), (2, 3)], now)), Verdict::Take);
    assert_eq!(verdict(&update(1, 5, &[(1, 4)], now)), Verdict::Known);
    assert_eq!(verdict(&update(1, 7, &[(1, 6)], now)), Verdict::Early);
    assert_eq!(verdict(&update(1, 6, &[(2, 4)], now)), Verdict::Early);
    assert_eq!(verdict(&update(9, 1, &[], now)), Verdict::Take);
    let limit_ms = 1000 + leader::MAX_SKEW_MS;
    assert_eq!(verdict(&update(1, 6, &[], Stamp::at(limit_ms))), Verdict::Take);
    assert_eq!(verdict(&update(1, 6, &[], Stamp::at(limit_ms + 1))), Verdict::Ahead);
}

#[test]
fn a_batch_passes_over_what_is_covered_and_ends_when_it_is_full() {
    let covered = VersionVector::from_iter([(1, 2)]);
    let mut batch = Batch::new(0, &covered, 60, Vec::new());
    assert!(batch.offer(1, 10, Some(&update(1, 2, &[], Stamp(1)))));
    assert!(batch.offer(2, 10, None));
    assert_eq!((batch.updates.len(), batch.to), (0, 2));
    assert!(batch.offer(3, 10, Some(&update(1, 3, &[], Stamp(1)))));
    assert!(!batch.offer(4, 10, Some(&update(1, 4, &[], Stamp(1)))), "60 bytes are enough");
    let mut idle = Batch::new(0, &covered, 60, Vec::new());
    assert!(!idle.offer(1, 300, None), "reading is bounded, too");
}

#[test]
fn a_log_that_begins_late_suffices_for_who_has_what_it_dropped() {
    let covered = VersionVector::from_iter([(1, 9), (2, 4)]);
    let first = BTreeMap::from([(1, 7)]);
    let puller = |one, two| VersionVector::from_iter([(1, one), (2, two)]);
    assert!(sync::log_suffices(&puller(6, 4), &covered, &first));
    assert!(!sync::log_suffices(&puller(5, 4), &covered, &first));
    assert!(!sync::log_suffices(&puller(6, 3), &covered, &first), "2's writes are dropped");
}

#[test]
fn a_question_is_asked_again_and_only_its_own_answer_counts() {
    let (one, other, beat) = (NodeId(1), NodeId(2), 100);
    let mut stream = sync::Stream::new(1, 7);
    assert!(stream.is_due(0, one, beat));
    stream.ask(0, one, 0);
    assert!(!stream.is_due(1, one, beat));
    assert!(stream.is_due(1, other, beat), "another node leads now");
    assert!(stream.is_due(sync::REPEAT_HEARTBEATS * beat, one, beat));
    assert!(stream.expects(one, 7) && !stream.expects(other, 7) && !stream.expects(one, 8));
    let taken = Taken { cursor: 5, any: true, all: true, lacks: false };
    stream.took(10, taken, 8, beat);
    assert!(!stream.expects(one, 7), "the answer comes a second time");
    assert!(stream.is_due(10, one, beat));
    assert_eq!(stream.ask(10, one, 0), (8, super::message::Wants::After(5)));
    stream.on_peer_lost(one);
    assert!(stream.is_due(11, one, beat));
}

#[test]
fn who_waits_too_long_for_other_streams_asks_for_the_state() {
    let (node, beat) = (NodeId(1), 100);
    let mut stream = sync::Stream::new(1, 7);
    let early = Taken { cursor: 5, any: false, all: false, lacks: true };
    stream.ask(0, node, 0);
    stream.took(0, early, 8, beat);
    assert!(!stream.is_due(1, node, beat), "it rests");
    assert_eq!(stream.ask(beat, node, 0).1, super::message::Wants::After(5));
    stream.took(sync::PATIENCE_HEARTBEATS * beat, early, 9, beat);
    assert_eq!(stream.ask(9999, node, 3).1, super::message::Wants::Slots(3));
    let done = page(3, true, VersionVector::default(), Vec::new());
    let transfer = Transfer::after(None, &done, 3).unwrap();
    stream.took_page(transfer, 10);
    assert_eq!(stream.ask(9999, node, 3).1, super::message::Wants::After(9));
}

#[test]
fn a_transfer_takes_pages_in_order_only() {
    let make = |slot, done| page(slot, done, VersionVector::default(), Vec::new());
    assert_eq!(Transfer::after(None, &make(1, false), 0), None);
    let first = Transfer::after(None, &make(0, false), 0).unwrap();
    assert_eq!(first.next_slot(), 1);
    assert_eq!(Transfer::after(Some(&first), &make(0, false), 0), None);
    let second = Transfer::after(Some(&first), &make(1, true), 0).unwrap();
    assert!(second.is_complete() && second.cursor() == 9);
}
