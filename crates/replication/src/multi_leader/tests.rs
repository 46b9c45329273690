//! Several datacenters as values: writes are made anywhere and delivered in any order, from any
//! place, any number of times. In the end all hold the same records, byte for byte.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use super::catch_up::{self, Transfer};
use super::leader::{self, propose};
use super::message::{Page, Pull, Wants};
use super::sync::{self, Batch, Due, Place, Taken, Update, Verdict, Waiting, judge};
use crate::conflict::last_write_wins;
use crate::data::{ExpiresAt, Write, mint};
use crate::keyspace::SLOTS;
use crate::storage::record::Record;
use crate::storage::store::Store;
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
                Writer(&mut records).short_bytes(&packed(key, record));
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

fn group(datacenter: u8) -> GroupId {
    let datacenter = DatacenterId(datacenter);
    GroupId { keyspace: KeyspaceId(1), generation: 0, partition: 0, datacenter }
}

/// A record as it lies in memory.
fn packed(key: &[u8], record: &Record<'_>) -> Vec<u8> {
    let mut store = Store::new(0, SLOTS - 1, 1);
    store.put(key, record);
    store.bytes_by(key, store.hashes(key)).unwrap().to_vec()
}

fn page(slot: u16, done: bool, covered: VersionVector, records: Vec<u8>) -> Page<'static> {
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

/// A stream's next word, if it is due.
fn say(stream: &mut sync::Stream, now_us: u64, number: u64) -> Option<(Due, u64, u64, Wants)> {
    let due = stream.due(now_us, ONE, BEAT_US)?;
    let (number, taken_bytes, wants) = stream.say((now_us, ONE, FIRST_SLOT), due, number);
    Some((due, number, taken_bytes, wants))
}

const ONE: NodeId = NodeId(1);
const OTHER: NodeId = NodeId(2);
const BEAT_US: u64 = 100;
const FIRST_SLOT: u16 = 3;

#[test]
fn an_answer_comes_in_parts_and_none_is_taken_twice_or_after_a_gap() {
    let mut stream = sync::Stream::new(1);
    assert_eq!(say(&mut stream, 0, 7), Some((Due::Question, 7, 0, Wants::After(0))));
    assert_eq!(say(&mut stream, 1, 8), None, "it waits for the answer");
    let place = |stream: &sync::Stream, after| stream.place(ONE, 7, after);
    assert_eq!(place(&stream, 0), Place::Next);
    assert_eq!(stream.place(OTHER, 7, 0), Place::Old);
    assert_eq!(stream.place(ONE, 6, 0), Place::Old);
    let taken = Taken { cursor: 5, any: true, all: true, lacks: false };
    stream.took(10, taken, 400, BEAT_US);
    assert_eq!(place(&stream, 0), Place::Old, "the part comes a second time");
    assert_eq!(place(&stream, 6), Place::BehindGap);
    assert_eq!(place(&stream, 5), Place::Next);
    stream.close();
    assert_eq!(place(&stream, 5), Place::Old);
    assert_eq!(say(&mut stream, 11, 8), Some((Due::Question, 8, 0, Wants::After(5))));
}

#[test]
fn who_takes_an_answer_says_so_after_a_while_or_many_bytes_and_asks_the_silent_again() {
    let mut stream = sync::Stream::new(1);
    say(&mut stream, 0, 7);
    let taken = |cursor| Taken { cursor, any: true, all: true, lacks: false };
    stream.took(1, taken(1), 400, BEAT_US);
    assert_eq!(say(&mut stream, BEAT_US - 1, 8), None);
    assert_eq!(say(&mut stream, BEAT_US, 8), Some((Due::Progress, 7, 400, Wants::After(1))));
    assert_eq!(say(&mut stream, BEAT_US, 8), None);
    stream.took(BEAT_US, taken(2), sync::WINDOW_BYTES as usize / 4, BEAT_US);
    assert_eq!(say(&mut stream, BEAT_US, 8).unwrap().0, Due::Progress);
    let silent_us = BEAT_US + sync::REPEAT_HEARTBEATS * BEAT_US;
    assert_eq!(say(&mut stream, silent_us - 1, 8), None);
    assert_eq!(say(&mut stream, silent_us, 8), Some((Due::Again, 8, 0, Wants::After(2))));
    assert_eq!(stream.due(silent_us, OTHER, BEAT_US), Some(Due::Question), "it leads now");
    stream.on_peer_lost(ONE);
    assert_eq!(say(&mut stream, silent_us, 9).unwrap().0, Due::Question);
}

#[test]
fn a_source_sends_no_more_than_its_window_until_it_hears_what_is_taken() {
    let pull = |taken_bytes, covered: &[(u64, u64)]| Pull {
        source: group(0),
        target: group(1),
        number: 7,
        again: false,
        taken_bytes,
        wants: Wants::After(5),
        covered: VersionVector::from_iter(covered.iter().copied()),
    };
    let mut waiting = Waiting::new(ONE, pull(0, &[(1, 3)]), None);
    assert_eq!((waiting.told, waiting.passed, waiting.has_room(0)), (5, 5, true));
    waiting.sent(9, sync::WINDOW_BYTES as usize, true);
    assert_eq!((waiting.told, waiting.more, waiting.has_room(0)), (9, true, false));
    waiting.on_progress(pull(100, &[(2, 4)]));
    assert!(waiting.has_room(0) && waiting.told == 9);
    waiting.on_progress(pull(0, &[]));
    assert!(waiting.has_room(0), "an older word comes late");
    assert!(waiting.pull.covered.covers_all(&VersionVector::from_iter([(1, 3), (2, 4)])));
}

#[test]
fn who_was_sent_the_state_goes_on_where_the_log_was_when_it_began() {
    let pull = Pull {
        source: group(0),
        target: group(1),
        number: 7,
        again: false,
        taken_bytes: 0,
        wants: Wants::Slots(0),
        covered: VersionVector::default(),
    };
    let again = |wants| Pull { wants, ..pull.clone() };
    let mut waiting = Waiting::new(ONE, pull.clone(), None);
    assert_eq!((waiting.next_slot, waiting.more), (Some(0), true));
    waiting.sent_page(40, Some(8), 100);
    assert_eq!((waiting.next_slot, waiting.needs_log_after), (Some(8), Some(40)));
    waiting.sent_page(50, None, 100);
    assert_eq!((waiting.next_slot, waiting.told, waiting.more), (None, 40, true));
    let next = Waiting::new(ONE, again(Wants::Slots(8)), Some(&waiting));
    assert_eq!(next.needs_log_after, Some(40));
    let next = Waiting::new(ONE, again(Wants::After(42)), Some(&waiting));
    assert_eq!(next.needs_log_after, Some(42));
    waiting.sent(45, 10, true);
    assert_eq!(waiting.needs_log_after, Some(45));
    waiting.sent(50, 10, false);
    assert_eq!(waiting.needs_log_after, None);
}

#[test]
fn who_waits_too_long_for_other_streams_asks_for_the_state() {
    let mut stream = sync::Stream::new(1);
    let early = Taken { cursor: 5, any: false, all: false, lacks: true };
    say(&mut stream, 0, 7);
    stream.took(0, early, 0, BEAT_US);
    assert_eq!(say(&mut stream, 1, 8), None, "it rests");
    assert_eq!(say(&mut stream, BEAT_US, 8).unwrap().3, Wants::After(5));
    let patience_us = sync::PATIENCE_HEARTBEATS * BEAT_US;
    stream.took(patience_us, early, 0, BEAT_US);
    assert_eq!(say(&mut stream, 2 * patience_us, 9).unwrap().3, Wants::Slots(FIRST_SLOT));
    let done = page(FIRST_SLOT, true, VersionVector::default(), Vec::new());
    let place = |stream: &sync::Stream, slot| stream.place_of_page(ONE, 9, slot, FIRST_SLOT);
    assert_eq!(place(&stream, FIRST_SLOT + 1), Place::BehindGap);
    assert_eq!(place(&stream, FIRST_SLOT), Place::Next);
    let now_us = 2 * patience_us + 1;
    stream.took_page(now_us, Transfer::after(None, &done, FIRST_SLOT).unwrap(), 5000);
    assert_eq!(stream.place(ONE, 9, 9), Place::Next, "the answer goes on with the log");
    let word = say(&mut stream, now_us + BEAT_US, 10);
    assert_eq!(word, Some((Due::Progress, 9, 5000, Wants::After(9))));
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
