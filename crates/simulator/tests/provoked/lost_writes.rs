//! A golden script that comes true without a bug must fail with it, at the line that is about it.

use replication::mutant::{Mutant, Mutants};
use simulator::script::play_with;

const A_CRASH: &str = include_str!("../../scripts/a-crash-leaves-a-maybe.script");

/// What a script expects in vain, if it does.
fn fails_at(script: &str, mutants: Mutants) -> Option<String> {
    let (error, _) = play_with(script, mutants).err()?;
    script.lines().nth(error.line - 1).map(String::from)
}

#[test]
fn a_watermark_that_is_ahead_of_what_was_acknowledged_is_seen() {
    assert_eq!(fails_at(A_CRASH, Mutants::default()), None);
    let mutants = Mutants::plant(Mutant::WatermarkTooHigh);
    assert_eq!(fails_at(A_CRASH, mutants).as_deref(), Some("expect has status, maybe"));
}
