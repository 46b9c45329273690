//! What came of the requests: which replies were the expected ones, and how long they took.

use super::replies::{Answer, Scanner};
use hdrhistogram::Histogram;
use miette::miette;

/// The longest latency that is told apart from longer ones: an hour, in nanoseconds.
const LATENCY_NS_MAX: u64 = 3_600_000_000_000;
/// Digits of a latency that are exact.
const LATENCY_DIGITS: u8 = 3;
/// Characters of a reply that an error shows.
const SHOWN_CHARACTERS_MAX: usize = 200;

/// What a request must be answered with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Expected {
    /// `+OK`
    Ok,
    /// `+PONG`
    Pong,
    /// A value, or none.
    Value,
    /// A number, so large at the least.
    Integer {
        /// The least that is enough.
        least: i64,
    },
    /// Whatever is no error.
    Anything,
}

/// Counts and latencies of a load.
#[derive(Debug)]
pub struct Tally {
    /// Of the operations that succeeded, in nanoseconds; and of the requests of an open loop that
    /// were never sent, how long they had been due.
    pub latencies: Histogram<u64>,
    operations: u64,
    /// Operations that had another answer than they should.
    pub errors: u64,
    /// Reads that succeeded and found nothing.
    pub misses: u64,
    /// The first answer that was not as it should be.
    pub first_error: Option<String>,
}

impl Tally {
    /// Nothing yet.
    pub fn new() -> miette::Result<Tally> {
        let latencies = Histogram::new_with_bounds(1, LATENCY_NS_MAX, LATENCY_DIGITS)
            .map_err(|error| miette!("the histogram of latencies: {error}"))?;
        Ok(Tally { latencies, operations: 0, errors: 0, misses: 0, first_error: None })
    }

    /// Operations that succeeded.
    pub fn operations(&self) -> u64 {
        self.operations
    }

    /// An operation succeeded after so long.
    pub fn succeeded(&mut self, latency_ns: u64) {
        self.operations += 1;
        self.latencies.saturating_record(latency_ns);
    }

    /// A request was never sent, though it had been due for so long.
    pub fn not_sent(&mut self, due_for_ns: u64) {
        self.latencies.saturating_record(due_for_ns);
    }

    /// An operation failed, with this answer.
    pub fn failed(&mut self, expected: Expected, answer: Answer, scanner: &Scanner) {
        self.errors += 1;
        if self.first_error.is_none() {
            self.first_error = Some(shown(expected, answer, scanner));
        }
    }
}

impl Expected {
    /// Whether this is an answer to be content with.
    pub fn is(self, answer: Answer, scanner: &Scanner) -> bool {
        match (self, answer) {
            (Expected::Ok, Answer::Simple) => scanner.text() == b"OK",
            (Expected::Pong, Answer::Simple) => scanner.text() == b"PONG",
            (Expected::Value, Answer::Bulk | Answer::Nil) => true,
            (Expected::Integer { least }, Answer::Integer(number)) => number >= least,
            (Expected::Anything, answer) => answer != Answer::Error,
            _ => false,
        }
    }
}

/// An error as it stands; of other answers, that they were not expected.
fn shown(expected: Expected, answer: Answer, scanner: &Scanner) -> String {
    let text = String::from_utf8_lossy(scanner.text());
    let text: String = text.chars().take(SHOWN_CHARACTERS_MAX).collect();
    match answer {
        Answer::Error => text,
        Answer::Integer(number) => match expected {
            Expected::Integer { least } => format!("the answer was {number}, not {least} or more"),
            _ => format!("unexpected answer: the number {number}"),
        },
        Answer::Simple => format!("unexpected answer: `{text}`"),
        Answer::Bulk => String::from("unexpected answer: a value"),
        Answer::Nil => String::from("unexpected answer: no value"),
        Answer::Array => String::from("unexpected answer: an array"),
    }
}
