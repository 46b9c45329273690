//! What must happen now and then: a set of seeds in which an interesting thing never happened
//! proves nothing about it.

use crate::options::ModelName;
use std::collections::BTreeMap;

/// How often each interesting thing happened, by the names that
/// [`crate::observe::Observations::count`] was given.
pub type Counts = BTreeMap<&'static str, u64>;

/// Faults and clients of every model: what is counted, and within how many seeds it must have
/// happened. So many that it happens about ten times in them, so that a change of the core that
/// merely moves the seeds makes no set fail.
const EVERYWHERE: &[(&str, u64)] = &[
    ("all keys", 100),
    ("bridge", 100),
    ("checkpoint truncated the log", 200),
    ("clean stop", 100),
    ("clock jump", 100),
    ("clock strobe", 100),
    ("core healed", 100),
    ("count of keys", 100),
    ("crash", 100),
    ("crash between two steps", 100),
    ("crash during recovery", 100),
    ("crash of all", 100),
    ("cut off for ever", 100),
    ("damaged frame refused", 100),
    ("damaged log repaired", 1000),
    ("dead for ever", 100),
    ("disk error", 200),
    ("disk full", 100),
    ("disk read error", 200),
    ("disk stall", 500),
    ("drift", 100),
    ("far clock jump", 500),
    ("file has its old name again", 500),
    ("flapping links", 200),
    ("flipped bit", 1000),
    ("frame cut short", 100),
    ("frame flipped", 100),
    ("frame held up", 100),
    ("frame lost", 100),
    ("frame overtaken", 100),
    ("frame repeated", 100),
    ("halves", 100),
    ("isolated node", 100),
    ("misdirected write", 500),
    ("missing file", 1000),
    ("old frame", 100),
    ("one-way cut", 100),
    ("pause", 100),
    ("power cut", 100),
    ("ring", 100),
    ("scan to the end", 100),
    ("single link cut", 100),
    ("slow disk", 200),
    ("slow reader", 200),
    ("split", 100),
    ("stall in a turn", 100),
    ("stopped when it was spared", 200),
    ("storm of crashes", 200),
    ("swizzle-clog", 200),
    ("too many commands wait", 500),
    ("torn write", 200),
    ("truncated file", 1000),
    ("two writes in one millisecond", 100),
    ("unsynced data lost", 100),
    ("wall clocks skewed", 100),
    ("wiped disk", 1000),
    ("write lost by the disk", 1000),
];

const LEADER_FOLLOWER: &[(&str, u64)] = &[
    ("-UNKNOWN", 100),
    ("3 replicas", 100),
    ("5 replicas", 100),
    ("COMMITTED", 100),
    ("LOST", 100),
    ("PENDING", 1000),
    ("WAIT answered", 100),
    ("WAIT for several parts", 1000),
    ("WAITAOF answered", 100),
    ("ack level applied", 200),
    ("ack level durable", 100),
    ("ack level received", 200),
    ("acks async", 100),
    ("acks by number", 200),
    ("acks majority", 100),
    ("acks semi-sync", 100),
    ("acks sync", 100),
    ("blocked write released", 200),
    ("clock days off", 1000),
    ("clock stopped while suspended", 200),
    ("connection broken", 200),
    ("core without the leader", 200),
    ("crash during a snapshot", 1000),
    ("damaged log refused", 1000),
    ("degrade closed", 100),
    ("degrade opened", 100),
    ("degraded", 100),
    ("disk lied", 200),
    ("drift beyond the bound", 500),
    ("durability fsync", 100),
    ("durability interval", 100),
    ("end of the log lost unseen", 1000),
    ("failover", 100),
    ("group recovered by an operator", 500),
    ("handed over", 100),
    ("isolated leader", 100),
    ("key flushed", 200),
    ("lease lost", 100),
    ("lease read", 100),
    ("left after standing still", 200),
    ("left for a stalled disk", 200),
    ("lost write reported", 200),
    ("majority of disks lost", 500),
    ("missing acks: block", 200),
    ("missing acks: degrade", 100),
    ("missing acks: error", 100),
    ("old backup restored", 1000),
    ("possible loss", 100),
    ("retry deduplicated", 100),
    ("retry too old to tell", 200),
    ("session forgotten for its bytes", 200),
    ("slots ahead of their group", 200),
    ("snapshot installed", 100),
    ("snapshot resumed", 1000),
    ("stale epoch refused", 100),
    ("state freed over several turns", 100),
    ("stepped down", 100),
    ("too many replies wait", 200),
    ("too much uncommitted", 200),
    ("truncation", 100),
    ("voter admitted", 200),
    ("window full", 100),
    ("write taken apart", 100),
];

const MULTI_LEADER: &[(&str, u64)] = &[
    ("-CLOCK", 200),
    ("-UNKNOWN", 100),
    ("conflict resolved", 100),
    ("datacenters cut off", 100),
    ("disk lied", 500),
    ("failover", 100),
    ("isolated leader", 100),
    ("lost write reported", 200),
    ("snapshot installed", 100),
    ("stale epoch refused", 100),
    ("too many replies wait", 200),
    ("too much uncommitted", 200),
    ("truncation", 100),
    ("voter admitted", 1000),
    ("window full", 200),
];

const LEADERLESS: &[(&str, u64)] = &[
    ("-PARTIAL", 100),
    ("-UNKNOWN", 100),
    ("damaged log refused", 1000),
    ("datacenters cut off", 100),
    ("read repair", 100),
];

/// What must have happened in so many seeds of a model, and has not.
pub fn never(model: ModelName, seeds: u64, counts: &Counts) -> Vec<&'static str> {
    let own = match model {
        ModelName::LeaderFollower => LEADER_FOLLOWER,
        ModelName::MultiLeader => MULTI_LEADER,
        ModelName::Leaderless => LEADERLESS,
    };
    EVERYWHERE
        .iter()
        .chain(own)
        .filter(|(what, within)| seeds >= *within && !counts.contains_key(what))
        .map(|(what, _)| *what)
        .collect()
}

/// Keys whose commands' order was searched ([`crate::checkers::wgl`]).
pub const ORDERS_SEARCHED: &str = "order searched";
/// Those of them where the search gave up: of their order nothing is known.
pub const ORDERS_UNJUDGED: &str = "order not judged";
/// How many of them, in a thousand, there may be in a set of seeds.
const UNJUDGED_PER_MILLE: u64 = 20;

/// What a set of seeds must not have done so often: leave orders unjudged. A few seeds may.
pub fn too_often(seeds: u64, counts: &Counts) -> Option<String> {
    let count = |what| counts.get(what).copied().unwrap_or(0);
    let (searched, unjudged) = (count(ORDERS_SEARCHED), count(ORDERS_UNJUDGED));
    let is_much = seeds >= 100 && unjudged * 1000 > searched * UNJUDGED_PER_MILLE;
    is_much.then(|| format!("the order of {unjudged} keys of {searched} was not judged"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A set of a thousand seeds in which any one of these never happened is a failure.
    #[test]
    fn each_thing_that_never_happened_fails_a_thousand_seeds() {
        for model in ModelName::ALL {
            let all: Counts =
                never(model, 1000, &Counts::new()).into_iter().map(|what| (what, 1)).collect();
            assert!(never(model, 1000, &all).is_empty());
            for what in all.keys() {
                let mut counts = all.clone();
                counts.remove(what);
                assert_eq!(never(model, 1000, &counts), [*what]);
            }
        }
        let wanted = [
            "truncation",
            "snapshot installed",
            "snapshot resumed",
            "degraded",
            "lost write reported",
            "stale epoch refused",
            "retry deduplicated",
            "lease read",
            "lease lost",
        ];
        let never = never(ModelName::LeaderFollower, 1000, &Counts::new());
        assert!(wanted.iter().all(|what| never.contains(what)));
    }

    #[test]
    fn what_is_not_judged_is_rare() {
        let with = |unjudged| Counts::from([(ORDERS_SEARCHED, 1000), (ORDERS_UNJUDGED, unjudged)]);
        assert_eq!(too_often(100, &with(20)), None);
        assert!(too_often(100, &with(21)).is_some());
    }

    #[test]
    fn few_seeds_prove_nothing_and_many_must_have_seen_it() {
        let mut counts = Counts::new();
        let missing = |seeds, counts: &Counts| never(ModelName::LeaderFollower, seeds, counts);
        assert!(missing(99, &counts).is_empty());
        assert!(missing(100, &counts).contains(&"truncation"));
        assert!(!missing(100, &counts).contains(&"wiped disk"));
        assert!(missing(1000, &counts).contains(&"wiped disk"));
        counts.insert("truncation", 1);
        assert!(!missing(1000, &counts).contains(&"truncation"));
    }
}
