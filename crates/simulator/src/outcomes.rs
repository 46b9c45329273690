//! Writes whose outcome was left open, and what clients are told when they ask later.

use crate::cluster::Cluster;
use crate::copies::Count;
use crate::history::{Action, Answer, Operation, Outcome};
use crate::workload::Kind;
use replication::GroupId;
use replication::Reply;
use replication::asked_token::AnyToken;
use replication::keyspace::Model;
use replication::keyspace::slot::slot_of;
use replication::token::cluster_number;
use replication::version::EntryId;

/// How many in a hundred commands of a client that holds tokens ask for one of them.
pub const ASK_PERCENT: u64 = 25;

/// A question about a write, and the answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Question {
    /// The write.
    pub token: AnyToken,
    /// The write's operation: its place in the history.
    pub operation: usize,
    /// When it was asked.
    pub asked_us: u64,
    /// The answer's words.
    pub answer: String,
}

impl Question {
    /// A question about the write of an operation was answered.
    pub fn answered(
        (token, operation): (AnyToken, usize),
        asked_us: u64,
        reply: &Reply<'_>,
        cluster: &mut Cluster,
    ) -> Question {
        let answer = words_of(reply);
        for what in ["COMMITTED", "LOST", "PENDING"] {
            if answer == what {
                cluster.observations.count(what);
            }
        }
        if matches!(token, AnyToken::Asked(_)) {
            cluster.observations.count(match answer.as_str() {
                "COMMITTED" => "COMMITTED, forwarded",
                "LOST" => "LOST, forwarded",
                "PENDING" => "PENDING, forwarded",
                _ => "no longer known, forwarded",
            });
        }
        cluster.trace.line(cluster.now_us, || format!("outcome of {token:?}: {answer}"));
        Question { token, operation, asked_us, answer }
    }
}

/// The entry of a write that was acknowledged just now, in whichever group it is; `request` is its
/// command's connection and number. One that was sent again may have been logged again, where its
/// first entry was lost: then the one that more replicas have. FLUSHALL has many.
pub fn entry_of(
    operation: &Operation,
    request: (u64, u64),
    cluster: &Cluster,
) -> Option<(GroupId, EntryId)> {
    let has_one = operation.is_done() && operation.action != Action::Clear;
    let entries = cluster.observations.entries.get(&request).filter(|_| has_one)?;
    let of_key =
        |(group, _): &&(GroupId, EntryId)| operation.keys == 1 || is_of(operation, group, cluster);
    let holders =
        |(group, id): &&(GroupId, EntryId)| cluster.observations.copies.of(*group, *id).durable;
    entries.iter().filter(of_key).max_by_key(holders).copied()
}

/// Whether a group holds an operation's key.
fn is_of(operation: &Operation, group: &GroupId, cluster: &Cluster) -> bool {
    let key = operation.key.as_bytes();
    let keyspace = cluster.plan().cluster.keyspace_of(key);
    keyspace.is_some_and(|keyspace| {
        (keyspace.id, keyspace.partition_of(slot_of(key))) == (group.keyspace, group.partition)
    })
}

/// All entries that a WAIT behind an operation's command speaks of.
pub fn entries_of(
    operation: &Operation,
    request: (u64, u64),
    cluster: &Cluster,
) -> Vec<(GroupId, EntryId)> {
    match cluster.observations.entries.get(&request) {
        Some(all) if operation.keys > 1 => all.iter().copied().collect(),
        _ => entry_of(operation, request, cluster).into_iter().collect(),
    }
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

/// The entry of a value that was acknowledged just now under a name, with whichever attempt it was
/// logged, and who has it.
pub fn copies_of_value(operation: &Operation, cluster: &Cluster) -> Option<(EntryId, Count)> {
    let keyspace = cluster.plan().cluster.keyspace_of(operation.key.as_bytes())?;
    let Model::LeaderFollower(model) = &keyspace.model else { return None };
    // A SETNX that found something has written nothing.
    let wrote = operation.is_done() && operation.outcome != Outcome::Done(Answer::Number(0));
    let value = operation.action.value().filter(|_| wrote)?;
    let partition = keyspace.partition_of(slot_of(operation.key.as_bytes()));
    let group = keyspace.group(partition, model.home);
    let mut entries = cluster.observations.written.get(value)?.iter().map(|written| {
        let id = EntryId { epoch: written.dot.actor, index: written.dot.counter };
        (id, cluster.observations.copies.of(group, id))
    });
    // What only changes a deadline logs the value again, and is another write.
    if Kind::of(&operation.key) != Some(Kind::Once) {
        return entries.next();
    }
    // Which of them it is about does not show: as many copies as any of them has.
    entries.reduce(|one, other| {
        let most = one.1.most_of(&other.1);
        if other.1.durable >= one.1.durable { (other.0, most) } else { (one.0, most) }
    })
}

/// The word that a client keeps of an error, and what it stands for.
pub fn token_in(operation: &Operation, cluster: &Cluster) -> Option<(String, AnyToken)> {
    let Outcome::Unknown(error) = &operation.outcome else { return None };
    let number = cluster_number(&cluster.plan().cluster);
    let word = error.split(' ').find_map(|word| word.strip_prefix("token="))?;
    Some((word.to_string(), AnyToken::parse(word.as_bytes(), number).ok()?))
}

/// An answer's words.
pub fn words_of(reply: &Reply<'_>) -> String {
    match reply {
        Reply::Simple(text) | Reply::Error(text) => text.to_string(),
        other => format!("{other:?}"),
    }
}

/// Whether an answer is the last word: asking again later would bring nothing new. Of a command
/// that came through a disk that is gone, its leader never hears what came after it.
pub fn is_final(answer: &str, token: &AnyToken, cluster: &Cluster) -> bool {
    if let AnyToken::Asked(asked) = token
        && answer == "PENDING"
    {
        let node = cluster.server(asked.node).and_then(|server| server.node());
        return node.is_none_or(|node| node.incarnation() != asked.session.incarnation);
    }
    matches!(answer, "COMMITTED" | "LOST") || answer.starts_with("UNKNOWN no longer known")
}
