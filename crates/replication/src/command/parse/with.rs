//! `TF.WITH ACKS sync -- SET k v`, `TF.WITH W 3 -- SET k v`: one command with its own acks or
//! quorums. Whether the keyspace of its key
//! accepts them is not decided here.

use super::by_table;
use crate::command::error::{ECHO_BYTES_MAX, echo};
use crate::command::verb::{Command, EachVerb, With};
use crate::command::{Action, Arguments, CommandInfo, Reply, number};
use crate::keyspace::{AckLevel, Acks};
use alloc::format;

const USAGE: &str = "options are ACKS async|semi-sync|sync|majority|n and LEVEL \
                     received|durable|applied (what a write waits for where there is a leader), W \
                     n and R n (acks of a write, answers of a read, without a leader), n from 1 \
                     to 255; then -- and the command";

pub(in crate::command) fn with<'a>(
    info: &'static CommandInfo,
    arguments: Arguments<'a>,
) -> Result<Command<'a>, Reply<'static>> {
    let mut with = With::default();
    let mut place = 1;
    loop {
        let option = match arguments.get(place) {
            Some(b"--") => break,
            Some(option) => option,
            None => return wrong("no command: '--' is missing"),
        };
        let value = arguments.get(place + 1).unwrap_or_default();
        if !set(&mut with, option, value)? {
            return wrong("an option is given twice");
        }
        place += 2;
    }
    let inner = arguments.from(place + 1);
    let name = inner.get(0).unwrap_or_default();
    if inner.is_empty() {
        return wrong("no command after '--'");
    }
    if name.eq_ignore_ascii_case(info.name.as_bytes()) {
        return wrong("not a command for itself");
    }
    if name.eq_ignore_ascii_case(b"TF.ONCE") {
        // Understood one in the other, they would be as deep as a client likes, and so the stack.
        return wrong("TF.ONCE goes in front: TF.ONCE session number -- TF.WITH ... -- command");
    }
    let command = by_table(inner)?;
    let has_keys = match command.action {
        Action::Key(_) | Action::Each { .. } => true,
        Action::SetMany { .. } => with.w.is_none() && with.r.is_none(),
        _ => false,
    };
    if with != With::default() && !has_keys {
        let name = echo(name, ECHO_BYTES_MAX);
        return wrong(&format!("'{name}' has no quorum of its own"));
    }
    if (with.acks.is_some() || with.level.is_some()) && !is_write(&command.action) {
        let name = echo(name, ECHO_BYTES_MAX);
        return wrong(&format!("'{name}' writes nothing: ACKS and LEVEL are about writes"));
    }
    Ok(Command { with, ..command })
}

/// Sets one option; false if it was set before.
fn set(with: &mut With, option: &[u8], value: &[u8]) -> Result<bool, Reply<'static>> {
    let shown = || echo(value, ECHO_BYTES_MAX);
    let upper = option.to_ascii_uppercase();
    Ok(match upper.as_slice() {
        b"W" | b"R" => {
            let Some(number) = nodes(value) else {
                return wrong(&format!("'{}' is not a number of nodes", shown()));
            };
            let field = if upper == b"W" { &mut with.w } else { &mut with.r };
            field.replace(number).is_none()
        }
        b"ACKS" => {
            let acks = match value.to_ascii_lowercase().as_slice() {
                b"async" => Acks::Async,
                b"semi-sync" => Acks::SemiSync,
                b"sync" => Acks::Sync,
                b"majority" => Acks::Majority,
                _ => match nodes(value) {
                    Some(number) => Acks::Exactly(number),
                    None => return wrong(&format!("'{}' is no number of acks", shown())),
                },
            };
            with.acks.replace(acks).is_none()
        }
        b"LEVEL" => {
            let level = match value.to_ascii_lowercase().as_slice() {
                b"received" => AckLevel::Received,
                b"durable" => AckLevel::Durable,
                b"applied" => AckLevel::Applied,
                _ => return wrong(&format!("'{}' is no level of acks", shown())),
            };
            with.level.replace(level).is_none()
        }
        _ => return wrong(&format!("unknown option '{}'", echo(option, ECHO_BYTES_MAX))),
    })
}

fn nodes(value: &[u8]) -> Option<u8> {
    number::unsigned(value).and_then(|n| u8::try_from(n).ok()).filter(|n| *n > 0)
}

fn is_write(action: &Action<'_>) -> bool {
    match action {
        Action::Key(command) => command.verb.is_write(),
        Action::Each { verb, .. } => *verb == EachVerb::Delete,
        _ => true,
    }
}

fn wrong<T>(what: &str) -> Result<T, Reply<'static>> {
    Err(Reply::error(format!("ERR TF.WITH: {what}; {USAGE}")))
}
