//! What the recorded conversations with Redis (`tests/redis_replies.txt`) cannot show.
#![allow(clippy::unwrap_used, clippy::panic)]

use super::*;
use crate::command::verb::{Deadline, ExpireCondition, Needs, Scan};
use crate::command::{Scope, Span, all};
use crate::keyspace::{AckLevel, Acks};
use alloc::string::String;
use alloc::vec::Vec;
use proptest::prelude::*;

/// Parses the words of a line and hands over the result.
fn with_words<T>(
    words: &[&[u8]],
    look: impl FnOnce(Result<Command<'_>, Reply<'static>>) -> T,
) -> T {
    let bytes = words.concat();
    let mut start = 0;
    let mut spans = Vec::new();
    for word in words {
        spans.push(Span { start, length: word.len() as u32 });
        start += word.len() as u32;
    }
    look(parse(Arguments::new(&bytes, &spans)))
}

fn with_line<T>(line: &str, look: impl FnOnce(Result<Command<'_>, Reply<'static>>) -> T) -> T {
    let words: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
    with_words(&words, look)
}

fn error_of(line: &str) -> String {
    with_line(line, |parsed| match parsed {
        Err(Reply::Error(text)) => text.into_owned(),
        other => panic!("{line}: {other:?}"),
    })
}

fn needs_of(line: &str) -> Needs {
    with_line(line, |parsed| match parsed.unwrap().action {
        Action::Key(command) => command.verb.needs(),
        other => panic!("{line}: {other:?}"),
    })
}

#[test]
fn plain_get_and_set_come_out_as_by_the_table() {
    let words: [&[u8]; 3] = [b"sEt", b"k", b"v"];
    let set =
        Verb::Set { value: b"v", expiry: Expiry::Clear, condition: Condition::Always, get: false };
    with_words(&words, |parsed| assert_eq!(parsed.unwrap(), one(b"k", set)));
    with_line("GET k", |parsed| assert_eq!(parsed.unwrap(), one(b"k", Verb::Get)));
    let bytes = b"SETkv";
    let spans = [(0, 3), (3, 1), (4, 1)].map(|(start, length)| Span { start, length });
    let arguments = Arguments::new(bytes, &spans);
    let found = plain(arguments).map(|command| one(command.key, command.verb));
    assert_eq!(found, by_table(arguments).ok());
}

#[test]
fn one_key_makes_a_command_on_one_key() {
    let single = |line| with_line(line, |c| matches!(c.unwrap().action, Action::Key(_)));
    assert!(single("DEL a") && single("EXISTS a") && single("UNLINK a") && single("MSET a 1"));
    assert!(!single("DEL a b") && !single("MGET a") && !single("MSET a 1 b 2"));
}

#[test]
fn what_the_cluster_is_asked() {
    with_line("SCAN 17 MATCH a* COUNT 5 TYPE string", |parsed| {
        let scan = Scan { cursor: 17, pattern: Some(b"a*"), count: 5, kind: Some(b"string") };
        assert_eq!(parsed.unwrap().action, Action::Scan(scan));
    });
    with_line("WAIT -1 100", |parsed| {
        assert_eq!(
            parsed.unwrap().action,
            Action::Wait { replicas: 0, timeout_ms: 100, local: None }
        );
    });
    with_line("WAITAOF 1 2 100", |parsed| {
        assert_eq!(
            parsed.unwrap().action,
            Action::Wait { replicas: 2, timeout_ms: 100, local: Some(1) }
        );
    });
    assert!(error_of("WAITAOF 2 0 0").ends_with("must between 0 and 1"));
    assert!(error_of("WAITAOF 0 -1 0").contains("must be positive"));
    assert_eq!(error_of("WAITAOF 0 0 -1"), "ERR timeout is negative");
    assert_eq!(error_of("WAITAOF x 0 0"), "ERR value is not an integer or out of range");
    with_line("TF.OUTCOME 1ab", |parsed| {
        assert_eq!(parsed.unwrap().action, Action::Outcome { token: b"1ab" });
    });
    with_line("tf.degraded list user:", |parsed| {
        assert_eq!(parsed.unwrap().action, Action::Degraded { prefix: Some(b"user:") });
    });
    for line in ["TF.DEGRADED SHOW", "TF.DEGRADED LIST a b"] {
        assert!(error_of(line).contains("TF.DEGRADED LIST [prefix]"), "{line}");
    }
    for line in ["FLUSHALL", "flushdb ASYNC", "flushall sync"] {
        with_line(line, |parsed| assert_eq!(parsed.unwrap().action, Action::Flush));
    }
}

#[test]
fn deadlines_in_milliseconds() {
    let verb = |line| {
        with_line(line, |parsed| match parsed.unwrap().action {
            Action::Key(KeyCommand { verb: Verb::Expire(deadline, condition), .. }) => {
                (deadline, condition)
            }
            other => panic!("{line}: {other:?}"),
        })
    };
    assert_eq!(verb("EXPIRE k 10 nx"), (Deadline::In(10_000), ExpireCondition::IfNone));
    assert_eq!(verb("PEXPIRE k -10"), (Deadline::In(-10), ExpireCondition::Always));
    assert_eq!(verb("EXPIREAT k 10 xx GT"), (Deadline::At(10_000), ExpireCondition::IfLater));
    let both = ExpireCondition::IfSomeAndEarlier;
    assert_eq!(verb("PEXPIREAT k 10 lt xx"), (Deadline::At(10), both));
}

#[test]
fn options_of_one_command() {
    with_line("TF.WITH w 3 R 1 -- SET k v", |parsed| {
        let command = parsed.unwrap();
        assert_eq!(command.with, With { w: Some(3), r: Some(1), ..With::default() });
        assert!(matches!(command.action, Action::Key(KeyCommand { key: b"k", .. })));
    });
    with_line("tf.with acks SYNC level received -- mset k v", |parsed| {
        let command = parsed.unwrap();
        let (acks, level) = (Some(Acks::Sync), Some(AckLevel::Received));
        assert_eq!(command.with, With { acks, level, ..With::default() });
    });
    with_line("tf.with acks 2 -- del a b", |parsed| {
        assert_eq!(parsed.unwrap().with.acks, Some(Acks::Exactly(2)));
    });
    with_line("tf.with -- GET k", |parsed| assert_eq!(parsed.unwrap().with, With::default()));
    for line in [
        "TF.WITH ACKS all -- SET k v",
        "TF.WITH ACKS 0 -- SET k v",
        "TF.WITH LEVEL high -- SET k v",
        "TF.WITH ACKS 2 ACKS 3 -- SET k v",
        "TF.WITH ACKS sync -- GET k",
        "TF.WITH LEVEL applied -- MGET k l",
        "TF.WITH ACKS sync -- DBSIZE",
        "TF.WITH W 2 -- MSET k v l w",
        "TF.WITH N 3 -- GET k",
        "TF.WITH W 0 -- GET k",
        "TF.WITH W 256 -- GET k",
        "TF.WITH W x -- GET k",
        "TF.WITH W 3 GET k",
        "TF.WITH W 3",
        "TF.WITH W 3 --",
        "TF.WITH -- TF.WITH -- GET k",
        "TF.WITH -- TF.ONCE 5-x 1 -- SET k v",
    ] {
        let text = error_of(line);
        assert!(text.starts_with("ERR TF.WITH: ") && text.contains("W n"), "{line}: {text}");
    }
    assert_eq!(error_of("TF.WITH W 3 -- GET"), "ERR wrong number of arguments for 'get' command");
    assert_eq!(error_of("TF.WITH W 3 -- PING"), "ERR 'PING' is not a command on data");
}

#[test]
fn errors_are_one_short_line() {
    let long = [b'x'; 1000];
    let words: [&[u8]; 3] = [b"no\r\nsuch\0", b"a\nb\xff", &long];
    with_words(&words, |parsed| match parsed {
        Err(Reply::Error(text)) => {
            assert!(text.starts_with("ERR unknown command 'no  such ', with args beginning with"));
            assert!(!text.contains(char::is_control) && text.len() < 400, "{text}");
        }
        other => panic!("{other:?}"),
    });
    with_words(&[], |parsed| assert!(parsed.is_err()));
}

#[test]
fn the_table_says_what_the_verbs_need() {
    let examples = [
        ("set", "", "set k v"),
        ("set", "KEEPTTL", "set k v KEEPTTL"),
        ("set", "NX", "set k v NX"),
        ("set", "XX", "set k v XX"),
        ("set", "GET", "set k v GET"),
        ("setnx", "", "setnx k v"),
        ("setex", "", "setex k 1 v"),
        ("psetex", "", "psetex k 1 v"),
        ("get", "", "get k"),
        ("getset", "", "getset k v"),
        ("getdel", "", "getdel k"),
        ("getex", "", "getex k ex 1"),
        ("append", "", "append k v"),
        ("strlen", "", "strlen k"),
        ("getrange", "", "getrange k 0 1"),
        ("setrange", "", "setrange k 0 v"),
        ("incr", "", "incr k"),
        ("decr", "", "decr k"),
        ("incrby", "", "incrby k 1"),
        ("decrby", "", "decrby k 1"),
        ("incrbyfloat", "", "incrbyfloat k 1"),
        ("type", "", "type k"),
        ("expire", "", "expire k 1"),
        ("pexpire", "NX", "pexpire k 1 NX"),
        ("expireat", "XX", "expireat k 1 XX"),
        ("pexpireat", "GT", "pexpireat k 1 GT"),
        ("expire", "LT", "expire k 1 LT"),
        ("ttl", "", "ttl k"),
        ("pttl", "", "pttl k"),
        ("expiretime", "", "expiretime k"),
        ("pexpiretime", "", "pexpiretime k"),
        ("persist", "", "persist k"),
    ];
    for (name, option, line) in examples {
        let info = table::find(name.as_bytes()).unwrap();
        let said =
            info.forms.iter().find(|(forms, _)| !option.is_empty() && forms.contains(option));
        assert_eq!(needs_of(line), said.map_or(info.needs, |(_, needs)| *needs), "{line}");
        let writes = with_line(line, |parsed| match parsed.unwrap().action {
            Action::Key(command) => command.verb.is_write(),
            _ => false,
        });
        assert_eq!(writes, info.is_write(), "{line}");
    }
    for info in all().iter().filter(|info| info.reach == table::Reach::OneKey) {
        assert!(examples.iter().any(|(name, ..)| *name == info.name), "{} is missing", info.name);
    }
}

proptest! {
    /// Any arguments of any command are understood or refused; nothing panics, and nothing that
    /// the arity forbids is understood.
    #[test]
    fn any_arguments_have_an_answer(
        place in 0..all().len(),
        rest in prop::collection::vec(
            prop_oneof![
                prop::sample::select(alloc::vec!["ex", "px", "nx", "xx", "get", "gt", "lt", "--",
                    "keepttl", "persist", "exat", "pxat", "w", "r", "match", "count", "1", "-1",
                    "9223372036854775807", "get", "async"]).prop_map(|s| s.as_bytes().to_vec()),
                prop::collection::vec(any::<u8>(), 0..6),
            ],
            0..7,
        ),
    ) {
        let info = &all()[place];
        let mut words: Vec<&[u8]> = alloc::vec![info.name.as_bytes()];
        words.extend(rest.iter().map(Vec::as_slice));
        let understood = with_words(&words, |parsed| parsed.is_ok());
        prop_assert!(!understood || info.accepts(words.len()));
        prop_assert!(!understood || info.scope == Scope::Data);
    }
}

#[test]
fn commands_inside_of_commands_end_soon_however_many_there_are() {
    let mut words: Vec<&[u8]> = Vec::new();
    for _ in 0..100_000 {
        words.extend([&b"TF.WITH"[..], b"--", b"TF.ONCE", b"5-x", b"1", b"--"]);
    }
    words.extend([&b"DEL"[..], b"k"]);
    for from in [0, 2] {
        let words = words.get(from..).unwrap_or_default();
        with_words(words, |parsed| assert!(parsed.is_err()));
    }
}
