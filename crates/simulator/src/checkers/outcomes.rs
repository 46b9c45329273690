//! What `TF.OUTCOME` says is so: what is called committed is in the history that survived, what is
//! called lost is not, and neither changes its mind.

use super::Verdict;
use crate::history::{Action, Operation};
use crate::observe::{Commit, tokens};
use crate::outcomes::Question;
use replication::GroupId;
use replication::token::Token;
use std::collections::BTreeMap;

/// Checks the answers against the entries that nodes took for committed, against each other, and
/// (for keys that only saw APPENDs) against what is there in the end. Each question names the
/// operation that its token came from.
pub fn check(
    questions: &[Question],
    operations: &[Operation],
    commits: &[Commit],
    end: &BTreeMap<String, Option<String>>,
) -> Verdict {
    let committed: BTreeMap<(GroupId, u64), u64> =
        commits.iter().map(|c| ((c.group, c.entry.index), c.entry.epoch)).collect();
    let mut settled: BTreeMap<Token, &str> = BTreeMap::new();
    for question in questions {
        let (token, id) = (question.token, question.token.id);
        let answer = match question.answer.as_str() {
            answer @ ("COMMITTED" | "LOST" | "PENDING") => answer,
            other if other.starts_with("UNKNOWN") || other.starts_with("TRYAGAIN") => continue,
            other if other.starts_with("CLUSTERDOWN") => continue,
            other => return Err(format!("TF.OUTCOME of {id:?} answered {other}")),
        };
        let there = committed.get(&(token.group, id.index)).map(|epoch| *epoch == id.epoch);
        let wrong = match answer {
            "COMMITTED" => there == Some(false),
            "LOST" => there == Some(true),
            _ => false,
        };
        if wrong {
            return Err(format!("TF.OUTCOME of {id:?} answered {answer}, and that is not so"));
        }
        if let Some(before) = settled.get(&token)
            && *before != answer
        {
            return Err(format!("TF.OUTCOME of {id:?} answered {before}, then {answer}"));
        }
        if answer != "PENDING" {
            settled.insert(token, answer);
        }
        if let Some(operation) = operations.get(question.operation)
            && let Action::Append(value) = &operation.action
            && let Some(read) = end.get(&operation.key)
        {
            let values = tokens(read.as_deref().unwrap_or("").as_bytes());
            let survives = values.contains(value);
            if (answer == "COMMITTED" && !survives) || (answer == "LOST" && survives) {
                return Err(format!("{value} ({id:?}) is {answer}, and the end is {values:?}"));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkers::wgl::tests::operation;
    use crate::history::Outcome;
    use replication::version::EntryId;
    use replication::{DatacenterId, KeyspaceId, NodeId};

    const GROUP: GroupId = GroupId {
        keyspace: KeyspaceId(1),
        generation: 0,
        partition: 0,
        datacenter: DatacenterId(0),
    };

    fn ask(epoch: u64, answer: &str) -> Question {
        let token = Token { group: GROUP, id: EntryId { epoch, index: 5 } };
        Question { token, operation: 0, answer: answer.into() }
    }

    fn verdict(questions: &[Question], end: &str) -> Verdict {
        let outcome = Outcome::Unknown(String::new());
        let operations = [operation(Action::Append("~a;".into()), outcome, 1, 2)];
        let commit = Commit::of(NodeId(0), GROUP, EntryId { epoch: 2, index: 5 }, b"body");
        let end = BTreeMap::from([(String::from("k"), Some(String::from(end)))]);
        check(questions, &operations, &[commit], &end)
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
