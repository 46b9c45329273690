//! `TF.LOST LIST [prefix]`, `SHOW id`, `REPLAY id`, `FORGET id`: the lost-write report.

use super::{argument, command};
use crate::command::error::{ECHO_BYTES_MAX, echo};
use crate::command::verb::{Action, Command, Lost};
use crate::command::{Arguments, CommandInfo, Reply};
use alloc::format;

pub(in crate::command) fn lost<'a>(
    _: &'static CommandInfo,
    arguments: Arguments<'a>,
) -> Result<Command<'a>, Reply<'static>> {
    let word = argument(arguments, 1);
    let rest = argument(arguments, 2);
    let lost = match (arguments.len(), word) {
        (2 | 3, word) if word.eq_ignore_ascii_case(b"list") => Lost::List { prefix: rest },
        (3, word) if word.eq_ignore_ascii_case(b"show") => Lost::Show(rest),
        (3, word) if word.eq_ignore_ascii_case(b"replay") => Lost::Replay(rest),
        (3, word) if word.eq_ignore_ascii_case(b"forget") => Lost::Forget(rest),
        _ => {
            let word = echo(word, ECHO_BYTES_MAX);
            return Err(Reply::error(format!(
                "ERR TF.LOST '{word}' with {} arguments is not known; there are LIST [prefix], \
                 SHOW id, REPLAY id and FORGET id",
                arguments.len().saturating_sub(2)
            )));
        }
    };
    Ok(command(Action::Lost(lost)))
}
