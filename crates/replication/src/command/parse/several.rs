//! Commands on several keys. One key makes them commands on one key where that says the same.

use super::{argument, command, one};
use crate::command::verb::{Action, Command, Condition, EachVerb, Expiry, Verb};
use crate::command::{Arguments, CommandInfo, Reply, error};

type Parsed<'a> = Result<Command<'a>, Reply<'static>>;
type Info = &'static CommandInfo;

pub(in crate::command) fn mget(_: Info, arguments: Arguments<'_>) -> Parsed<'_> {
    Ok(command(Action::Each { verb: EachVerb::Get, keys: arguments.from(1) }))
}

pub(in crate::command) fn delete(_: Info, arguments: Arguments<'_>) -> Parsed<'_> {
    Ok(each(arguments, EachVerb::Delete, Verb::Delete))
}

pub(in crate::command) fn exists(_: Info, arguments: Arguments<'_>) -> Parsed<'_> {
    Ok(each(arguments, EachVerb::Exists, Verb::Exists))
}

fn each<'a>(arguments: Arguments<'a>, verb: EachVerb, single: Verb<'a>) -> Command<'a> {
    match arguments.len() {
        2 => one(argument(arguments, 1), single),
        _ => command(Action::Each { verb, keys: arguments.from(1) }),
    }
}

pub(in crate::command) fn mset<'a>(info: Info, arguments: Arguments<'a>) -> Parsed<'a> {
    let pairs = arguments.from(1);
    if !pairs.len().is_multiple_of(2) {
        return Err(error::wrong_arity(info.name));
    }
    if pairs.len() > 2 {
        return Ok(command(Action::SetMany { pairs }));
    }
    let (value, expiry) = (argument(pairs, 1), Expiry::Clear);
    let verb = Verb::Set { value, expiry, condition: Condition::Always, get: false };
    Ok(one(argument(pairs, 0), verb))
}
