//! Parts survive their own encoding; a stamp that would overrun the clock is refused.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::storage::record::{Increment, Value};
use crate::version::Dot;
use alloc::borrow::Cow;
use proptest::prelude::*;

pub(in crate::leaderless) fn records() -> impl Strategy<Value = Record<'static>> {
    let value = prop_oneof![
        Just(Value::Absent),
        any::<Vec<u8>>().prop_map(|bytes| Value::String(bytes.into()))
    ];
    let slots = prop::collection::btree_map(any::<u64>(), (any::<u64>(), any::<i64>()), 0..4);
    let numbers = (0..STAMP_MAX.0, any::<u64>(), any::<u64>(), 0..STAMP_MAX.0);
    (numbers, value, any::<Option<u64>>(), slots).prop_map(
        |((stamp, actor, counter, expiry), value, expires_at_ms, slots)| {
            let slot = |(actor, (count, integer))| Increment {
                actor,
                count,
                integer,
                float: integer as f64 / 4.0,
            };
            Record {
                stamp: Stamp(stamp),
                dot: Dot { actor, counter },
                value,
                expiry_stamp: Stamp(expiry),
                expires_at_ms,
                increments: slots.into_iter().map(slot).collect(),
            }
        },
    )
}

/// Encoded parts of any kind.
pub(in crate::leaderless) fn parts() -> impl Strategy<Value = Vec<u8>> {
    let bodies = || {
        (any::<Vec<u8>>(), records()).prop_map(|(key, record)| {
            let mut bytes = Vec::new();
            Body::encode(&mut bytes, &key, &record);
            bytes
        })
    };
    let encoded = |part: Part<'_>| {
        let mut bytes = Vec::new();
        part.encode(&mut bytes);
        bytes
    };
    prop_oneof![
        (any::<u64>(), any::<u16>(), bodies()).prop_map(|(operation, partition, body)| {
            let mut bytes = Vec::new();
            write(&mut bytes, operation, partition, &body);
            bytes
        }),
        (any::<u16>(), bodies()).prop_map(|(partition, body)| {
            let mut bytes = Vec::new();
            repair(&mut bytes, partition, &body);
            bytes
        }),
        (any::<u64>(), any::<u16>(), any::<u64>(), any::<Vec<u8>>()).prop_map(
            move |(operation, partition, digest, key)| {
                encoded(Part::Read { operation, partition, digest, key: &key })
            }
        ),
        (any::<u64>(), records())
            .prop_map(move |(operation, record)| encoded(Part::Newer { operation, record })),
        (any::<u64>(), records())
            .prop_map(move |(operation, record)| encoded(Part::Holds { operation, record })),
        any::<u64>().prop_map(move |operation| encoded(Part::Kept { operation })),
        any::<u64>().prop_map(move |operation| encoded(Part::Same { operation })),
        any::<u64>().prop_map(move |operation| encoded(Part::NotReady { operation })),
        any::<u64>().prop_map(move |operation| encoded(Part::Missing { operation })),
    ]
}

proptest! {
    #[test]
    fn what_is_written_is_read(bytes in parts()) {
        let mut r = Reader(&bytes);
        let part = Part::decode(&mut r).unwrap();
        prop_assert!(r.is_empty());
        let mut again = Vec::new();
        part.encode(&mut again);
        prop_assert_eq!(again, bytes);
    }

    #[test]
    fn what_is_passed_over_is_what_is_read(bytes in parts()) {
        let (mut ahead, mut r) = (Reader(&bytes), Reader(&bytes));
        let named = Part::skim(&mut ahead).unwrap();
        prop_assert!(ahead.is_empty());
        prop_assert_eq!(named, match Part::decode(&mut r).unwrap() {
            Part::Write { partition, body, .. } | Part::Repair { partition, body } => {
                Some((partition, body.key))
            }
            Part::Read { partition, key, .. } => Some((partition, key)),
            _ => None,
        });
    }

    #[test]
    fn what_cannot_be_passed_over_cannot_be_read(bytes in any::<Vec<u8>>()) {
        let (mut ahead, mut r) = (Reader(&bytes), Reader(&bytes));
        let decoded = Part::decode(&mut r);
        prop_assert!(decoded.is_err() || Part::skim(&mut ahead).is_ok());
        prop_assert!(decoded.is_err() || ahead.0 == r.0);
    }

    #[test]
    fn a_part_cut_short_is_malformed(bytes in parts(), keep in 0.0..1.0f64) {
        let end = (bytes.len() as f64 * keep) as usize;
        prop_assert_eq!(Part::decode(&mut Reader(&bytes[..end])), Err(Malformed));
    }
}

#[test]
fn a_stamp_that_would_overrun_the_clock_is_malformed() {
    let record = Record {
        stamp: Stamp(u64::MAX),
        dot: Dot::default(),
        value: Value::Absent,
        expiry_stamp: Stamp::ZERO,
        expires_at_ms: None,
        increments: Cow::Borrowed(&[]),
    };
    let mut bytes = Vec::new();
    Body::encode(&mut bytes, b"k", &record);
    assert_eq!(Body::decode(&mut Reader(&bytes)), Err(Malformed));
}
