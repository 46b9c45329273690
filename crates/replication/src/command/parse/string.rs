//! Commands on one string.

use super::options::{ExpiryOption, Form};
use super::{argument, integer, one};
use crate::command::verb::{Command, Condition, Expiry, Verb};
use crate::command::{Arguments, CommandInfo, Reply, error, number};

type Parsed<'a> = Result<Command<'a>, Reply<'static>>;
type Info = &'static CommandInfo;

pub(in crate::command) fn get(_: Info, arguments: Arguments<'_>) -> Parsed<'_> {
    Ok(one(argument(arguments, 1), Verb::Get))
}

pub(in crate::command) fn set<'a>(info: Info, arguments: Arguments<'a>) -> Parsed<'a> {
    let mut condition = Condition::Always;
    let mut get = false;
    let mut option = ExpiryOption::default();
    let mut place = 3;
    while let Some(word) = arguments.get(place) {
        match word {
            [b'n' | b'N', b'x' | b'X'] if condition != Condition::IfPresent => {
                condition = Condition::IfAbsent;
                place += 1;
            }
            [b'x' | b'X', b'x' | b'X'] if condition != Condition::IfAbsent => {
                condition = Condition::IfPresent;
                place += 1;
            }
            [b'g' | b'G', b'e' | b'E', b't' | b'T'] => {
                get = true;
                place += 1;
            }
            _ => place += option.take(arguments, place, b"keepttl")?,
        }
    }
    let expiry = option.expiry(info, Expiry::Keep, Expiry::Clear)?;
    let value = argument(arguments, 2);
    Ok(one(argument(arguments, 1), Verb::Set { value, expiry, condition, get }))
}

pub(in crate::command) fn setex<'a>(info: Info, arguments: Arguments<'a>) -> Parsed<'a> {
    set_for(info, arguments, Form::Seconds)
}

pub(in crate::command) fn psetex<'a>(info: Info, arguments: Arguments<'a>) -> Parsed<'a> {
    set_for(info, arguments, Form::Milliseconds)
}

fn set_for<'a>(info: Info, arguments: Arguments<'a>, form: Form) -> Parsed<'a> {
    let expiry = Expiry::Set(form.lifetime(info, argument(arguments, 2))?);
    let value = argument(arguments, 3);
    let verb = Verb::Set { value, expiry, condition: Condition::Always, get: false };
    Ok(one(argument(arguments, 1), verb))
}

pub(in crate::command) fn setnx(_: Info, arguments: Arguments<'_>) -> Parsed<'_> {
    Ok(one(argument(arguments, 1), Verb::SetIfAbsent(argument(arguments, 2))))
}

pub(in crate::command) fn getset(_: Info, arguments: Arguments<'_>) -> Parsed<'_> {
    Ok(one(argument(arguments, 1), Verb::GetSet(argument(arguments, 2))))
}

pub(in crate::command) fn getdel(_: Info, arguments: Arguments<'_>) -> Parsed<'_> {
    Ok(one(argument(arguments, 1), Verb::GetDelete))
}

pub(in crate::command) fn getex<'a>(info: Info, arguments: Arguments<'a>) -> Parsed<'a> {
    let mut option = ExpiryOption::default();
    let mut place = 2;
    while place < arguments.len() {
        place += option.take(arguments, place, b"persist")?;
    }
    let expiry = option.expiry(info, Expiry::Clear, Expiry::Keep)?;
    Ok(one(argument(arguments, 1), Verb::GetExpire(expiry)))
}

pub(in crate::command) fn append(_: Info, arguments: Arguments<'_>) -> Parsed<'_> {
    Ok(one(argument(arguments, 1), Verb::Append(argument(arguments, 2))))
}

pub(in crate::command) fn strlen(_: Info, arguments: Arguments<'_>) -> Parsed<'_> {
    Ok(one(argument(arguments, 1), Verb::Length))
}

pub(in crate::command) fn getrange(_: Info, arguments: Arguments<'_>) -> Parsed<'_> {
    let (start, end) = (integer(argument(arguments, 2))?, integer(argument(arguments, 3))?);
    Ok(one(argument(arguments, 1), Verb::GetRange(start, end)))
}

pub(in crate::command) fn setrange(_: Info, arguments: Arguments<'_>) -> Parsed<'_> {
    let Ok(offset) = u64::try_from(integer(argument(arguments, 2))?) else {
        return Err(error::fixed(error::OFFSET));
    };
    Ok(one(argument(arguments, 1), Verb::SetRange(offset, argument(arguments, 3))))
}

pub(in crate::command) fn incr(_: Info, arguments: Arguments<'_>) -> Parsed<'_> {
    Ok(one(argument(arguments, 1), Verb::Increment(1)))
}

pub(in crate::command) fn decr(_: Info, arguments: Arguments<'_>) -> Parsed<'_> {
    Ok(one(argument(arguments, 1), Verb::Increment(-1)))
}

pub(in crate::command) fn incrby(_: Info, arguments: Arguments<'_>) -> Parsed<'_> {
    let delta = integer(argument(arguments, 2))?;
    Ok(one(argument(arguments, 1), Verb::Increment(delta)))
}

pub(in crate::command) fn decrby(_: Info, arguments: Arguments<'_>) -> Parsed<'_> {
    match integer(argument(arguments, 2))?.checked_neg() {
        Some(delta) => Ok(one(argument(arguments, 1), Verb::Increment(delta))),
        None => Err(error::fixed(error::DECREMENT_OVERFLOW)),
    }
}

pub(in crate::command) fn incrbyfloat(_: Info, arguments: Arguments<'_>) -> Parsed<'_> {
    match number::float(argument(arguments, 2)) {
        Some(delta) => Ok(one(argument(arguments, 1), Verb::IncrementFloat(delta))),
        None => Err(error::fixed(error::NOT_A_FLOAT)),
    }
}
