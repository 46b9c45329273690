//! What the cluster itself says that it has lost: `TF.LOST LIST` of every node.

use super::connection::Connection;
use super::workload::Workload;
use replication::Reply;
use simulator::observe::tokens;
use std::collections::{BTreeMap, BTreeSet};
use std::io;

/// All nodes' reports together.
#[derive(Default)]
pub struct Report {
    /// Whether the nodes know the command at all.
    pub exists: bool,
    /// The workload's values that were reported, with what was said of them.
    pub values: BTreeMap<String, String>,
    /// How many entries concern the workload's keys, by what was said of them.
    pub by_status: BTreeMap<String, usize>,
    /// Leaders that were not heard out.
    pub unheard: u64,
    /// How many writes at most they took with them; the largest number where nobody knows.
    pub unheard_writes: u64,
    /// Nodes that did not tell, or did not tell all.
    pub silent: BTreeSet<String>,
}

/// Asks every node about a keyspace.
pub fn ask_all(workload: &Workload, prefix: &str) -> Report {
    let mut report = Report::default();
    let mut seen = BTreeSet::new();
    for target in &workload.targets {
        let answer = Connection::open(target.address, workload.timeout)
            .and_then(|mut connection| entries(&mut connection));
        match answer {
            Ok(None) => {}
            Ok(Some(entries)) => {
                report.exists = true;
                for entry in entries {
                    // Each node tells all nodes' reports.
                    if seen.insert(entry.clone()) {
                        report.add(&entry, prefix, &workload.key_prefix);
                    }
                }
            }
            Err(error) => drop(report.silent.insert(format!("{}: {error}", target.name))),
        }
    }
    report
}

type Entry = BTreeMap<String, String>;

impl Report {
    fn add(&mut self, entry: &Entry, prefix: &str, key_prefix: &str) {
        let field = |name: &str| entry.get(name).map_or("", String::as_str);
        match field("kind") {
            "unheard" if field("keyspace") == prefix => {
                self.unheard += 1;
                let at_most = field("at_most").parse().unwrap_or(u64::MAX);
                self.unheard_writes = self.unheard_writes.saturating_add(at_most);
            }
            "unreachable" => drop(self.silent.insert(field("node").to_owned())),
            "given-up" if field("keyspace") == prefix => {
                self.silent.insert(format!("{} lost writes that were given up", field("count")));
            }
            "more" => drop(self.silent.insert(format!("{} more lost writes", field("count")))),
            _ => {}
        }
        if !field("key").starts_with(key_prefix) {
            return;
        }
        let status = field("status").to_owned();
        *self.by_status.entry(status.clone()).or_default() += 1;
        // A change is a whole record: of a list, its last value is what was appended.
        let written = tokens(field("new").as_bytes()).pop();
        if let Some(value) = written {
            self.values.insert(value, status);
        }
    }
}

/// What a node has to tell; `None` where it does not know the command.
fn entries(connection: &mut Connection) -> io::Result<Option<Vec<Entry>>> {
    match connection.call(&["TF.LOST", "LIST"])? {
        Reply::Array(parts) => {
            let listed: Vec<Entry> = parts.iter().map(entry).collect();
            listed
                .into_iter()
                .map(|entry| whole(connection, entry))
                .collect::<io::Result<_>>()
                .map(Some)
        }
        Reply::Nil => Ok(Some(Vec::new())),
        Reply::Error(text) if text.to_lowercase().contains("unknown command") => Ok(None),
        Reply::Error(text) => Err(io::Error::other(text.into_owned())),
        other => Err(io::Error::other(format!("TF.LOST LIST answered {other:?}"))),
    }
}

/// An entry with all of its values: a list shows only the beginning of long ones.
fn whole(connection: &mut Connection, listed: Entry) -> io::Result<Entry> {
    match listed.get("id") {
        Some(id) if listed.get("shortened").is_some_and(|count| count != "0") => {
            Ok(entry(&connection.call(&["TF.LOST", "SHOW", id])?))
        }
        _ => Ok(listed),
    }
}

/// An entry is a map, which RESP2 spells as names and values in turn.
fn entry(reply: &Reply<'_>) -> Entry {
    let Reply::Array(parts) = reply else { return Entry::new() };
    let pairs = parts.chunks_exact(2).filter_map(|pair| match pair {
        [name, value] => Some((text(name)?, text(value)?)),
        _ => None,
    });
    pairs.collect()
}

fn text(reply: &Reply<'_>) -> Option<String> {
    match reply {
        Reply::Simple(text) => Some(text.to_string()),
        Reply::Bulk(bytes) => Some(String::from_utf8_lossy(bytes).into_owned()),
        Reply::Integer(number) => Some(number.to_string()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::borrow::Cow;

    #[test]
    fn an_entry_names_the_value_that_was_appended() {
        let bulk = |text: &'static str| Reply::Bulk(Cow::Borrowed(text.as_bytes()));
        let fields = ["id", "1", "key", "user:run:list:1", "new", "~a;~b;", "status", "maybe"];
        let reply = Reply::Array(fields.into_iter().map(bulk).collect());
        let mut report = Report::default();
        report.add(&entry(&reply), "user:", "user:run:");
        report.add(&entry(&reply), "user:", "user:another:");
        assert_eq!(report.values.get("~b;").map(String::as_str), Some("maybe"));
        assert_eq!((report.values.len(), report.by_status.get("maybe")), (1, Some(&1)));
        let unheard = ["kind", "unheard", "keyspace", "user:", "at_most", "7"];
        report.add(
            &entry(&Reply::Array(unheard.into_iter().map(bulk).collect())),
            "user:",
            "user:run:",
        );
        let silent = ["kind", "unreachable", "node", "n2"];
        report.add(
            &entry(&Reply::Array(silent.into_iter().map(bulk).collect())),
            "user:",
            "user:run:",
        );
        assert_eq!((report.unheard, report.unheard_writes), (1, 7));
        assert!(report.silent.contains("n2"));
        let unbounded = ["kind", "unheard", "keyspace", "user:"];
        report.add(
            &entry(&Reply::Array(unbounded.into_iter().map(bulk).collect())),
            "user:",
            "user:run:",
        );
        assert_eq!((report.unheard, report.unheard_writes), (2, u64::MAX));
    }
}
