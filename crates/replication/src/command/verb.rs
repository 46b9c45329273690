//! Commands as values: what a client asks, after its arguments are understood.

use super::{Arguments, OnceId};
use crate::keyspace::{AckLevel, Acks};
use alloc::boxed::Box;

/// A command on data, with what `TF.WITH` says about how to carry it out.
#[derive(Clone, PartialEq, Debug)]
pub struct Command<'a> {
    /// What to do.
    pub action: Action<'a>,
    /// How, where that differs from the keyspace's options.
    pub with: With,
}

/// Options of a single command: `TF.WITH W 3 R 1 -- SET k v`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct With {
    /// Acks that this write waits for.
    pub w: Option<u8>,
    /// Answers that this read waits for.
    pub r: Option<u8>,
    /// Replicas of a group with a leader that this write waits for.
    pub acks: Option<Acks>,
    /// When each of them counts.
    pub level: Option<AckLevel>,
}

/// What to do.
#[derive(Clone, PartialEq, Debug)]
pub enum Action<'a> {
    /// Something with one key.
    Key(KeyCommand<'a>),
    /// The same with each of several keys: MGET, EXISTS, and DEL and UNLINK, which are one entry of
    /// each partition.
    Each {
        /// What.
        verb: EachVerb,
        /// The keys.
        keys: Arguments<'a>,
    },
    /// MSET: all of it as one entry of one partition.
    SetMany {
        /// Key, value, key, value, ...; an even number.
        pairs: Arguments<'a>,
    },
    /// A write that is carried out at most once, however often it is sent.
    Once {
        /// Its name.
        id: OnceId<'a>,
        /// A write of one key, or MSET.
        command: Box<Command<'a>>,
    },
    /// A piece of the whole cluster's keys.
    Scan(Scan<'a>),
    /// All keys that match a pattern.
    Keys {
        /// A glob pattern.
        pattern: &'a [u8],
    },
    /// How many keys there are.
    Size,
    /// Any key.
    RandomKey,
    /// Removes all keys.
    Flush,
    /// Something with the lost-write report.
    Lost(Lost<'a>),
    /// By an operator's word, this node goes on with the groups of a keyspace that cannot elect a
    /// leader any more.
    Recover {
        /// The keyspace's prefix.
        prefix: &'a [u8],
    },
    /// TF.SWITCHOVER: a keyspace's leaders change by order.
    Switchover {
        /// The keyspace's prefix.
        prefix: &'a [u8],
        /// Who is to lead; the leaders choose where nobody is named.
        node: Option<&'a [u8]>,
    },
    /// Waits until so many followers have the connection's last write.
    Wait {
        /// How many, the leader excluded.
        replicas: u64,
        /// How long, in milliseconds; 0 waits for ever.
        timeout_ms: u64,
        /// WAITAOF: copies count on disk only, and so many of the leader's own are wanted.
        local: Option<u64>,
    },
    /// What has become of a write whose outcome was open.
    Outcome {
        /// The word that names it.
        token: &'a [u8],
    },
    /// The degrade ledger.
    Degraded {
        /// Of one keyspace; `None`: of all.
        prefix: Option<&'a [u8]>,
    },
    /// What a keyspace guarantees.
    Explain {
        /// The keyspace.
        prefix: &'a [u8],
    },
}

/// What `TF.LOST` does. An id is as LIST prints it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Lost<'a> {
    /// Lost writes that have a key under a prefix, in the order of their ids.
    List {
        /// The prefix; empty for all.
        prefix: &'a [u8],
        /// How many; at most those that a list ever has.
        count: Option<u32>,
        /// Only what comes after this id.
        after: Option<&'a [u8]>,
    },
    /// One of them, whole.
    Show(&'a [u8]),
    /// Does it again.
    Replay(&'a [u8]),
    /// Nobody needs to know of it any more.
    Forget(&'a [u8]),
}

/// What MGET, DEL, UNLINK and EXISTS do with each key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum EachVerb {
    /// MGET: the replies are an array.
    Get,
    /// DEL and UNLINK: the replies are added up.
    Delete,
    /// EXISTS: the replies are added up.
    Exists,
}

/// SCAN's arguments.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Scan<'a> {
    /// Where to go on; 0 starts.
    pub cursor: u64,
    /// Only keys that match this glob pattern.
    pub pattern: Option<&'a [u8]>,
    /// About how many keys to look at.
    pub count: u64,
    /// Only keys of this type.
    pub kind: Option<&'a [u8]>,
}

/// A command on one key.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct KeyCommand<'a> {
    /// The key.
    pub key: &'a [u8],
    /// What to do with it.
    pub verb: Verb<'a>,
}

/// What to do with one key. Moments are milliseconds since 1970 or, where the client gave a
/// duration, milliseconds from the moment of evaluation: see [`Deadline`].
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Verb<'a> {
    /// GET.
    Get,
    /// SET with its options; SETEX and PSETEX are SET with a deadline.
    Set {
        /// The new value.
        value: &'a [u8],
        /// When it expires.
        expiry: Expiry,
        /// Whether the key must or must not exist.
        condition: Condition,
        /// Reply with the old value.
        get: bool,
    },
    /// SETNX.
    SetIfAbsent(&'a [u8]),
    /// GETSET.
    GetSet(&'a [u8]),
    /// GETDEL.
    GetDelete,
    /// GETEX.
    GetExpire(Expiry),
    /// APPEND.
    Append(&'a [u8]),
    /// STRLEN.
    Length,
    /// GETRANGE.
    GetRange(i64, i64),
    /// SETRANGE.
    SetRange(u64, &'a [u8]),
    /// INCR, DECR, INCRBY, DECRBY.
    Increment(i64),
    /// INCRBYFLOAT.
    IncrementFloat(f64),
    /// DEL or UNLINK of this one key: replies 1 or 0.
    Delete,
    /// EXISTS of this one key: replies 1 or 0.
    Exists,
    /// TYPE.
    Type,
    /// EXPIRE, PEXPIRE, EXPIREAT, PEXPIREAT.
    Expire(Deadline, ExpireCondition),
    /// TTL and PTTL (`absolute` false), EXPIRETIME and PEXPIRETIME (`absolute` true).
    TimeToLive {
        /// The moment, not what is left.
        absolute: bool,
        /// Milliseconds, not seconds.
        milliseconds: bool,
    },
    /// PERSIST.
    Persist,
}

/// When a key is to expire.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Deadline {
    /// So many milliseconds after the evaluation; may be negative.
    In(i64),
    /// At this moment, in milliseconds since 1970; may be in the past.
    At(i64),
}

/// What becomes of a key's deadline.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Expiry {
    /// It stays as it is: KEEPTTL, or GETEX without an option.
    Keep,
    /// It goes: SET without an option, GETEX PERSIST.
    Clear,
    /// A new one.
    Set(Deadline),
}

/// Whether a key must or must not exist.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Condition {
    /// No matter.
    Always,
    /// NX.
    IfAbsent,
    /// XX.
    IfPresent,
}

/// EXPIRE's conditions.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ExpireCondition {
    /// No matter.
    Always,
    /// NX: only where there is no deadline.
    IfNone,
    /// XX: only where there is one.
    IfSome,
    /// GT: only to a later one; no deadline is the latest.
    IfLater,
    /// LT: only to an earlier one.
    IfEarlier,
    /// XX LT: only where there is one, and only to an earlier one. (XX GT is the same as GT.)
    IfSomeAndEarlier,
}

/// What a command must know to be honest about its answer.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Needs {
    /// Nothing: it overwrites blindly, reads, or adds.
    Nothing,
    /// The key's newest value, to write another one made from it.
    Register,
    /// That nobody else writes the key at the same time: it claims or compares.
    Coordination,
}

impl Verb<'_> {
    /// Whether it can change the key.
    pub fn is_write(&self) -> bool {
        !matches!(
            self,
            Verb::Get
                | Verb::Length
                | Verb::GetRange(..)
                | Verb::Exists
                | Verb::Type
                | Verb::TimeToLive { .. }
        )
    }

    /// Whether its reply is the same whatever it finds: SET without a condition.
    pub fn tells_nothing(&self) -> bool {
        let always = Condition::Always;
        matches!(self, Verb::Set { condition, get: false, .. } if *condition == always)
    }

    /// What it must know: a model that cannot give it refuses with `-NEEDCOORD`.
    pub fn needs(&self) -> Needs {
        match self {
            Verb::SetIfAbsent(_) | Verb::GetSet(_) | Verb::GetDelete => Needs::Coordination,
            Verb::Set { condition, get, .. } if *get || *condition != Condition::Always => {
                Needs::Coordination
            }
            Verb::Expire(_, condition) if *condition != ExpireCondition::Always => {
                Needs::Coordination
            }
            Verb::Append(_) | Verb::SetRange(..) => Needs::Register,
            // KEEPTTL: the new record carries the old one's deadline.
            Verb::Set { expiry: Expiry::Keep, .. } => Needs::Register,
            _ => Needs::Nothing,
        }
    }
}
