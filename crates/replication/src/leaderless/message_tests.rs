//! Messages and parts survive their own encoding, and nothing else is taken for one.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::DatacenterId;
use crate::leaderless::parts::tests::{parts, records};
use proptest::prelude::*;

fn groups() -> impl Strategy<Value = GroupId> {
    (any::<u32>(), any::<u8>(), any::<u16>(), any::<u8>()).prop_map(
        |(keyspace, generation, partition, datacenter)| GroupId {
            keyspace: KeyspaceId(keyspace),
            generation,
            partition,
            datacenter: DatacenterId(datacenter),
        },
    )
}

fn messages() -> impl Strategy<Value = Message<'static>> {
    let keys = || any::<Vec<u8>>().prop_map(Cow::Owned);
    let places = || any::<(u16, u64)>().prop_map(|(slot, hash)| Place { slot, hash });
    let pages = prop::collection::vec((keys(), records()), 0..3);
    prop_oneof![
        (any::<u32>(), any::<u8>(), prop::collection::vec(parts(), 0..4)).prop_map(
            |(keyspace, generation, parts)| {
                let parts = Parts(Cow::Owned(parts.concat()));
                Message::Batch { keyspace: KeyspaceId(keyspace), generation, parts }
            }
        ),
        (any::<u64>(), groups(), any::<u64>()).prop_map(|(operation, group, before)| {
            Message::Flush { operation, group, before: Stamp(before) }
        }),
        (any::<u64>(), groups(), any::<u64>()).prop_map(|(operation, group, missed)| {
            Message::FlushAnswer { operation, group, missed }
        }),
        (any::<u64>(), groups(), places()).prop_map(|(operation, group, from)| Message::Fetch {
            operation,
            group,
            from
        }),
        (any::<u64>(), groups(), pages, prop::option::of(places())).prop_map(
            |(operation, group, records, next)| {
                Message::Fetched { operation, group, records, next }
            }
        ),
    ]
}

proptest! {
    #[test]
    fn what_is_written_is_read(message in messages()) {
        let mut bytes = Vec::new();
        message.encode(&mut Writer(&mut bytes));
        let mut r = Reader(&bytes);
        let read = Message::decode(&mut r).unwrap();
        prop_assert!(r.is_empty());
        if let Message::Batch { parts, .. } = &read {
            prop_assert!(parts.iter().all(|part| part.is_ok()));
        }
        prop_assert_eq!(read, message);
    }

    #[test]
    fn a_message_cut_short_is_malformed(message in messages(), keep in 0.0..1.0f64) {
        let mut bytes = Vec::new();
        message.encode(&mut Writer(&mut bytes));
        bytes.truncate((bytes.len() as f64 * keep) as usize);
        match Message::decode(&mut Reader(&bytes)) {
            Ok(Message::Batch { parts, .. }) => {
                let Message::Batch { parts: all, .. } = &message else { unreachable!() };
                let whole = all.iter().zip(parts.iter()).filter(|(a, b)| a == b).count();
                // What is whole is read; what is cut is told.
                prop_assert!(parts.iter().count() <= whole + 1);
            }
            other => prop_assert_eq!(other, Err(Malformed)),
        }
    }

    #[test]
    fn junk_never_panics(bytes in any::<Vec<u8>>()) {
        if let Ok(Message::Batch { parts, .. }) = Message::decode(&mut Reader(&bytes)) {
            let _ = parts.iter().count();
        }
    }
}
