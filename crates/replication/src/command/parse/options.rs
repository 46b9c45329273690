//! What SET, GETEX and the EXPIRE family say about deadlines.

use super::{integer, syntax};
use crate::command::error;
use crate::command::verb::{Deadline, ExpireCondition, Expiry};
use crate::command::{Arguments, CommandInfo, Reply};
use alloc::format;

/// No wall clock shows more milliseconds than a stamp can hold; a lifetime that would overflow
/// from such a moment on is refused at once, so that evaluation cannot overflow.
const WALL_MS_MAX: i64 = 1 << 48;
const MS_PER_SECOND: i64 = 1000;

/// How a deadline is given.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Form {
    /// EX, SETEX, EXPIRE.
    Seconds,
    /// PX, PSETEX, PEXPIRE.
    Milliseconds,
    /// EXAT, EXPIREAT.
    AtSeconds,
    /// PXAT, PEXPIREAT.
    AtMilliseconds,
}

impl Form {
    fn of_option(option: &[u8]) -> Option<Form> {
        const OPTIONS: [(&[u8], Form); 4] = [
            (b"ex", Form::Seconds),
            (b"px", Form::Milliseconds),
            (b"exat", Form::AtSeconds),
            (b"pxat", Form::AtMilliseconds),
        ];
        let found = OPTIONS.iter().find(|(name, _)| option.eq_ignore_ascii_case(name))?;
        Some(found.1)
    }

    /// The deadline of so many units; an error where it cannot be.
    pub(super) fn deadline(
        self,
        info: &CommandInfo,
        bytes: &[u8],
    ) -> Result<Deadline, Reply<'static>> {
        let number = integer(bytes)?;
        let milliseconds = match self {
            Form::Seconds | Form::AtSeconds => number.checked_mul(MS_PER_SECOND),
            Form::Milliseconds | Form::AtMilliseconds => Some(number),
        };
        let deadline = match (self, milliseconds) {
            (Form::Seconds | Form::Milliseconds, Some(ms)) if ms <= i64::MAX - WALL_MS_MAX => {
                Deadline::In(ms)
            }
            (Form::AtSeconds | Form::AtMilliseconds, Some(ms)) => Deadline::At(ms),
            _ => return Err(error::invalid_expire(info.name)),
        };
        Ok(deadline)
    }

    /// The same, where a key is only ever given a life: not zero, not negative.
    pub(super) fn lifetime(
        self,
        info: &CommandInfo,
        bytes: &[u8],
    ) -> Result<Deadline, Reply<'static>> {
        match self.deadline(info, bytes)? {
            Deadline::In(ms) | Deadline::At(ms) if ms <= 0 => Err(error::invalid_expire(info.name)),
            deadline => Ok(deadline),
        }
    }
}

/// The one option about expiry that SET and GETEX may have, wherever it stands.
#[derive(Default)]
pub(super) struct ExpiryOption<'a> {
    /// KEEPTTL or PERSIST.
    word: bool,
    /// EX, PX, EXAT, PXAT; given twice, the last counts.
    deadline: Option<(Form, &'a [u8])>,
}

impl<'a> ExpiryOption<'a> {
    /// Takes the option at `place`, if it is one about expiry (`word` being the one without a
    /// number), and returns how many arguments it has.
    pub(super) fn take(
        &mut self,
        arguments: Arguments<'a>,
        place: usize,
        word: &[u8],
    ) -> Result<usize, Reply<'static>> {
        let option = arguments.get(place).unwrap_or_default();
        if option.eq_ignore_ascii_case(word) && self.deadline.is_none() {
            self.word = true;
            return Ok(1);
        }
        let (Some(form), Some(number)) = (Form::of_option(option), arguments.get(place + 1)) else {
            return syntax();
        };
        match self.deadline {
            _ if self.word => syntax(),
            Some((other, _)) if other != form => syntax(),
            _ => {
                self.deadline = Some((form, number));
                Ok(2)
            }
        }
    }

    /// What becomes of the deadline: `word` where KEEPTTL or PERSIST was given, `nothing` where
    /// nothing was.
    pub(super) fn expiry(
        self,
        info: &CommandInfo,
        word: Expiry,
        nothing: Expiry,
    ) -> Result<Expiry, Reply<'static>> {
        Ok(match self.deadline {
            Some((form, number)) => Expiry::Set(form.lifetime(info, number)?),
            None if self.word => word,
            None => nothing,
        })
    }
}

/// EXPIRE's conditions, from the argument at `place` on.
pub(super) fn expire_condition(
    arguments: Arguments<'_>,
    place: usize,
) -> Result<ExpireCondition, Reply<'static>> {
    let (mut none, mut some, mut later, mut earlier) = (false, false, false, false);
    for option in arguments.from(place).iter() {
        let flag = match option {
            [b'n' | b'N', b'x' | b'X'] => &mut none,
            [b'x' | b'X', b'x' | b'X'] => &mut some,
            [b'g' | b'G', b't' | b'T'] => &mut later,
            [b'l' | b'L', b't' | b'T'] => &mut earlier,
            _ => {
                let option = error::echo(option, error::ECHO_BYTES_MAX);
                return Err(Reply::error(format!("ERR Unsupported option {option}")));
            }
        };
        *flag = true;
    }
    match (none, some, later, earlier) {
        (true, false, false, false) => Ok(ExpireCondition::IfNone),
        (true, ..) => {
            Err(error::fixed("ERR NX and XX, GT or LT options at the same time are not compatible"))
        }
        (_, _, true, true) => {
            Err(error::fixed("ERR GT and LT options at the same time are not compatible"))
        }
        // A key without a deadline is never given a later one: XX adds nothing to GT.
        (_, _, true, _) => Ok(ExpireCondition::IfLater),
        (_, true, _, true) => Ok(ExpireCondition::IfSomeAndEarlier),
        (_, false, _, true) => Ok(ExpireCondition::IfEarlier),
        (_, true, ..) => Ok(ExpireCondition::IfSome),
        _ => Ok(ExpireCondition::Always),
    }
}
