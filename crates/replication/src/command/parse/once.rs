//! `TF.ONCE session seq -- INCR k`: a command that is carried out at most once, however often and
//! through whichever node it is sent.

use super::{by_table, command};
use crate::command::error::{ECHO_BYTES_MAX, echo};
use crate::command::once::{OnceId, SESSION_BYTES_MAX, started_ms};
use crate::command::verb::{Action, Command};
use crate::command::{Arguments, CommandInfo, Reply, number};
use crate::wire::Writer;
use alloc::boxed::Box;
use alloc::format;
use alloc::vec::Vec;
use xxhash_rust::xxh3::xxh3_64;

/// Where the command starts: behind the name, the session, its number and `--`.
const COMMAND: usize = 4;

pub(in crate::command) fn once<'a>(
    info: &'static CommandInfo,
    arguments: Arguments<'a>,
) -> Result<Command<'a>, Reply<'static>> {
    let session = arguments.get(1).unwrap_or_default();
    if started_ms(session).is_none() {
        return wrong(&format!(
            "'{}' is not a session's name: the milliseconds since 1970 at which it was started, \
             '-', and something that no other session has, at most {SESSION_BYTES_MAX} bytes",
            echo(session, ECHO_BYTES_MAX)
        ));
    }
    let text = arguments.get(2).unwrap_or_default();
    let Some(sequence) = number::unsigned(text).filter(|sequence| *sequence > 0) else {
        let text = echo(text, ECHO_BYTES_MAX);
        return wrong(&format!("'{text}' is not a command's number in its session, from 1 on"));
    };
    if arguments.get(3) != Some(b"--") {
        return wrong("'--' is missing behind the command's number");
    }
    let inner = arguments.from(COMMAND);
    let name = inner.get(0).unwrap_or_default();
    if name.eq_ignore_ascii_case(info.name.as_bytes()) {
        return wrong("not a command for itself");
    }
    let digest = digest(inner);
    let inner = by_table(inner)?;
    match &inner.action {
        Action::Key(key_command) if key_command.verb.is_write() => {}
        Action::SetMany { .. } => {}
        _ => {
            let name = echo(name, ECHO_BYTES_MAX);
            return wrong(&format!("'{name}' is not a write of one key, nor MSET"));
        }
    }
    let id = OnceId { session, sequence, digest };
    Ok(command(Action::Once { id, command: Box::new(inner) }))
}

/// A hash of a command's words, without what `TF.WITH` says: a retry may wait for other acks.
fn digest(command: Arguments<'_>) -> u64 {
    let is_with = command.get(0).is_some_and(|name| name.eq_ignore_ascii_case(b"tf.with"));
    let start = command.iter().position(|word| word == b"--").filter(|_| is_with);
    let mut bytes = Vec::new();
    for word in command.from(start.map_or(0, |place| place + 1)).iter() {
        Writer(&mut bytes).bytes(word);
    }
    xxh3_64(&bytes)
}

fn wrong<T>(what: &str) -> Result<T, Reply<'static>> {
    Err(Reply::error(format!("ERR TF.ONCE: {what}; usage: TF.ONCE session number -- command")))
}
