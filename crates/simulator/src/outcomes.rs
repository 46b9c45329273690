//! Writes whose outcome was left open, and what clients are told when they ask later.

use crate::history::{Operation, Outcome};
use replication::Reply;
use replication::token::Token;

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

/// The word that a client keeps of an error, and what it stands for.
pub fn token_in(operation: &Operation, cluster: u32) -> Option<(String, Token)> {
    let Outcome::Unknown(error) = &operation.outcome else { return None };
    let word = error.split(' ').find_map(|word| word.strip_prefix("token="))?;
    Some((word.to_string(), Token::parse(word.as_bytes(), cluster).ok()?))
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
