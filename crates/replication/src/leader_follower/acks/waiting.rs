//! Reads that outlive their turn: they wait for a heartbeat round, or until what they saw is
//! visible. One that waits for a write that has no copies holds up no other one: it steps aside.

use super::held::{Answer, Read};
use alloc::collections::VecDeque;
use alloc::vec::Vec;

/// Reads that wait.
#[derive(Default)]
pub(in super::super) struct WaitingReads {
    /// For a round, in order of the rounds, and of their deadlines.
    rounds: VecDeque<Read>,
    /// Only until what they saw is visible.
    hidden: Vec<Read>,
    /// Of those: no index is smaller, no deadline earlier.
    least_index: u64,
    least_deadline_us: u64,
    /// Bytes of what they will answer.
    bytes: u64,
}

impl WaitingReads {
    pub(super) fn is_empty(&self) -> bool {
        self.rounds.is_empty() && self.hidden.is_empty()
    }

    /// Bytes of what they will answer.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The same, counted anew: for observers.
    pub(super) fn recount(&self) -> u64 {
        self.rounds.iter().chain(&self.hidden).map(bytes_of).sum()
    }

    pub(super) fn next_deadline(&self) -> u64 {
        let round = self.rounds.front().map_or(u64::MAX, |read| read.deadline_us);
        if self.hidden.is_empty() { round } else { round.min(self.least_deadline_us) }
    }

    /// Adds a read; one of round 0 waits for no round.
    pub(in super::super) fn push(&mut self, read: Read) {
        self.bytes += bytes_of(&read);
        match read.round {
            0 => self.hide(read),
            _ => self.rounds.push_back(read),
        }
    }

    fn hide(&mut self, read: Read) {
        if self.hidden.is_empty() {
            (self.least_index, self.least_deadline_us) = (u64::MAX, u64::MAX);
        }
        self.least_index = self.least_index.min(read.index);
        self.least_deadline_us = self.least_deadline_us.min(read.deadline_us);
        self.hidden.push(read);
    }

    /// The next read whose round is confirmed and that saw nothing which is not visible.
    pub(super) fn next_confirmed(&mut self, visible: u64, round: u64) -> Option<Read> {
        while let Some(read) = self.rounds.pop_front_if(|read| read.round <= round) {
            if read.index <= visible {
                self.bytes -= bytes_of(&read);
                return Some(read);
            }
            self.hide(read);
        }
        None
    }

    /// Those that stepped aside and have nothing to wait for any more.
    pub(super) fn take_shown(&mut self, visible: u64) -> Vec<Read> {
        match self.least_index <= visible {
            true => self.take_hidden(|read| read.index <= visible),
            false => Vec::new(),
        }
    }

    /// Those whose deadline has come.
    pub(super) fn take_expired(&mut self, now_us: u64) -> Vec<Read> {
        let mut expired = match self.least_deadline_us <= now_us {
            true => self.take_hidden(|read| read.deadline_us <= now_us),
            false => Vec::new(),
        };
        while let Some(read) = self.rounds.pop_front_if(|read| read.deadline_us <= now_us) {
            self.bytes -= bytes_of(&read);
            expired.push(read);
        }
        expired
    }

    fn take_hidden(&mut self, is_meant: impl Fn(&Read) -> bool) -> Vec<Read> {
        let (taken, left): (Vec<Read>, Vec<Read>) =
            core::mem::take(&mut self.hidden).into_iter().partition(is_meant);
        left.into_iter().for_each(|read| self.hide(read));
        self.bytes -= taken.iter().map(bytes_of).sum::<u64>();
        taken
    }

    /// All of them.
    pub(super) fn into_all(self) -> impl Iterator<Item = Read> {
        self.hidden.into_iter().chain(self.rounds)
    }
}

/// Bytes of what a read will answer, about.
fn bytes_of(read: &Read) -> u64 {
    answer_bytes(&read.answer)
}

/// Bytes of an answer, about.
pub(super) fn answer_bytes(answer: &Answer) -> u64 {
    match answer {
        Answer::Ready(reply) => reply.held_bytes(),
        Answer::Either(either) => either.newest.held_bytes() + either.older.held_bytes(),
        Answer::Outcome(_) | Answer::OutcomeAsked(_) | Answer::Degraded(_) => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::turn::Requester;
    use crate::{ClientId, Reply, RequestId};
    use alloc::borrow::Cow;
    use alloc::vec;

    fn read(sequence: u64, index: u64, round: u64) -> Read {
        let requester = Requester::Client(RequestId { client: ClientId(1), sequence });
        let answer = Answer::Ready(Reply::Bulk(Cow::Owned(vec![0; 10])));
        Read { requester, index, round, answer, deadline_us: 100 + sequence }
    }

    fn sequences(reads: impl IntoIterator<Item = Read>) -> Vec<u64> {
        let sequence = |read: Read| match read.requester {
            Requester::Client(request) => request.sequence,
            _ => u64::MAX,
        };
        reads.into_iter().map(sequence).collect()
    }

    #[test]
    fn an_array_counts_with_all_that_is_in_it() {
        let key = || Reply::Bulk(Cow::Owned(vec![0; 10]));
        let keys: Vec<Reply<'static>> = (0..1_000).map(|_| key()).collect();
        let answer = Answer::Ready(Reply::Array(vec![key(), Reply::Array(keys)]));
        let mut waiting = WaitingReads::default();
        waiting.push(Read { answer, ..read(1, 3, 1) });
        assert!(waiting.bytes() >= 1_000 * (10 + size_of::<Reply<'_>>() as u64));
        assert!(waiting.next_confirmed(3, 1).is_some());
        assert_eq!(waiting.bytes(), 0);
    }

    #[test]
    fn a_read_of_what_is_hidden_holds_up_nobody() {
        let mut waiting = WaitingReads::default();
        for (sequence, index, round) in [(1, 9, 1), (2, 3, 1), (3, 3, 2), (4, 7, 0), (5, 3, 1)] {
            waiting.push(read(sequence, index, round));
        }
        let mut confirmed = |visible, round| {
            let mut found = Vec::new();
            while let Some(read) = waiting.next_confirmed(visible, round) {
                found.push(read);
            }
            sequences(found)
        };
        assert_eq!(confirmed(5, 0), []);
        assert_eq!(confirmed(5, 1), [2], "the third waits for its round, and what is behind it");
        assert_eq!(confirmed(5, 2), [3, 5]);
        assert_eq!(waiting.bytes(), 20);
        assert_eq!(sequences(waiting.take_shown(6)), []);
        assert_eq!(sequences(waiting.take_shown(7)), [4]);
        assert_eq!(waiting.next_deadline(), 101);
        assert_eq!(sequences(waiting.take_expired(101)), [1]);
        assert!(waiting.is_empty() && waiting.bytes() == 0);
        assert_eq!(waiting.next_deadline(), u64::MAX);
    }
}
