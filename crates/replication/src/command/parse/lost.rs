//! `TF.LOST LIST [prefix] [COUNT n] [AFTER id]`, `SHOW id`, `REPLAY id`, `FORGET id`: the
//! lost-write report.

use super::{argument, command};
use crate::command::error::{ECHO_BYTES_MAX, echo};
use crate::command::number;
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
        (_, word) if word.eq_ignore_ascii_case(b"list") => list(arguments)?,
        (3, word) if word.eq_ignore_ascii_case(b"show") => Lost::Show(rest),
        (3, word) if word.eq_ignore_ascii_case(b"replay") => Lost::Replay(rest),
        (3, word) if word.eq_ignore_ascii_case(b"forget") => Lost::Forget(rest),
        _ => {
            let word = echo(word, ECHO_BYTES_MAX);
            return Err(Reply::error(format!(
                "ERR TF.LOST '{word}' with {} arguments is not known; there are LIST [prefix] \
                 [COUNT n] [AFTER id], SHOW id, REPLAY id and FORGET id",
                arguments.len().saturating_sub(2)
            )));
        }
    };
    Ok(command(Action::Lost(lost)))
}

/// What comes in pairs are options; one before them is the prefix, whatever it reads.
fn list<'a>(arguments: Arguments<'a>) -> Result<Lost<'a>, Reply<'static>> {
    let first_option = 2 + arguments.len() % 2;
    let prefix = if first_option > 2 { argument(arguments, 2) } else { &[][..] };
    let (mut count, mut after) = (None, None);
    for place in (first_option..arguments.len()).step_by(2) {
        let (word, value) = (argument(arguments, place), argument(arguments, place + 1));
        if word.eq_ignore_ascii_case(b"count") && count.is_none() {
            let number = number::unsigned(value).and_then(|number| u32::try_from(number).ok());
            count = number.filter(|number| *number > 0);
            if count.is_none() {
                let value = echo(value, ECHO_BYTES_MAX);
                let text = format!("ERR COUNT '{value}' is not a number from 1 on");
                return Err(Reply::error(text));
            }
        } else if word.eq_ignore_ascii_case(b"after") && after.is_none() {
            after = Some(value);
        } else {
            let word = echo(word, ECHO_BYTES_MAX);
            return Err(Reply::error(format!(
                "ERR '{word}' is no option of TF.LOST LIST [prefix] [COUNT n] [AFTER id], or it \
                 is there twice"
            )));
        }
    }
    Ok(Lost::List { prefix, count, after })
}
