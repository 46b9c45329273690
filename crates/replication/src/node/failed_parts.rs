//! What the client of a command that was taken apart is told where some of its parts have failed.
//!
//! A part's error says by its first word what it knows: `UNKNOWN` that the part may be done or not,
//! mostly with a token; `PARTIAL` that it is done on fewer replicas than asked for; any other
//! that nothing was done. The whole command's error says the same of the whole command, for client
//! libraries look at the first word: nothing was done only where that is so of every part, and a
//! part whose outcome is open shows before all others, with its token.

use crate::Reply;
use crate::mutant::{Mutant, Mutants};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

/// Tokens that one error carries at most; the command may have as many parts as its client likes.
const TOKENS_MAX: usize = 16;

const UNKNOWN: &str = "UNKNOWN ";
const PARTIAL: &str = "PARTIAL ";
const TOKEN: &str = "token=";

/// The error of a command with these parts, if any of them has failed.
pub(super) fn failure(
    parts: &[Reply<'static>],
    writes: bool,
    mutants: Mutants,
) -> Option<Reply<'static>> {
    let errors: Vec<&str> = parts.iter().filter_map(error_of).collect();
    let first = *errors.first()?;
    if parts.len() == 1 {
        return Some(Reply::error(String::from(first)));
    }
    let of = |word: &'static str| errors.iter().filter_map(move |error| error.strip_prefix(word));
    let is_definite = |error: &&str| !error.starts_with(UNKNOWN) && !error.starts_with(PARTIAL);
    let done = parts.len() - errors.len();
    let (unknown, partial) = (of(UNKNOWN).count(), of(PARTIAL).count());
    let failed = errors.len() - unknown - partial;
    let hidden = mutants.is(Mutant::OpenPartHidden);
    if !writes || failed == parts.len() || hidden {
        let text = format!("{first} ({} of {} parts failed)", errors.len(), parts.len());
        return Some(Reply::error(text));
    }
    let mut text = String::from(if unknown > 0 { UNKNOWN } else { PARTIAL });
    text += &format!("done={done} failed={failed}");
    if partial > 0 {
        text += &format!(" partial={partial}");
    }
    if unknown > 0 {
        text += &format!(" unknown={unknown}");
    }
    let tokens: Vec<&str> = of(UNKNOWN).filter_map(token_in).collect();
    for token in tokens.iter().take(TOKENS_MAX) {
        text += &format!(" {TOKEN}{token}");
    }
    text += " :";
    if let Some(open) = of(UNKNOWN).next() {
        text += &format!(" first unknown: {};", without_token(open));
    }
    if let Some(partial) = of(PARTIAL).next() {
        text += &format!(" first partial: {partial};");
    }
    if let Some(failed) = errors.iter().find(|error| is_definite(error)) {
        text += &format!(" first failed: {failed};");
    }
    if tokens.len() > TOKENS_MAX {
        text += &format!(" {} more tokens are not shown;", tokens.len() - TOKENS_MAX);
    }
    if tokens.len() < unknown {
        text += &format!(" {} of the unknown have no token;", unknown - tokens.len());
    }
    text.pop();
    Some(Reply::error(text))
}

fn error_of<'a>(part: &'a Reply<'static>) -> Option<&'a str> {
    match part {
        Reply::Error(text) => Some(text),
        _ => None,
    }
}

/// The token in an error's words.
fn token_in(error: &str) -> Option<&str> {
    error.split(' ').find_map(|word| word.strip_prefix(TOKEN))
}

/// The error's words but for the token, which stands before all of them.
fn without_token(error: &str) -> String {
    let words: Vec<&str> = error.split(' ').filter(|word| !word.starts_with(TOKEN)).collect();
    words.join(" ")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;
    use alloc::vec;

    const OPEN: &str =
        "UNKNOWN acked=1 need=2 token=1a : its acks have not come in time; ask later";
    const OPEN_TOO: &str = "UNKNOWN acked=? need=2 token=2b : no answer came in time (eu-1)";
    const NO_TOKEN: &str = "UNKNOWN acked=? need=2 : no answer came in time (eu-1)";
    const SHORT: &str = "PARTIAL acked=1 need=2 n=3 it stays there";
    const REFUSED: &str = "CLUSTERDOWN nothing was done";

    /// The error of a write with these parts; those without an error are done.
    fn told(parts: &[&'static str]) -> String {
        let part = |text: &&'static str| match *text {
            "" => Reply::Integer(1),
            text => Reply::error(text),
        };
        match failure(&parts.iter().map(part).collect::<Vec<_>>(), true, Mutants::default()) {
            Some(Reply::Error(text)) => text.into_owned(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_is_open_is_never_hidden_by_what_was_refused_done_or_short() {
        for others in [vec![REFUSED], vec![""], vec![SHORT], vec![REFUSED, "", SHORT]] {
            for place in 0..=others.len() {
                let mut parts = others.clone();
                parts.insert(place, OPEN);
                let told = told(&parts);
                assert!(told.starts_with("UNKNOWN done="), "{parts:?}: {told}");
                assert!(told.contains(" unknown=1 token=1a : first unknown: acked=1 need=2 : its"));
            }
        }
    }

    #[test]
    fn each_open_part_has_its_token_in_the_error() {
        assert_eq!(
            told(&[REFUSED, OPEN, "", OPEN_TOO, NO_TOKEN, SHORT]),
            "UNKNOWN done=1 failed=1 partial=1 unknown=3 token=1a token=2b : first unknown: \
             acked=1 need=2 : its acks have not come in time; ask later; first partial: acked=1 \
             need=2 n=3 it stays there; first failed: CLUSTERDOWN nothing was done; 1 of the \
             unknown have no token"
        );
        let told = told(&[OPEN; 20]);
        assert!(told.starts_with("UNKNOWN done=0 failed=0 unknown=20 token=1a token=1a "));
        assert_eq!(told.matches(TOKEN).count(), TOKENS_MAX);
        assert!(told.ends_with("; 4 more tokens are not shown"), "{told}");
    }

    #[test]
    fn nothing_was_done_only_where_that_is_so_of_all_parts() {
        assert_eq!(told(&[REFUSED, REFUSED]), "CLUSTERDOWN nothing was done (2 of 2 parts failed)");
        let done = "PARTIAL done=1 failed=1 : first failed: CLUSTERDOWN nothing was done";
        assert_eq!(told(&[REFUSED, ""]), done);
        assert!(told(&[REFUSED, SHORT]).starts_with("PARTIAL done=0 failed=1 partial=1 : first"));
    }

    #[test]
    fn the_error_of_an_only_part_is_the_commands() {
        assert_eq!(told(&[OPEN]), OPEN);
        assert_eq!(failure(&[Reply::Ok, Reply::Nil], true, Mutants::default()), None);
        let read = failure(&[Reply::Nil, Reply::error(REFUSED)], false, Mutants::default());
        assert_eq!(read, Some(Reply::error("CLUSTERDOWN nothing was done (1 of 2 parts failed)")));
    }
}
