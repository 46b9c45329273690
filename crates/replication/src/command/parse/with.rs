//! `TF.WITH W 3 R 1 -- SET k v`: one command with its own quorums. Whether the keyspace of its key
//! accepts them is not decided here.

use super::by_table;
use crate::command::error::{ECHO_BYTES_MAX, echo};
use crate::command::verb::{Command, With};
use crate::command::{Action, Arguments, CommandInfo, Reply, number};
use alloc::format;

const USAGE: &str = "options are W n (acks that a write waits for) and R n (answers that a read \
                     waits for), n from 1 to 255; then -- and the command";

pub(in crate::command) fn with<'a>(
    info: &'static CommandInfo,
    arguments: Arguments<'a>,
) -> Result<Command<'a>, Reply<'static>> {
    let mut with = With::default();
    let mut place = 1;
    loop {
        let field = match arguments.get(place) {
            Some(b"--") => break,
            Some([b'w' | b'W']) => &mut with.w,
            Some([b'r' | b'R']) => &mut with.r,
            Some(other) => {
                let other = echo(other, ECHO_BYTES_MAX);
                return wrong(&format!("unknown option '{other}'"));
            }
            None => return wrong("no command: '--' is missing"),
        };
        let number = arguments.get(place + 1).unwrap_or_default();
        let valid = number::unsigned(number).and_then(|n| u8::try_from(n).ok()).filter(|n| *n > 0);
        let Some(valid) = valid else {
            return wrong(&format!("'{}' is not a number of nodes", echo(number, ECHO_BYTES_MAX)));
        };
        if field.replace(valid).is_some() {
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
    let command = by_table(inner)?;
    let has_keys = matches!(command.action, Action::Key(_) | Action::Each { .. });
    if with != With::default() && !has_keys {
        let name = echo(name, ECHO_BYTES_MAX);
        return wrong(&format!("'{name}' has no quorum of its own"));
    }
    Ok(Command { with, ..command })
}

fn wrong<T>(what: &str) -> Result<T, Reply<'static>> {
    Err(Reply::error(format!("ERR TF.WITH: {what}; {USAGE}")))
}
