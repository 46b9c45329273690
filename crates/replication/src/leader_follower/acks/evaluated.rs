//! The reads of one turn: evaluated, and held until its end says what they wait for. Mostly a
//! lease lets them go right then, so what they answer is kept in one buffer that the next turn uses
//! again: a read under a lease asks for no memory.

use super::super::Group;
use super::held::{Answer, Read};
use super::waiting::answer_bytes;
use crate::Reply;
use crate::turn::{Requester, Turn};
use alloc::borrow::Cow;
use alloc::vec::{self, Vec};
use core::ops::Range;

/// Bytes of the buffer that are kept from turn to turn.
const VALUES_KEPT_MAX: usize = 1 << 20;

/// The reads of this turn, in the order in which they were evaluated.
#[derive(Default)]
pub(in super::super) struct Evaluated {
    reads: Vec<EvaluatedRead>,
    values: Vec<u8>,
    /// Bytes of what the others answer.
    other_bytes: u64,
}

/// A read of this turn.
pub(in super::super) struct EvaluatedRead {
    requester: Requester,
    /// The newest entry that it saw.
    pub(in super::super) index: u64,
    deadline_us: u64,
    answer: EvaluatedAnswer,
}

enum EvaluatedAnswer {
    /// A value: where it is in the buffer.
    Value(Range<usize>),
    Other(Answer),
}

impl EvaluatedRead {
    /// The same as a read that outlives its turn.
    pub(in super::super) fn into_read(self, values: &[u8], round: u64) -> Read {
        let EvaluatedRead { requester, index, deadline_us, answer } = self;
        let answer = match answer {
            EvaluatedAnswer::Value(at) => {
                let value = values.get(at).unwrap_or_default();
                Answer::Ready(Reply::Bulk(Cow::Owned(value.to_vec())))
            }
            EvaluatedAnswer::Other(answer) => answer,
        };
        Read { requester, index, round, answer, deadline_us }
    }
}

impl Evaluated {
    /// Whether there are none.
    pub(in super::super) fn is_empty(&self) -> bool {
        self.reads.is_empty()
    }

    /// Bytes of what they answer.
    pub(super) fn bytes(&self) -> u64 {
        self.values.len() as u64 + self.other_bytes
    }

    /// Adds a read, with what it answers or how that is found out.
    pub(super) fn push(
        &mut self,
        requester: Requester,
        index: u64,
        deadline_us: u64,
        answer: Answer,
    ) {
        self.other_bytes += answer_bytes(&answer);
        let answer = EvaluatedAnswer::Other(answer);
        self.reads.push(EvaluatedRead { requester, index, deadline_us, answer });
    }

    /// Adds a read with the value that it answers.
    pub(in super::super) fn push_value(
        &mut self,
        requester: Requester,
        index: u64,
        deadline_us: u64,
        value: &[u8],
    ) {
        let start = self.values.len();
        self.values.extend_from_slice(value);
        let answer = EvaluatedAnswer::Value(start..self.values.len());
        self.reads.push(EvaluatedRead { requester, index, deadline_us, answer });
    }

    /// Takes the reads off, with the buffer of their values.
    pub(in super::super) fn drain(&mut self) -> (vec::Drain<'_, EvaluatedRead>, &[u8]) {
        (self.reads.drain(..), &self.values)
    }

    /// Empty, to be used again.
    pub(in super::super) fn cleared(mut self) -> Evaluated {
        self.reads.clear();
        self.values.clear();
        self.other_bytes = 0;
        if self.values.capacity() > VALUES_KEPT_MAX {
            self.values = Vec::new();
        }
        self
    }
}

impl Group {
    /// Answers a read of this turn that nothing holds up any more.
    pub(in super::super) fn answer_evaluated(
        &mut self,
        turn: &mut Turn<'_>,
        read: EvaluatedRead,
        values: &[u8],
    ) {
        match read.answer {
            EvaluatedAnswer::Value(at) => {
                let value = Cow::Borrowed(values.get(at).unwrap_or_default());
                turn.answer(read.requester, Reply::Bulk(value), None);
            }
            EvaluatedAnswer::Other(_) => self.answer_read(turn, read.into_read(values, 0)),
        }
    }
}
