//! The way from a key to what holds it: keyspace, partition, group. Made once, from the table of
//! keyspaces, so that a command takes it without a walk.

use crate::GroupId;
use crate::keyspace::slot::slot_of;
use crate::keyspace::{Keyspace, SLOTS};
use alloc::vec::Vec;

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
    /// The keyspaces by prefix.
    prefixes: Vec<Prefix>,
    /// For each first byte, the part of `prefixes` that begins with it: start and end.
    by_first_byte: Vec<(usize, usize)>,
    /// The keyspace of the empty prefix.
    every_key: Option<usize>,
    /// The routes of all partitions of all keyspaces.
    routes: Vec<Route>,
}

struct Prefix {
    prefix: Vec<u8>,
    /// The longest other prefix that this one begins with.
    shorter: Option<usize>,
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
        let mut sorted: Vec<(usize, &Keyspace)> = keyspaces.iter().enumerate().collect();
        sorted.sort_unstable_by(|(_, a), (_, b)| a.prefix.cmp(&b.prefix));
        let mut routes = Vec::new();
        let mut prefixes: Vec<Prefix> = Vec::new();
        for (number, keyspace) in sorted {
            // What this one begins with came before it, the longest of them last.
            let shorter = prefixes.iter().rposition(|p| keyspace.prefix.starts_with(&p.prefix));
            let (first_route, partitions) = (routes.len(), keyspace.partitions());
            routes.extend((0..partitions).map(|partition| {
                let (group, place) = group(keyspace, partition);
                Route { keyspace: number, group, place }
            }));
            let prefix = keyspace.prefix.clone();
            prefixes.push(Prefix { prefix, shorter, partitions, first_route });
        }
        let bounds = |byte: u8| {
            let before = |p: &Prefix| p.prefix.first().is_none_or(|first| *first < byte);
            let start = prefixes.partition_point(before);
            let here = |p: &&Prefix| p.prefix.first() == Some(&byte);
            (start, start + prefixes.iter().skip(start).take_while(here).count())
        };
        let by_first_byte = (0..=u8::MAX).map(bounds).collect();
        let every_key = prefixes.iter().position(|prefix| prefix.prefix.is_empty());
        Routes { prefixes, by_first_byte, every_key, routes }
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
        if start == end {
            return self.prefixes.get(self.every_key?);
        }
        self.longest_of(key, start, end)
    }

    /// The longest prefix of a key, of those from `start` to `end` and the empty one. All prefixes
    /// of the key that there are begin the newest one that is not behind the key.
    fn longest_of(&self, key: &[u8], start: usize, end: usize) -> Option<&Prefix> {
        let within = self.prefixes.get(start..end).unwrap_or_default();
        let behind = start + within.partition_point(|prefix| *prefix.prefix <= *key);
        let mut place = if behind > start { Some(behind - 1) } else { self.every_key };
        while let Some(prefix) = self.prefixes.get(place?) {
            if key.starts_with(&prefix.prefix) {
                return Some(prefix);
            }
            place = prefix.shorter;
        }
        None
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
