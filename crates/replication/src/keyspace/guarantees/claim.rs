//! A statement, and who holds the models to it.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

/// The checkers that claims name: files of `crates/simulator/src/checkers`, without their ending.
/// A test there compares the two.
pub const CHECKERS: [&str; 15] = [
    "acks",
    "counters",
    "follower_reads",
    "leaders",
    "leadership",
    "lost_write_report",
    "lost_writes",
    "outcomes",
    "possible_loss",
    "quorum_reads",
    "superseded",
    "surviving_reads",
    "visible_copies",
    "wgl",
    "zones",
];

/// It follows from the numbers before it.
pub(super) const ARITHMETIC: &[&str] = &["arithmetic"];
/// Statements in order.
#[derive(Default)]
pub(super) struct Claims {
    pub(super) lines: Vec<String>,
}

impl Claims {
    /// What the next lines are about: a line that ends with a colon.
    pub(super) fn heading(&mut self, text: &str) {
        self.lines.push(format!("{text}:"));
    }

    /// What is no claim: a headline, what an option is called, what is refused.
    pub(super) fn plain(&mut self, text: impl Into<String>) {
        self.lines.push(text.into());
    }

    /// A claim, and who holds it.
    pub(super) fn add(&mut self, holders: &[&str], text: impl Into<String>) {
        let text: String = text.into();
        self.lines.push(format!("{text} [{}]", holders.join(", ")));
    }
}
