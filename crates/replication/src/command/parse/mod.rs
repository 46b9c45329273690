//! Arguments to commands. Whatever the arguments are, the result is a command or an error with
//! Redis 7.0's words. What GET and SET need is found first, without the table.

pub(super) mod cluster;
pub(super) mod key;
pub(super) mod lost;
pub(super) mod once;
mod options;
pub(super) mod several;
pub(super) mod string;
#[cfg(test)]
mod tests;
pub(super) mod with;

use super::error::{self, ECHO_BYTES_MAX, echo};
use super::table::{self, CommandInfo};
use super::verb::{Action, Command, Condition, Expiry, KeyCommand, Verb, With};
use super::{Arguments, Reply};
use alloc::format;

/// Understands the arguments of one command, whose number is right.
pub(crate) type Parser =
    for<'a> fn(&'static CommandInfo, Arguments<'a>) -> Result<Command<'a>, Reply<'static>>;

/// Understands a command on data. Commands of the connection and of the server are the driver's:
/// it finds them in the table before it asks the core.
pub fn parse<'a>(arguments: Arguments<'a>) -> Result<Command<'a>, Reply<'static>> {
    match plain(arguments) {
        Some(KeyCommand { key, verb }) => Ok(one(key, verb)),
        None => by_table(arguments),
    }
}

/// GET, and SET without options: most of all commands. `None` is any other.
#[inline]
pub fn plain<'a>(arguments: Arguments<'a>) -> Option<KeyCommand<'a>> {
    let verb = match (arguments.get(0)?, arguments.len()) {
        ([b'g' | b'G', b'e' | b'E', b't' | b'T'], 2) => Verb::Get,
        ([b's' | b'S', b'e' | b'E', b't' | b'T'], 3) => Verb::Set {
            value: arguments.get(2)?,
            expiry: Expiry::Clear,
            condition: Condition::Always,
            get: false,
        },
        _ => return None,
    };
    Some(KeyCommand { key: arguments.get(1)?, verb })
}

fn by_table<'a>(arguments: Arguments<'a>) -> Result<Command<'a>, Reply<'static>> {
    let name = arguments.get(0).unwrap_or_default();
    let Some(info) = table::find(name) else {
        return Err(error::unknown_command(arguments));
    };
    if !info.accepts(arguments.len()) {
        return Err(error::wrong_arity(info.name));
    }
    match info.parser {
        Some(parser) => parser(info, arguments),
        None => {
            let name = echo(name, ECHO_BYTES_MAX);
            Err(Reply::error(format!("ERR '{name}' is not a command on data")))
        }
    }
}

/// A command on one key.
#[inline]
fn one<'a>(key: &'a [u8], verb: Verb<'a>) -> Command<'a> {
    command(Action::Key(KeyCommand { key, verb }))
}

fn command(action: Action<'_>) -> Command<'_> {
    Command { action, with: With::default() }
}

/// The argument at a place that the arity guarantees; empty where it does not.
#[inline]
fn argument<'a>(arguments: Arguments<'a>, place: usize) -> &'a [u8] {
    arguments.get(place).unwrap_or_default()
}

/// A whole number as an argument.
fn integer(bytes: &[u8]) -> Result<i64, Reply<'static>> {
    super::number::integer(bytes).ok_or_else(|| error::fixed(error::NOT_AN_INTEGER))
}

fn syntax<T>() -> Result<T, Reply<'static>> {
    Err(error::fixed(error::SYNTAX))
}
