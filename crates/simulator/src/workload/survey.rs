//! Commands that look at all keys of the cluster: SCAN from its first cursor to its last, KEYS and
//! DBSIZE.

use replication::Reply;
use replication::random::Random;
use std::collections::BTreeSet;

/// A look at all keys, and what it has shown.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Survey {
    /// When its first command was given.
    pub began_us: u64,
    /// When its last reply came.
    pub ended_us: u64,
    /// The keys that it has shown so far; none where it only counts.
    pub keys: BTreeSet<String>,
    /// How many keys there are, where it only counts.
    pub count: Option<i64>,
    how: How,
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum How {
    /// From this cursor on.
    Scan(String),
    Keys,
    Count,
}

impl Survey {
    pub(super) fn new(now_us: u64, random: &mut Random) -> Survey {
        let how = match random.range(0, 4) {
            0 => How::Keys,
            1 => How::Count,
            _ => How::Scan(String::from("0")),
        };
        Survey { began_us: now_us, ended_us: u64::MAX, keys: BTreeSet::new(), count: None, how }
    }

    /// A finished look: from and until when, and what it has shown.
    pub fn of(began_us: u64, ended_us: u64, keys: &[&str], count: Option<i64>) -> Survey {
        let how = if count.is_some() { How::Count } else { How::Keys };
        let keys = keys.iter().map(|key| key.to_string()).collect();
        Survey { began_us, ended_us, keys, count, how }
    }

    /// What it is counted as when it has ended.
    pub(super) fn name(&self) -> &'static str {
        match self.how {
            How::Scan(_) => "scan to the end",
            How::Keys => "all keys",
            How::Count => "count of keys",
        }
    }

    /// Whether it goes on where it was, after a command without an answer.
    pub(super) fn goes_on(&self) -> bool {
        matches!(&self.how, How::Scan(cursor) if cursor != "0")
    }

    /// Its next command.
    pub(super) fn arguments(&self, random: &mut Random) -> Vec<String> {
        match &self.how {
            How::Scan(cursor) => {
                let count = random.range(1, 8).to_string();
                vec![String::from("SCAN"), cursor.clone(), String::from("COUNT"), count]
            }
            How::Keys => vec![String::from("KEYS"), String::from("*")],
            How::Count => vec![String::from("DBSIZE")],
        }
    }

    /// Takes in a reply; says whether it has ended. `None`: it was no answer.
    pub(super) fn take(&mut self, reply: &Reply<'_>, now_us: u64) -> Option<bool> {
        self.ended_us = now_us;
        match (&mut self.how, reply) {
            (How::Count, Reply::Integer(count)) => self.count = Some(*count),
            (How::Keys, Reply::Array(keys)) => self.keys.extend(keys.iter().filter_map(text)),
            (How::Scan(cursor), Reply::Array(parts)) => {
                let [next, Reply::Array(keys)] = parts.as_slice() else { return None };
                self.keys.extend(keys.iter().filter_map(text));
                *cursor = text(next)?;
                return Some(cursor == "0");
            }
            _ => return None,
        }
        Some(true)
    }
}

fn text(reply: &Reply<'_>) -> Option<String> {
    match reply {
        Reply::Bulk(bytes) => Some(String::from_utf8_lossy(bytes).into_owned()),
        Reply::Simple(text) => Some(text.to_string()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bulk(text: &str) -> Reply<'static> {
        Reply::Bulk(text.as_bytes().to_vec().into())
    }

    #[test]
    fn a_scan_goes_on_from_its_cursor_until_that_is_zero() {
        let how = How::Scan(String::from("0"));
        let mut scan = Survey { began_us: 1, ended_us: 1, keys: BTreeSet::new(), count: None, how };
        assert!(!scan.goes_on());
        let page = |cursor, key| Reply::Array(vec![bulk(cursor), Reply::Array(vec![bulk(key)])]);
        assert_eq!(scan.take(&page("7", "a"), 2), Some(false));
        assert!(scan.goes_on());
        assert_eq!(scan.arguments(&mut Random::new(1))[..2], ["SCAN", "7"]);
        assert_eq!(scan.take(&Reply::error("TRYAGAIN"), 3), None);
        assert_eq!(scan.take(&page("0", "b"), 4), Some(true));
        assert_eq!(scan.keys.into_iter().collect::<Vec<_>>(), ["a", "b"]);
    }
}
