//! Entries of every kind: written, read, looked over, and damaged.
//! Entries to bytes and back.
#![allow(clippy::unwrap_used)]
use super::*;
use crate::ClientId;
use crate::random::Random;
use crate::storage::record::{Record, Value};
use alloc::vec;

const ID: EntryId = EntryId { epoch: 3, index: 70 };
const STAMP: Stamp = Stamp(99);

fn record(dot: Dot, expires_at_ms: Option<u64>) -> Record<'static> {
    let (value, increments) = (Value::String(b"value"[..].into()), Cow::Borrowed(&[][..]));
    Record { stamp: STAMP, dot, value, expiry_stamp: STAMP, expires_at_ms, increments }
}

fn vector_of(actor: u64, counter: u64) -> VersionVector {
    let mut vector = VersionVector::default();
    vector.advance(Dot { actor, counter });
    vector
}

/// One entry of each kind, and of each kind of change.
fn entries() -> Vec<Entry<'static>> {
    let own = Dot { actor: ID.epoch, counter: ID.index };
    let other = Dot { actor: 9, counter: 1 };
    let change = |record| Change { key: Cow::Borrowed(b"key"), record };
    let (node, incarnation) = (NodeId(1), Incarnation(7));
    let opener = Opener { node, incarnation, heard: 12, may_lack: true, torn: true };
    let several = [None, Some(record(own, Some(5))), Some(record(other, None))];
    let payloads = vec![
        Payload::Opening(opener),
        Payload::Changes(change(Some(record(own, None))).into()),
        Payload::Changes(several.into_iter().map(change).collect()),
        Payload::Changes(Vec::new().into()),
        Payload::Clear,
        Payload::Voter(NodeId(2), Incarnation(8)),
        Payload::Covers(vector_of(1, 2)),
        Payload::HeardOut(3),
        Payload::OpeningAfterLoss(opener, vec![(NodeId(1), Incarnation(7))]),
    ];
    let label = &b"127.0.0.1:5000"[..];
    let asker = Asker { node: NodeId(4), process: 5, client: ClientId(6), sequence: 8, label };
    let once = Once {
        session: Cow::Borrowed(b"session"),
        sequence: 1,
        digest: 2,
        reply: Reply::Ok,
        forgotten: vec![Cow::Borrowed(b"other")],
    };
    let origin = Origin { dot: other, dependencies: vector_of(9, 1) };
    let mut entries = Vec::new();
    for payload in payloads {
        let plain = Entry { id: ID, stamp: STAMP, origin: None, asker: None, once: None, payload };
        entries.push(Entry { asker: Some(asker), ..plain.clone() });
        entries.push(Entry { once: Some(Box::new(once.clone())), ..plain.clone() });
        entries.push(Entry { origin: Some(origin.clone()), ..plain.clone() });
        entries.push(plain);
    }
    entries
}

fn encoded(entry: &Entry<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    entry.encode(&mut bytes);
    bytes
}

#[test]
fn an_entry_is_read_as_it_was_written() {
    for entry in entries() {
        let bytes = encoded(&entry);
        assert_eq!(Entry::decode(&bytes), Ok(entry.clone()));
        assert_eq!(Entry::id_of(&bytes), Ok(ID));
        let head = Head::of(&bytes).unwrap();
        assert_eq!((head.id, head.stamp), (ID, STAMP));
        let is_plain = !matches!(
            entry.payload,
            Payload::Voter(..) | Payload::Covers(_) | Payload::OpeningAfterLoss(..)
        );
        assert_eq!(head.is_plain(), is_plain, "{entry:?}");
        let mut covered = VersionVector::default();
        assert_eq!(Head::covers_if_plain(&bytes, &mut covered), is_plain);
        assert_eq!(covered.is_empty(), !is_plain || entry.origin.is_none());
    }
}

#[test]
fn a_clients_write_fits_into_its_room() {
    for entry in entries().iter().filter(|entry| matches!(entry.payload, Payload::Changes(_))) {
        assert!(encoded(entry).len() <= entry.room(), "{entry:?}");
    }
}

#[test]
fn what_is_checked_can_be_read_and_nothing_else() {
    let mut random = Random::new(11);
    let (mut good, mut bad) = (0, 0);
    for entry in entries() {
        let bytes = encoded(&entry);
        for _ in 0..400 {
            let mut damaged = bytes.clone();
            let at = random.range(0, bytes.len() as u64) as usize;
            match random.range(0, 3) {
                0 => damaged.truncate(at),
                1 => damaged[at] ^= 1 << random.range(0, 8),
                _ => damaged.insert(at, random.next_u64() as u8),
            }
            let checked = Head::checked(&damaged).is_ok();
            assert_eq!(checked, Entry::decode(&damaged).is_ok(), "{damaged:?}");
            if checked { good += 1 } else { bad += 1 }
        }
    }
    assert!(good > 100 && bad > 100, "{good} {bad}");
}
