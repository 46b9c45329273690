//! Commands that mean all keys of the cluster, and WAIT.

use super::{argument, command, integer, syntax};
use crate::command::verb::{Action, Command, Scan};
use crate::command::{Arguments, CommandInfo, Reply, error, number};

type Parsed<'a> = Result<Command<'a>, Reply<'static>>;
type Info = &'static CommandInfo;

/// About how many keys a SCAN looks at when it does not say.
const SCAN_COUNT: u64 = 10;

pub(in crate::command) fn dbsize(_: Info, _: Arguments<'_>) -> Parsed<'_> {
    Ok(command(Action::Size))
}

pub(in crate::command) fn randomkey(_: Info, _: Arguments<'_>) -> Parsed<'_> {
    Ok(command(Action::RandomKey))
}

pub(in crate::command) fn keys(_: Info, arguments: Arguments<'_>) -> Parsed<'_> {
    Ok(command(Action::Keys { pattern: argument(arguments, 1) }))
}

pub(in crate::command) fn flush(_: Info, arguments: Arguments<'_>) -> Parsed<'_> {
    match (arguments.len(), argument(arguments, 1)) {
        (1, _) => Ok(command(Action::Flush)),
        (2, how) if how.eq_ignore_ascii_case(b"async") || how.eq_ignore_ascii_case(b"sync") => {
            Ok(command(Action::Flush))
        }
        _ => syntax(),
    }
}

pub(in crate::command) fn scan<'a>(_: Info, arguments: Arguments<'a>) -> Parsed<'a> {
    let Some(cursor) = number::unsigned(argument(arguments, 1)) else {
        return Err(error::fixed(error::CURSOR));
    };
    let mut scan = Scan { cursor, pattern: None, count: SCAN_COUNT, kind: None };
    let mut place = 2;
    while let Some(option) = arguments.get(place) {
        let Some(value) = arguments.get(place + 1) else {
            return syntax();
        };
        if option.eq_ignore_ascii_case(b"count") {
            match u64::try_from(integer(value)?) {
                Ok(count) if count > 0 => scan.count = count,
                _ => return syntax(),
            }
        } else if option.eq_ignore_ascii_case(b"match") {
            scan.pattern = Some(value);
        } else if option.eq_ignore_ascii_case(b"type") {
            scan.kind = Some(value);
        } else {
            return syntax();
        }
        place += 2;
    }
    Ok(command(Action::Scan(scan)))
}

pub(in crate::command) fn recover<'a>(_: Info, arguments: Arguments<'a>) -> Parsed<'a> {
    Ok(command(Action::Recover { prefix: argument(arguments, 1) }))
}

pub(in crate::command) fn switchover<'a>(_: Info, arguments: Arguments<'a>) -> Parsed<'a> {
    if arguments.len() > 3 {
        return syntax();
    }
    let (prefix, node) = (argument(arguments, 1), arguments.get(2));
    Ok(command(Action::Switchover { prefix, node }))
}

pub(in crate::command) fn wait(_: Info, arguments: Arguments<'_>) -> Parsed<'_> {
    let replicas = u64::try_from(integer(argument(arguments, 1))?).unwrap_or(0);
    let Some(timeout) = number::integer(argument(arguments, 2)) else {
        return Err(error::fixed("ERR timeout is not an integer or out of range"));
    };
    match u64::try_from(timeout) {
        Ok(timeout_ms) => Ok(command(Action::Wait { replicas, timeout_ms, local: None })),
        Err(_) => Err(error::fixed("ERR timeout is negative")),
    }
}

pub(in crate::command) fn waitaof(_: Info, arguments: Arguments<'_>) -> Parsed<'_> {
    let local = match integer(argument(arguments, 1))? {
        local @ (0 | 1) => local.unsigned_abs(),
        _ => return Err(error::fixed("ERR value is out of range, value must between 0 and 1")),
    };
    let Ok(replicas) = u64::try_from(integer(argument(arguments, 2))?) else {
        return Err(error::fixed("ERR value is out of range, must be positive"));
    };
    let Some(timeout) = number::integer(argument(arguments, 3)) else {
        return Err(error::fixed("ERR timeout is not an integer or out of range"));
    };
    match u64::try_from(timeout) {
        Ok(timeout_ms) => Ok(command(Action::Wait { replicas, timeout_ms, local: Some(local) })),
        Err(_) => Err(error::fixed("ERR timeout is negative")),
    }
}

pub(in crate::command) fn outcome(_: Info, arguments: Arguments<'_>) -> Parsed<'_> {
    Ok(command(Action::Outcome { token: argument(arguments, 1) }))
}

pub(in crate::command) fn degraded(_: Info, arguments: Arguments<'_>) -> Parsed<'_> {
    if !argument(arguments, 1).eq_ignore_ascii_case(b"list") || arguments.len() > 3 {
        return Err(error::fixed("ERR TF.DEGRADED: the form is TF.DEGRADED LIST [prefix]"));
    }
    Ok(command(Action::Degraded { prefix: arguments.get(2) }))
}

pub(in crate::command) fn explain(_: Info, arguments: Arguments<'_>) -> Parsed<'_> {
    Ok(command(Action::Explain { prefix: argument(arguments, 1) }))
}
