//! What is done with which key.

use crate::history::Action;
use crate::options::{ModelName, Options};
use replication::random::Random;

/// For how long a key that fades is to stay at most, in milliseconds.
const LIFE_MS_MAX: u64 = 1_500;
/// One life in so many outlasts the run: its deadline must be the same everywhere in the end.
const LONG_LIFE_ONE_IN: u64 = 5;
/// How much longer that is.
const LONG_LIFE_MS: u64 = 3_600_000;

/// Keys of which two in different partitions are deleted together: the first and the last, the
/// second and the last but one.
const DELETED_TOGETHER: u64 = 4;

/// What may be done with a key: its checker depends on it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Kind {
    /// SET and GET: the zones, superseded writes, quorum reads.
    Register,
    /// APPEND and GET: what survives is seen in the end.
    List,
    /// SET, GET, DEL, SETNX, GETSET.
    Mixed,
    /// INCRBY and GET.
    Counter,
    /// APPEND or SETNX under a name, sent as often as it takes: once or never.
    Once,
    /// SET, DEL and GET where nobody promises an order: it only has to converge.
    Deleted,
    /// SET, SET with PX, PEXPIRE and GET: what has gone stays gone.
    Fading,
    /// MSET of two keys in one slot, and GET: both or none.
    Pair,
}

impl Kind {
    const ALL: [(Kind, &'static str); 8] = [
        (Kind::Register, "register"),
        (Kind::List, "list"),
        (Kind::Mixed, "mixed"),
        (Kind::Counter, "counter"),
        (Kind::Once, "once"),
        (Kind::Deleted, "deleted"),
        (Kind::Fading, "fading"),
        // Braces: all of them are in one slot.
        (Kind::Pair, "{pair}"),
    ];

    /// The kinds of a seed, and how many keys each of them has.
    pub fn of_seed(options: &Options) -> Vec<(Kind, u64)> {
        match options.model {
            // Nothing that only grows, where everything may be removed.
            ModelName::LeaderFollower if options.flushes => {
                vec![(Kind::Mixed, DELETED_TOGETHER), (Kind::Fading, 1), (Kind::Pair, 2)]
            }
            ModelName::LeaderFollower => vec![
                (Kind::Register, 3),
                (Kind::List, 2),
                (Kind::Mixed, if options.deletes_several { DELETED_TOGETHER } else { 2 }),
                (Kind::Counter, 1),
                (Kind::Fading, 1),
                (Kind::Pair, 2),
            ],
            ModelName::MultiLeader | ModelName::Leaderless => {
                vec![(Kind::Register, 4), (Kind::Counter, 2), (Kind::Deleted, 2), (Kind::Fading, 1)]
            }
        }
    }

    /// The kind of a key, from its name.
    pub fn of(key: &str) -> Option<Kind> {
        let name = key.split(':').next().unwrap_or("");
        Kind::ALL.iter().find(|(_, word)| *word == name).map(|(kind, _)| *kind)
    }

    /// All keys of these kinds.
    pub(super) fn keys(kinds: &[(Kind, u64)]) -> Vec<String> {
        let keys =
            |(kind, count): &(Kind, u64)| (0..*count).map(|n| kind.key(n)).collect::<Vec<_>>();
        kinds.iter().flat_map(keys).collect()
    }

    /// Any key, by its kind and its number.
    pub(super) fn pick(kinds: &[(Kind, u64)], random: &mut Random) -> (Kind, u64) {
        let total: u64 = kinds.iter().map(|(_, keys)| keys).sum();
        let mut pick = random.range(0, total);
        for (kind, keys) in kinds {
            if pick < *keys {
                return (*kind, pick);
            }
            pick -= keys;
        }
        (Kind::Register, 0)
    }

    /// The name of one key of this kind.
    pub fn key(self, number: u64) -> String {
        let word = Kind::ALL.iter().find(|(kind, _)| *kind == self).map_or("", |(_, word)| word);
        format!("{word}:{number}")
    }

    /// The keys of a command on a key of this kind.
    pub(super) fn keys_of(self, action: &Action, number: u64, several: bool) -> Vec<String> {
        match (self, action) {
            (Kind::Mixed, Action::Delete) if several && number < DELETED_TOGETHER => {
                vec![self.key(number), self.key(DELETED_TOGETHER - 1 - number)]
            }
            (Kind::Pair, Action::Set(_)) => vec![self.key(0), self.key(1)],
            _ => vec![self.key(number)],
        }
    }

    /// Whether the zones judge it.
    pub fn is_zoned(self) -> bool {
        matches!(self, Kind::Register | Kind::Pair)
    }

    /// Something that may be done with such a key; `value` is one that nobody else writes.
    pub fn action(self, value: String, random: &mut Random) -> Action {
        let dice = random.range(0, 100);
        match self {
            Kind::Register if dice < 50 => Action::Set(value),
            Kind::List if dice < 70 => Action::Append(value),
            Kind::Counter if dice < 70 => Action::Increment(random.range(1, 5) as i64),
            Kind::Mixed if dice < 20 => Action::Set(value),
            Kind::Mixed if dice < 35 => Action::Delete,
            Kind::Mixed if dice < 50 => Action::SetIfAbsent(value),
            Kind::Mixed if dice < 65 => Action::GetSet(value),
            Kind::Deleted if dice < 40 => Action::Set(value),
            Kind::Deleted if dice < 70 => Action::Delete,
            Kind::Fading if dice < 20 => Action::Set(value),
            Kind::Fading if dice < 40 => Action::SetFor(value, life_ms(random)),
            Kind::Fading if dice < 60 => Action::ExpireIn(life_ms(random)),
            Kind::Pair if dice < 50 => Action::Set(value),
            _ => Action::Get,
        }
    }
}

/// How long a key is to live.
fn life_ms(random: &mut Random) -> u64 {
    let ms = random.range(1, LIFE_MS_MAX);
    if ms.is_multiple_of(LONG_LIFE_ONE_IN) { ms + LONG_LIFE_MS } else { ms }
}
