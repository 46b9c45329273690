//! What `TF.OUTCOME` says is so: what is called committed is in the history that survived, what is
//! called lost is not, and neither changes its mind.

use super::Verdict;
use crate::history::{Action, Operation};
use crate::observe::{Commit, tokens};
use crate::outcomes::Question;
use replication::GroupId;
use replication::asked_token::AnyToken;
use replication::version::EntryId;
use std::collections::BTreeMap;

/// What clients have asked for: each entry's connection, and the command's number there.
type Asked = BTreeMap<(GroupId, EntryId), (u64, u64)>;

/// Checks the answers against the entries that nodes took for committed, against each other, and
/// (for keys that only saw APPENDs) against what is there in the end. Each question names the
/// operation that its token came from.
pub fn check(
    questions: &[Question],
    operations: &[Operation],
    (commits, asked): (&[Commit], &Asked),
    end: &BTreeMap<String, Option<String>>,
) -> Verdict {
    let committed: BTreeMap<(GroupId, u64), u64> =
        commits.iter().map(|c| ((c.group, c.entry.index), c.entry.epoch)).collect();
    let mut settled: BTreeMap<AnyToken, &str> = BTreeMap::new();
    for question in questions {
        let token = question.token;
        let answer = match question.answer.as_str() {
            answer @ ("COMMITTED" | "LOST" | "PENDING") => answer,
            other if other.starts_with("UNKNOWN") || other.starts_with("TRYAGAIN") => continue,
            other if other.starts_with("CLUSTERDOWN") => continue,
            other => return Err(format!("TF.OUTCOME of {token:?} answered {other}")),
        };
        let epoch_of = |group, index| committed.get(&(group, index));
        let there = match token {
            AnyToken::Entry(token) => {
                epoch_of(token.group, token.id.index).map(|epoch| *epoch == token.id.epoch)
            }
            AnyToken::Asked(token) => {
                let name = (token.client.0, token.sequence);
                let mut entries =
                    asked.iter().filter(|((group, _), by)| *group == token.group && **by == name);
                let any =
                    entries.any(|((group, id), _)| epoch_of(*group, id.index) == Some(&id.epoch));
                // Of a command that was taken apart, another key's entry may be what is there.
                Some(any).filter(|any| !any || token.key_mark == 0)
            }
        };
        let wrong = match answer {
            "COMMITTED" => there == Some(false),
            "LOST" => there == Some(true),
            _ => false,
        };
        if wrong {
            return Err(format!("TF.OUTCOME of {token:?} answered {answer}, and that is not so"));
        }
        if let Some(before) = settled.get(&token)
            && *before != answer
        {
            return Err(format!("TF.OUTCOME of {token:?} answered {before}, then {answer}"));
        }
        if answer != "PENDING" {
            settled.insert(token, answer);
        }
        holds_in_the_end(question, operations, end)?;
    }
    Ok(())
}

/// The same after a possible loss, for what was asked since the last one: only against what is
/// there in the end, as what was committed before it may be lost.
pub fn check_since(
    since_us: u64,
    questions: &[Question],
    operations: &[Operation],
    end: &BTreeMap<String, Option<String>>,
) -> Verdict {
    let mut since = questions.iter().filter(|question| question.asked_us > since_us);
    since.try_for_each(|question| holds_in_the_end(question, operations, end))
}

fn holds_in_the_end(
    question: &Question,
    operations: &[Operation],
    end: &BTreeMap<String, Option<String>>,
) -> Verdict {
    let Question { token, answer, .. } = question;
    if let Some(operation) = operations.get(question.operation)
        && let Action::Append(value) = &operation.action
        && let Some(read) = end.get(&operation.key)
    {
        let values = tokens(read.as_deref().unwrap_or("").as_bytes());
        let survives = values.contains(value);
        if (answer == "COMMITTED" && !survives) || (answer == "LOST" && survives) {
            return Err(format!("{value} ({token:?}) is {answer}, and the end is {values:?}"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkers::fixtures::GROUP;
    use crate::checkers::wgl::tests::operation;
    use crate::history::Outcome;
    use replication::asked_token::AskedToken;
    use replication::token::Token;
    use replication::{ClientId, NodeId, Session};

    fn ask(epoch: u64, answer: &str) -> Question {
        let id = EntryId { epoch, index: 5 };
        let token = AnyToken::Entry(Token { group: GROUP, id });
        Question { token, operation: 0, asked_us: 0, answer: answer.into() }
    }

    /// A question about a command that was forwarded: number 9 of its connection is the entry.
    fn ask_forwarded(sequence: u64, answer: &str) -> Question {
        let token = AnyToken::Asked(AskedToken {
            group: GROUP,
            epoch: 2,
            after_index: 0,
            node: NodeId(0),
            session: Session::default(),
            client: ClientId(8),
            sequence,
            key_mark: 0,
            last_batch: 1,
        });
        Question { token, operation: 0, asked_us: 0, answer: answer.into() }
    }

    fn verdict(questions: &[Question], end: &str) -> Verdict {
        let outcome = Outcome::Unknown(String::new());
        let operations = [operation(Action::Append("~a;".into()), outcome, 1, 2)];
        let commit = Commit::of(NodeId(0), GROUP, EntryId { epoch: 2, index: 5 }, b"body");
        let end = BTreeMap::from([(String::from("k"), Some(String::from(end)))]);
        let asked = BTreeMap::from([((GROUP, EntryId { epoch: 2, index: 5 }), (8, 9))]);
        check(questions, &operations, (&[commit], &asked), &end)
    }

    #[test]
    fn what_is_not_so_of_a_forwarded_write_is_seen() {
        let ask = ask_forwarded;
        assert!(verdict(&[ask(9, "PENDING"), ask(9, "COMMITTED")], "~a;").is_ok());
        assert!(verdict(&[ask(9, "UNKNOWN no longer known")], "~a;").is_ok());
        assert!(verdict(&[ask(7, "LOST")], "").is_ok());
        assert!(verdict(&[ask(9, "LOST")], "").is_err(), "it is committed");
        assert!(verdict(&[ask(7, "COMMITTED")], "~a;").is_err(), "there is no such entry");
    }

    #[test]
    fn what_is_not_so_is_seen() {
        assert!(verdict(&[ask(2, "PENDING"), ask(2, "COMMITTED")], "~a;").is_ok());
        assert!(verdict(&[ask(1, "LOST"), ask(1, "LOST")], "").is_ok());
        assert!(verdict(&[ask(1, "UNKNOWN no longer known")], "").is_ok());
        assert!(verdict(&[ask(1, "COMMITTED")], "~a;").is_err(), "another epoch is there");
        assert!(verdict(&[ask(2, "LOST")], "").is_err(), "it is committed");
        assert!(verdict(&[ask(2, "COMMITTED")], "").is_err(), "it is not in the end");
        assert!(verdict(&[ask(1, "LOST")], "~a;").is_err(), "it is in the end");
        assert!(verdict(&[ask(2, "COMMITTED"), ask(2, "PENDING")], "~a;").is_err());
        assert!(verdict(&[ask(2, "ERR what")], "~a;").is_err());
    }
}
