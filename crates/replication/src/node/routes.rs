//! The way from a key to what holds it: keyspace, partition, group. Made once, from the table of
//! keyspaces, so that a command takes it without a walk.

use crate::GroupId;
use crate::keyspace::slot::slot_of;
use crate::keyspace::{Keyspace, SLOTS};
use alloc::collections::BTreeSet;
use alloc::vec::Vec;
use hashbrown::HashTable;
use xxhash_rust::xxh3::xxh3_64;

/// What a route leads to, as this node sees it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Route {
    /// The keyspace's place in the table.
    pub keyspace: usize,
    /// The group.
    pub group: GroupId,
    /// The group's place among those with a leader that this node is a member of, if it is one.
    pub place: Option<usize>,
}

/// The way from each key to its group.
#[derive(Default)]
pub struct Routes {
    prefixes: Vec<Prefix>,
    /// Where a prefix that is not empty is among them.
    by_prefix: HashTable<usize>,
    /// How long the prefixes are that begin with the same byte: each length once, the longest
    /// first; and for each byte its part of them, start and end.
    lengths: Vec<usize>,
    by_first_byte: Vec<(usize, usize)>,
    /// The keyspace of the empty prefix.
    every_key: Option<usize>,
    /// The routes of all partitions of all keyspaces.
    routes: Vec<Route>,
}

struct Prefix {
    prefix: Vec<u8>,
    partitions: u16,
    /// Where its partitions start in `routes`.
    first_route: usize,
}

impl Routes {
    /// The routes through a table of keyspaces, whose prefixes differ. `group` names the group of
    /// one of their partitions, and its place on this node.
    pub fn new(
        keyspaces: &[Keyspace],
        group: impl Fn(&Keyspace, u16) -> (GroupId, Option<usize>),
    ) -> Routes {
        let mut all = Routes::default();
        for (number, keyspace) in keyspaces.iter().enumerate() {
            let (first_route, partitions) = (all.routes.len(), keyspace.partitions());
            all.routes.extend((0..partitions).map(|partition| {
                let (group, place) = group(keyspace, partition);
                Route { keyspace: number, group, place }
            }));
            let prefix = keyspace.prefix.clone();
            all.prefixes.push(Prefix { prefix, partitions, first_route });
        }
        let hash = |place: &usize| all.prefixes.get(*place).map_or(0, |p| xxh3_64(&p.prefix));
        for (place, prefix) in all.prefixes.iter().enumerate() {
            match prefix.prefix.is_empty() {
                true => all.every_key = Some(place),
                false => _ = all.by_prefix.insert_unique(hash(&place), place, hash),
            }
        }
        for byte in 0..=u8::MAX {
            let here = all.prefixes.iter().filter(|p| p.prefix.first() == Some(&byte));
            let lengths: BTreeSet<usize> = here.map(|prefix| prefix.prefix.len()).collect();
            let start = all.lengths.len();
            all.lengths.extend(lengths.iter().rev());
            all.by_first_byte.push((start, all.lengths.len()));
        }
        all
    }

    /// The route of a key: the keyspace with the longest matching prefix, and in it the partition
    /// of the key's slot.
    #[inline]
    pub fn of(&self, key: &[u8]) -> Option<&Route> {
        Some(self.with_slot(key)?.0)
    }

    /// The same, with the key's slot where that was needed to find it.
    #[inline]
    pub fn with_slot(&self, key: &[u8]) -> Option<(&Route, Option<u16>)> {
        let prefix = self.prefix_of(key)?;
        if prefix.partitions == 1 {
            return Some((self.routes.get(prefix.first_route)?, None));
        }
        let slot = slot_of(key);
        let partition = u32::from(slot) * u32::from(prefix.partitions) / u32::from(SLOTS);
        Some((self.routes.get(prefix.first_route + partition as usize)?, Some(slot)))
    }

    #[inline]
    fn prefix_of(&self, key: &[u8]) -> Option<&Prefix> {
        let first = key.first().and_then(|byte| self.by_first_byte.get(usize::from(*byte)));
        let (start, end) = first.copied().unwrap_or_default();
        let longest = if start == end { None } else { self.longest_of(key, start, end) };
        self.prefixes.get(longest.or(self.every_key)?)
    }

    /// The longest prefix of a key that is not empty, given which lengths there may be.
    fn longest_of(&self, key: &[u8], start: usize, end: usize) -> Option<usize> {
        self.lengths.get(start..end)?.iter().find_map(|length| {
            let prefix = key.get(..*length)?;
            let is_it =
                |place: &usize| self.prefixes.get(*place).is_some_and(|p| *p.prefix == *prefix);
            self.by_prefix.find(xxh3_64(prefix), is_it).copied()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::KeyspaceId;
    use crate::keyspace::{Cluster, Durability, Leaderless, Model};
    use alloc::string::String;
    use proptest::prelude::*;

    fn cluster(prefixes: &[Vec<u8>], partitions: u16) -> Cluster {
        let options = Leaderless {
            partitions,
            n: 1,
            w: 1,
            r: 1,
            durability: Durability::Fsync,
            timeout_ms: 1,
        };
        let keyspaces = prefixes.iter().enumerate().map(|(number, prefix)| Keyspace {
            id: KeyspaceId(number as u32),
            prefix: prefix.clone(),
            model: Model::Leaderless(options.clone()),
        });
        let keyspaces = keyspaces.collect();
        let (name, datacenters, members) = (Default::default(), Vec::new(), Vec::new());
        Cluster { name, secret: 0, datacenters, members, keyspaces }
    }

    fn routes(cluster: &Cluster) -> Routes {
        Routes::new(&cluster.keyspaces, |keyspace, partition| {
            (keyspace.group(partition, GroupId::EVERYWHERE), None)
        })
    }

    fn expected(cluster: &Cluster, key: &[u8]) -> Option<GroupId> {
        let keyspace = cluster.keyspace_of(key)?;
        Some(keyspace.group(keyspace.partition_of(slot_of(key)), GroupId::EVERYWHERE))
    }

    #[test]
    fn the_longest_prefix_wins_wherever_it_stands() {
        let prefixes = ["", "a", "a:b:", "a:b:c", "b", "\u{ff}"].map(|p| p.as_bytes().to_vec());
        let cluster = cluster(&prefixes, 3);
        let routes = routes(&cluster);
        for key in ["", "a", "a:", "a:b", "a:b:", "a:b:b", "a:b:d", "a:c", "b", "ba", "c", "~"] {
            let group = routes.of(key.as_bytes()).map(|route| route.group);
            assert_eq!(group, expected(&cluster, key.as_bytes()), "{key}");
            assert!(group.is_some());
        }
    }

    proptest! {
        #[test]
        fn the_table_and_the_routes_agree(
            prefixes in prop::collection::btree_set("[ab]{0,4}", 0..12),
            keys in prop::collection::vec("[abc]{0,6}", 1..40),
            partitions in 1u16..5,
        ) {
            let prefixes: Vec<Vec<u8>> = prefixes.into_iter().map(String::into_bytes).collect();
            let cluster = cluster(&prefixes, partitions);
            let routes = routes(&cluster);
            for key in keys {
                let group = routes.of(key.as_bytes()).map(|route| route.group);
                prop_assert_eq!(group, expected(&cluster, key.as_bytes()));
            }
        }
    }
}
