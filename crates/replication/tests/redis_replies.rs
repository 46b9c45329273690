//! Plays recorded conversations with redis-server 7.0.15 against the parser, the evaluation and
//! both ways to make records, and compares every reply. The test needs no Redis; to record anew:
//! `REDIS=127.0.0.1:6379 cargo test -p replication --test redis_replies` (it empties that server).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use replication::command::verb::{EachVerb, Verb};
use replication::command::{Action, Arguments, KeyCommand, Reply, Span, parse};
use replication::data::{Name, Write, evaluate, mint, overwrite};
use replication::storage::record::Record;
use replication::version::{Dot, Stamp};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read, Write as _};
use std::net::TcpStream;
use std::path::PathBuf;

/// A moment between those that the conversations call past and future.
const NOW_MS: u64 = 1_800_000_000_000;

/// The recording is longer than this: an empty one proves nothing.
const REPLIES_MIN: usize = 300;

/// Keys and records, and how a write makes one.
struct Keys {
    records: BTreeMap<Vec<u8>, Record<'static>>,
    merging: bool,
    writes: u64,
}

impl Keys {
    fn new(merging: bool) -> Keys {
        Keys { records: BTreeMap::new(), merging, writes: 0 }
    }

    fn answer(&mut self, words: &[Vec<u8>]) -> String {
        let bytes = words.concat();
        let mut start = 0;
        let spans: Vec<Span> = words
            .iter()
            .map(|word| {
                let span = Span { start, length: word.len() as u32 };
                start += span.length;
                span
            })
            .collect();
        match parse(Arguments::new(&bytes, &spans)) {
            Ok(command) => self.act(&command.action),
            Err(reply) => shown(&reply),
        }
    }

    fn act(&mut self, action: &Action<'_>) -> String {
        match action {
            Action::Key(command) => self.one(command),
            Action::Each { verb, keys } => {
                let verb = match verb {
                    EachVerb::Get => Verb::Get,
                    EachVerb::Delete => Verb::Delete,
                    EachVerb::Exists => Verb::Exists,
                };
                let parts: Vec<String> =
                    keys.iter().map(|key| self.one(&KeyCommand { key, verb })).collect();
                if verb == Verb::Get {
                    return format!("[{}]", parts.join(" "));
                }
                let sum: u32 = parts.iter().map(|part| part[1..].parse::<u32>().unwrap()).sum();
                format!(":{sum}")
            }
            Action::SetMany { pairs } => {
                let words: Vec<&[u8]> = pairs.iter().collect();
                for pair in words.chunks(2) {
                    self.answer(&[b"set".to_vec(), pair[0].to_vec(), pair[1].to_vec()]);
                }
                "+OK".into()
            }
            Action::Flush => {
                self.records.clear();
                "+OK".into()
            }
            other => panic!("not part of the conversations: {other:?}"),
        }
    }

    fn one(&mut self, command: &KeyCommand<'_>) -> String {
        let old = self.records.get(command.key).map(|record| record.as_of(NOW_MS).into_owned());
        let evaluation = evaluate(command, old.as_ref(), NOW_MS);
        assert!(command.verb.is_write() || evaluation.write == Write::Nothing);
        let reply = shown(&evaluation.reply);
        self.writes += 1;
        let stamp = Stamp(Stamp::at(NOW_MS).0 + self.writes);
        let name = Name { stamp, dot: Dot { actor: 1, counter: self.writes } };
        if evaluation.write == Write::Nothing {
            return reply;
        }
        let new = if self.merging {
            // Two actors take turns, so that counters have several slots.
            Some(mint(evaluation.write, old.as_ref(), name, self.writes % 2))
        } else {
            overwrite(evaluation.write, old.as_ref(), name)
        };
        match new {
            Some(record) => self.records.insert(command.key.to_vec(), record.into_owned()),
            None => self.records.remove(command.key),
        };
        reply
    }
}

/// A reply on one line.
fn shown(reply: &Reply<'_>) -> String {
    match reply {
        Reply::Ok => "+OK".into(),
        Reply::Simple(text) => format!("+{text}"),
        Reply::Integer(number) => format!(":{number}"),
        Reply::Bulk(bytes) => format!("\"{}\"", bytes.escape_ascii()),
        Reply::Nil => "nil".into(),
        Reply::Array(parts) => {
            format!("[{}]", parts.iter().map(shown).collect::<Vec<_>>().join(" "))
        }
        Reply::Error(text) => format!("-{text}"),
    }
}

/// The words of a line; `''` is an empty one.
fn words(line: &str) -> Vec<Vec<u8>> {
    let plain = |word: &str| if word == "''" { Vec::new() } else { word.as_bytes().to_vec() };
    line.split(' ').map(plain).collect()
}

fn path() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/redis_replies.txt")
}

fn compare(merging: bool) {
    let text = std::fs::read_to_string(path()).unwrap();
    let mut keys = Keys::new(merging);
    let mut wrong = String::new();
    let mut answer = None;
    let mut compared = 0;
    for (number, line) in text.lines().enumerate() {
        if let Some(command) = line.strip_prefix("> ") {
            answer = Some((command, keys.answer(&words(command))));
        } else if let Some((command, got)) = answer.take() {
            compared += 1;
            if got != line {
                let number = number + 1;
                let _ = writeln!(wrong, "{number}: {command}\n  redis: {line}\n  here:  {got}");
            }
        }
    }
    assert!(compared > REPLIES_MIN, "only {compared} replies compared");
    assert!(wrong.is_empty(), "\n{wrong}");
}

#[test]
fn replies_are_those_of_redis_where_writes_are_ordered() {
    record_anew();
    compare(false);
}

#[test]
fn replies_are_those_of_redis_where_writes_are_merged() {
    compare(true);
}

/// Asks the Redis server at `$REDIS`, if there is one, and writes down what it says.
fn record_anew() {
    let Ok(address) = std::env::var("REDIS") else {
        return;
    };
    let mut redis = BufReader::new(TcpStream::connect(address).unwrap());
    let mut recorded = String::new();
    for line in std::fs::read_to_string(path()).unwrap().lines() {
        let Some(command) = line.strip_prefix("> ") else {
            if line.is_empty() || line.starts_with('#') {
                let _ = writeln!(recorded, "{line}");
            }
            continue;
        };
        let words = words(command);
        let mut request = format!("*{}\r\n", words.len()).into_bytes();
        for word in words {
            request.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
            request.extend_from_slice(&word);
            request.extend_from_slice(b"\r\n");
        }
        redis.get_mut().write_all(&request).unwrap();
        let _ = writeln!(recorded, "> {command}\n{}", shown(&reply(&mut redis)));
    }
    std::fs::write(path(), recorded).unwrap();
}

fn reply(redis: &mut BufReader<TcpStream>) -> Reply<'static> {
    let mut line = String::new();
    redis.read_line(&mut line).unwrap();
    let rest = line[1..].trim_end_matches(['\r', '\n']).to_string();
    match &line[..1] {
        "+" if rest == "OK" => Reply::Ok,
        "+" => Reply::Simple(rest.into()),
        ":" => Reply::Integer(rest.parse().unwrap()),
        "-" => Reply::Error(rest.into()),
        "*" => Reply::Array((0..rest.parse().unwrap()).map(|_| reply(redis)).collect()),
        _ if rest == "-1" => Reply::Nil,
        _ => {
            let mut bytes = vec![0; rest.parse::<usize>().unwrap() + 2];
            redis.read_exact(&mut bytes).unwrap();
            bytes.truncate(bytes.len() - 2);
            Reply::Bulk(bytes.into())
        }
    }
}
