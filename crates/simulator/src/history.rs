//! What clients did and what they were told: the only thing that most checkers look at.

use crate::copies::Count;
use crate::outcomes::Question;
use crate::waits::Waited;
use crate::workload::Survey;
use replication::keyspace::{AckLevel, Acks};
use replication::version::EntryId;
use replication::{DatacenterId, NodeId, Reply};
use std::collections::BTreeMap;

/// One command of one client, from its call to its reply.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Operation {
    /// Who.
    pub client: usize,
    /// On which of its connections: commands of one connection on one key take effect in order.
    pub connection: u64,
    /// The node that it asked.
    pub node: NodeId,
    /// Where that node stands.
    pub datacenter: DatacenterId,
    /// The key.
    pub key: String,
    /// What it asked for.
    pub action: Action,
    /// When it called.
    pub invoked_us: u64,
    /// When it had its reply, or gave up.
    pub returned_us: u64,
    /// What it learnt.
    pub outcome: Outcome,
    /// What it said for itself about acks, if anything.
    pub asked: Option<(Acks, AckLevel)>,
    /// Whether its OK means that it survives every failover, where that differs from what the
    /// keyspace's acks mean.
    pub must_survive: Option<bool>,
    /// Of an acknowledged write whose entry is known: that, and who had it when its OK came.
    pub copies: Option<(EntryId, Count)>,
    /// Of a command that was taken apart key by key: how many keys it had. 1 for all others.
    pub keys: usize,
}

/// What a client asks for. Written values are unique in a run.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Action {
    /// GET.
    Get,
    /// SET.
    Set(String),
    /// DEL.
    Delete,
    /// SETNX.
    SetIfAbsent(String),
    /// GETSET.
    GetSet(String),
    /// APPEND.
    Append(String),
    /// INCRBY.
    Increment(i64),
    /// SET with PX: for so many milliseconds.
    SetFor(String, u64),
    /// PEXPIRE in so many milliseconds.
    ExpireIn(u64),
    /// FLUSHALL, as far as it concerns this key.
    Clear,
}

/// What a client knows of its command afterwards.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// It is not answered yet.
    Pending,
    /// It was carried out.
    Done(Answer),
    /// It had no effect and never will have.
    Refused(String),
    /// It may or may not have had an effect, and may still have one.
    Unknown(String),
}

/// What a command that was carried out has answered.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Answer {
    /// OK.
    Ok,
    /// A value, or none.
    Value(Option<String>),
    /// A number.
    Number(i64),
}

impl Action {
    /// Whether it may change the key.
    pub fn is_write(&self) -> bool {
        !matches!(self, Action::Get)
    }

    /// The value that it brings, if any.
    pub fn value(&self) -> Option<&str> {
        match self {
            Action::Set(value)
            | Action::SetIfAbsent(value)
            | Action::GetSet(value)
            | Action::Append(value)
            | Action::SetFor(value, _) => Some(value),
            Action::Get
            | Action::Delete
            | Action::Increment(_)
            | Action::ExpireIn(_)
            | Action::Clear => None,
        }
    }

    /// Whether it may leave the key without a value, now or later.
    pub fn removes(&self) -> bool {
        matches!(self, Action::Delete | Action::Clear | Action::ExpireIn(_) | Action::SetFor(_, _))
    }

    /// The command on several keys at once, as a client writes it.
    pub fn arguments_of(&self, keys: &[String]) -> Vec<String> {
        match (self, keys) {
            (Action::Clear, _) => vec![String::from("FLUSHALL")],
            (_, [key]) => self.arguments(key),
            (Action::Delete, _) => {
                std::iter::once(String::from("DEL")).chain(keys.iter().cloned()).collect()
            }
            _ => {
                let value = self.value().unwrap_or("");
                let pairs = keys.iter().flat_map(|key| [key.clone(), value.to_string()]);
                std::iter::once(String::from("MSET")).chain(pairs).collect()
            }
        }
    }

    /// The command as a client writes it.
    pub fn arguments(&self, key: &str) -> Vec<String> {
        let words: Vec<&str> = match self {
            Action::Get => vec!["GET", key],
            Action::Set(value) => vec!["SET", key, value],
            Action::Delete => vec!["DEL", key],
            Action::SetIfAbsent(value) => vec!["SETNX", key, value],
            Action::GetSet(value) => vec!["GETSET", key, value],
            Action::Append(value) => vec!["APPEND", key, value],
            Action::Increment(by) => {
                return vec!["INCRBY".into(), key.into(), by.to_string()];
            }
            Action::SetFor(value, ms) => {
                return ["SET", key, value, "PX", &ms.to_string()].map(String::from).to_vec();
            }
            Action::ExpireIn(ms) => {
                return ["PEXPIRE", key, &ms.to_string()].map(String::from).to_vec();
            }
            Action::Clear => vec!["FLUSHALL"],
        };
        words.into_iter().map(String::from).collect()
    }
}

impl Operation {
    /// Whether it was carried out.
    pub fn is_done(&self) -> bool {
        matches!(self.outcome, Outcome::Done(_))
    }

    /// Whether it may have had an effect.
    pub fn may_have_happened(&self) -> bool {
        !matches!(self.outcome, Outcome::Refused(_))
    }

    /// The value that a read returned; `None` where there is no such answer.
    pub fn read(&self) -> Option<Option<&str>> {
        match &self.outcome {
            Outcome::Done(Answer::Value(value)) => Some(value.as_deref()),
            _ => None,
        }
    }

    /// The value of a counter that the client was told, if any.
    pub fn counted(&self) -> Option<i64> {
        match (&self.action, &self.outcome) {
            (Action::Increment(_), Outcome::Done(Answer::Number(number))) => Some(*number),
            (Action::Get, Outcome::Done(Answer::Value(value))) => {
                value.as_deref().unwrap_or("0").parse().ok()
            }
            _ => None,
        }
    }

    /// What a reply to a command on several keys says of one of them: of how many there were, that
    /// is only known where it was all of them, or none.
    pub fn share_of<'a>(&self, reply: &'a Reply<'a>) -> Reply<'a> {
        match reply {
            Reply::Integer(number) if self.keys > 1 => match usize::try_from(*number) {
                Ok(0) => Reply::Integer(0),
                Ok(all) if all == self.keys => Reply::Integer(1),
                Ok(some) if some < self.keys => Reply::Ok,
                _ => reply.clone(),
            },
            reply => reply.clone(),
        }
    }

    /// Takes in the reply. Errors are definite, except those that say that they are not.
    pub fn complete(&mut self, reply: &Reply<'_>, at_us: u64) {
        self.returned_us = at_us;
        self.outcome = match reply {
            Reply::Ok => Outcome::Done(Answer::Ok),
            Reply::Simple(text) => Outcome::Done(Answer::Value(Some(text.to_string()))),
            Reply::Integer(number) => Outcome::Done(Answer::Number(*number)),
            Reply::Bulk(bytes) => {
                let text = String::from_utf8_lossy(bytes).into_owned();
                Outcome::Done(Answer::Value(Some(text)))
            }
            Reply::Nil => Outcome::Done(Answer::Value(None)),
            Reply::Array(parts) => Outcome::Refused(format!("{} parts", parts.len())),
            // Some partitions may have done it before others said no.
            Reply::Error(text) if self.action == Action::Clear => {
                Outcome::Unknown(text.to_string())
            }
            Reply::Error(text) if is_indefinite(text) => Outcome::Unknown(text.to_string()),
            Reply::Error(text) => Outcome::Refused(text.to_string()),
        };
    }

    /// The reply will not come any more: the connection broke, or the client gave up.
    pub fn abandon(&mut self, why: &str, at_us: u64) {
        self.returned_us = at_us;
        self.outcome = match self.action {
            Action::Get => Outcome::Refused(why.to_string()),
            _ => Outcome::Unknown(why.to_string()),
        };
    }
}

/// Whether an error leaves open what became of the command.
pub fn is_indefinite(error: &str) -> bool {
    error.starts_with("UNKNOWN") || error.starts_with("PARTIAL")
}

/// All operations of a run, in the order of their calls.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// The operations.
    pub operations: Vec<Operation>,
    /// Which operation a command was, or the first of several: by its connection and its number
    /// there.
    pub requests: BTreeMap<(u64, u64), usize>,
    /// What clients asked about writes whose outcome was open, in the order of the answers.
    pub questions: Vec<Question>,
    /// What WAIT and WAITAOF have said, in the order of the answers.
    pub waits: Vec<Waited>,
    /// Looks at all keys, in the order of their ends.
    pub surveys: Vec<Survey>,
}

impl History {
    /// The keys, each once, in order.
    pub fn keys(&self) -> Vec<&str> {
        let keys: std::collections::BTreeSet<&str> =
            self.operations.iter().map(|operation| operation.key.as_str()).collect();
        keys.into_iter().collect()
    }

    /// The operations on one key.
    pub fn of<'a>(&'a self, key: &'a str) -> impl Iterator<Item = &'a Operation> + Clone {
        self.operations.iter().filter(move |operation| operation.key == key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkers::wgl::tests::operation;

    #[test]
    fn only_what_says_so_is_indefinite() {
        let outcome = |action: Action, error: &'static str| {
            let mut operation = operation(action, Outcome::Pending, 1, u64::MAX);
            operation.complete(&Reply::error(error), 2);
            operation.outcome
        };
        let set = || Action::Set(String::from("~a;"));
        assert!(matches!(outcome(set(), "UNKNOWN no acks"), Outcome::Unknown(_)));
        assert!(matches!(outcome(set(), "PARTIAL acked=1 need=2"), Outcome::Unknown(_)));
        assert!(matches!(outcome(set(), "TRYAGAIN no leader"), Outcome::Refused(_)));
    }

    #[test]
    fn an_abandoned_write_is_unknown_and_an_abandoned_read_is_nothing() {
        let outcome = |action: Action| {
            let mut operation = operation(action, Outcome::Pending, 1, u64::MAX);
            operation.abandon("gone", 2);
            operation.outcome
        };
        assert!(matches!(outcome(Action::Delete), Outcome::Unknown(_)));
        assert!(matches!(outcome(Action::Get), Outcome::Refused(_)));
    }
}
