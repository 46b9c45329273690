//! Commands on one key of any type.

use super::options::{Form, expire_condition};
use super::{argument, one};
use crate::command::verb::{Command, Verb};
use crate::command::{Arguments, CommandInfo, Reply};

type Parsed<'a> = Result<Command<'a>, Reply<'static>>;
type Info = &'static CommandInfo;

pub(in crate::command) fn expire<'a>(info: Info, arguments: Arguments<'a>) -> Parsed<'a> {
    expire_in(info, arguments, Form::Seconds)
}

pub(in crate::command) fn pexpire<'a>(info: Info, arguments: Arguments<'a>) -> Parsed<'a> {
    expire_in(info, arguments, Form::Milliseconds)
}

pub(in crate::command) fn expireat<'a>(info: Info, arguments: Arguments<'a>) -> Parsed<'a> {
    expire_in(info, arguments, Form::AtSeconds)
}

pub(in crate::command) fn pexpireat<'a>(info: Info, arguments: Arguments<'a>) -> Parsed<'a> {
    expire_in(info, arguments, Form::AtMilliseconds)
}

fn expire_in<'a>(info: Info, arguments: Arguments<'a>, form: Form) -> Parsed<'a> {
    // Redis looks at the options first: of two mistakes it names theirs.
    let condition = expire_condition(arguments, 3)?;
    let deadline = form.deadline(info, argument(arguments, 2))?;
    Ok(one(argument(arguments, 1), Verb::Expire(deadline, condition)))
}

pub(in crate::command) fn ttl(_: Info, arguments: Arguments<'_>) -> Parsed<'_> {
    Ok(time_to_live(arguments, false, false))
}

pub(in crate::command) fn pttl(_: Info, arguments: Arguments<'_>) -> Parsed<'_> {
    Ok(time_to_live(arguments, false, true))
}

pub(in crate::command) fn expiretime(_: Info, arguments: Arguments<'_>) -> Parsed<'_> {
    Ok(time_to_live(arguments, true, false))
}

pub(in crate::command) fn pexpiretime(_: Info, arguments: Arguments<'_>) -> Parsed<'_> {
    Ok(time_to_live(arguments, true, true))
}

fn time_to_live(arguments: Arguments<'_>, absolute: bool, milliseconds: bool) -> Command<'_> {
    one(argument(arguments, 1), Verb::TimeToLive { absolute, milliseconds })
}

pub(in crate::command) fn persist(_: Info, arguments: Arguments<'_>) -> Parsed<'_> {
    Ok(one(argument(arguments, 1), Verb::Persist))
}

pub(in crate::command) fn kind(_: Info, arguments: Arguments<'_>) -> Parsed<'_> {
    Ok(one(argument(arguments, 1), Verb::Type))
}
