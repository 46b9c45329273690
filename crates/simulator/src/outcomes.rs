//! Writes whose outcome was left open, and what clients are told when they ask later.

use crate::cluster::Cluster;
use crate::copies::Count;
use crate::history::{Action, Operation, Outcome};
use replication::GroupId;
use replication::Reply;
use replication::token::{Token, cluster_number};
use replication::version::EntryId;

/// How many in a hundred commands of a client that holds tokens ask for one of them.
pub const ASK_PERCENT: u64 = 25;

/// A question about a write, and the answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Question {
    /// The write.
    pub token: Token,
    /// The write's operation: its place in the history.
    pub operation: usize,
    /// The answer's words.
    pub answer: String,
}

impl Question {
    /// A question about the write of an operation was answered.
    pub fn answered(
        token: Token,
        operation: usize,
        reply: &Reply<'_>,
        cluster: &mut Cluster,
    ) -> Question {
        let answer = words_of(reply);
        for what in ["COMMITTED", "LOST", "PENDING"] {
            if answer == what {
                cluster.observations.count(what);
            }
        }
        cluster.trace.line(cluster.now_us, || format!("outcome of {:?}: {answer}", token.id));
        Question { token, operation, answer }
    }
}

/// The entry of a write that was acknowledged just now, in whichever group it is; `request` is its
/// command's connection and number. FLUSHALL has many.
pub fn entry_of(
    operation: &Operation,
    request: (u64, u64),
    cluster: &Cluster,
) -> Option<(GroupId, EntryId)> {
    let has_one = operation.is_done() && operation.action != Action::Clear;
    cluster.observations.entries.get(&request).copied().filter(|_| has_one)
}

/// The same, and who has it now.
pub fn copies_now(
    operation: &Operation,
    request: (u64, u64),
    cluster: &Cluster,
) -> Option<(EntryId, Count)> {
    let (group, id) = entry_of(operation, request, cluster)?;
    Some((id, cluster.observations.copies.of(group, id)))
}

/// The word that a client keeps of an error, and what it stands for.
pub fn token_in(operation: &Operation, cluster: &Cluster) -> Option<(String, Token)> {
    let Outcome::Unknown(error) = &operation.outcome else { return None };
    let number = cluster_number(&cluster.plan().cluster);
    let word = error.split(' ').find_map(|word| word.strip_prefix("token="))?;
    Some((word.to_string(), Token::parse(word.as_bytes(), number).ok()?))
}

/// An answer's words.
pub fn words_of(reply: &Reply<'_>) -> String {
    match reply {
        Reply::Simple(text) | Reply::Error(text) => text.to_string(),
        other => format!("{other:?}"),
    }
}

/// Whether an answer is the last word: asking again later would bring nothing new.
pub fn is_final(answer: &str) -> bool {
    matches!(answer, "COMMITTED" | "LOST") || answer.starts_with("UNKNOWN no longer known")
}
