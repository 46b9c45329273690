//! What a node keeps of a client's connection: its last write, for WAIT, and what it has asked and
//! not heard yet.

use crate::RequestId;
use crate::last_writes::{LastWrites, Written};
use crate::turn::LastWrite;
use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::vec::Vec;

/// A connection that has asked something and has not gone.
#[derive(Debug, Default)]
pub struct Connection {
    /// Its newest write that was answered; of one that had several parts, what is true of them
    /// at least.
    pub last_write: Option<LastWrite>,
    /// That write's number: answers may overtake each other.
    last_write_sequence: u64,
    /// Its newest write that had several parts, by its number.
    several: Option<(u64, Arc<LastWrites>)>,
    /// The client's address and the name that it has given itself.
    label: Arc<[u8]>,
    unanswered: u32,
    waits: Vec<Wait>,
}

/// A WAIT that came behind commands of its connection that are not answered yet: it speaks about
/// their writes, so it starts when they are. What came behind it is no matter, also where that is
/// answered first.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Wait {
    /// The command.
    pub request: RequestId,
    /// How many followers.
    pub replicas: u64,
    /// How long, in milliseconds.
    pub timeout_ms: u64,
    /// WAITAOF: how many copies of the leader's own.
    pub local: Option<u64>,
    /// The newest write before it that was answered, if any.
    pub written: Option<Written>,
    /// That write's number.
    written_sequence: u64,
    earlier: u32,
}

impl Wait {
    fn note(&mut self, sequence: u64, written: &Option<Written>) {
        if written.is_some() && (self.written.is_none() || sequence > self.written_sequence) {
            (self.written, self.written_sequence) = (written.clone(), sequence);
        }
    }
}

impl Connection {
    /// Takes note of the client's label, as its driver says it with each read; true if it is
    /// another one than before.
    pub fn relabel(&mut self, label: &[u8]) -> bool {
        let changes = *self.label != *label;
        if changes {
            self.label = Arc::from(label);
        }
        changes
    }

    /// The client's label.
    pub fn label(&self) -> &Arc<[u8]> {
        &self.label
    }

    /// Another command has come.
    pub fn asked(&mut self) {
        self.unanswered += 1;
    }

    /// A WAIT has come (and is counted as asked): started at once where nothing is before it. With
    /// `local`, it is a WAITAOF.
    pub fn wait(
        &mut self,
        request: RequestId,
        replicas: u64,
        timeout_ms: u64,
        local: Option<u64>,
    ) -> Option<Wait> {
        let earlier = self.unanswered.saturating_sub(1);
        let (written, written_sequence) = (self.written(), self.last_write_sequence);
        let wait =
            Wait { request, replicas, timeout_ms, local, written, written_sequence, earlier };
        if earlier == 0 {
            return Some(wait);
        }
        self.waits.push(wait);
        None
    }

    /// A command was answered. Adds to `ready` the WAITs that have nothing before them any more.
    #[inline]
    pub fn answered(
        &mut self,
        sequence: u64,
        last_write: Option<LastWrite>,
        ready: &mut VecDeque<Wait>,
    ) {
        self.unanswered = self.unanswered.saturating_sub(1);
        if last_write.is_some()
            && (self.last_write.is_none() || sequence > self.last_write_sequence)
        {
            (self.last_write, self.last_write_sequence) = (last_write, sequence);
        }
        if !self.waits.is_empty() {
            self.release_waits(sequence, last_write.map(Written::One), ready);
        }
    }

    /// The same for a command whose parts have written several things.
    pub fn answered_in_parts(
        &mut self,
        sequence: u64,
        writes: LastWrites,
        ready: &mut VecDeque<Wait>,
    ) {
        let writes = Arc::new(writes);
        self.unanswered = self.unanswered.saturating_sub(1);
        if self.last_write.is_none() || sequence > self.last_write_sequence {
            self.last_write = Some(LastWrite::Copies { acks: 0, synced: false });
            self.last_write_sequence = sequence;
            self.several = Some((sequence, writes.clone()));
        }
        self.release_waits(sequence, Some(Written::Several(writes)), ready);
    }

    /// What its newest write that was answered has written.
    fn written(&self) -> Option<Written> {
        match &self.several {
            Some((sequence, writes)) if *sequence == self.last_write_sequence => {
                Some(Written::Several(writes.clone()))
            }
            _ => self.last_write.map(Written::One),
        }
    }

    #[cold]
    fn release_waits(
        &mut self,
        sequence: u64,
        written: Option<Written>,
        ready: &mut VecDeque<Wait>,
    ) {
        for wait in self.waits.iter_mut().filter(|wait| sequence < wait.request.sequence) {
            wait.earlier = wait.earlier.saturating_sub(1);
            wait.note(sequence, &written);
        }
        ready.extend(self.waits.extract_if(.., |wait| wait.earlier == 0));
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::ClientId;

    fn request(sequence: u64) -> RequestId {
        RequestId { client: ClientId(1), sequence }
    }

    #[test]
    fn a_wait_starts_when_what_came_before_it_is_answered() {
        let mut connection = Connection::default();
        connection.asked();
        connection.asked();
        connection.asked();
        assert_eq!(connection.wait(request(2), 1, 10, None), None);
        connection.asked();
        let mut ready = VecDeque::new();
        connection.answered(3, None, &mut ready);
        assert!(ready.is_empty(), "a later command's answer is no matter");
        connection.answered(0, None, &mut ready);
        assert!(ready.is_empty());
        let last_write = Some(LastWrite::Copies { acks: 2, synced: true });
        connection.answered(1, last_write, &mut ready);
        assert_eq!(ready.front().unwrap().request, request(2));
        assert_eq!(ready.front().unwrap().written, last_write.map(Written::One));
    }

    #[test]
    fn a_wait_speaks_of_what_came_before_it_also_where_later_writes_are_answered_first() {
        let mut connection = Connection::default();
        let write = |acks| LastWrite::Copies { acks, synced: true };
        let mut parts = LastWrites::default();
        parts.add(write(2));
        let several = Some(Written::Several(Arc::new(parts.clone())));
        connection.asked();
        connection.asked();
        assert_eq!(connection.wait(request(1), 1, 10, None), None);
        connection.asked();
        connection.asked();
        assert_eq!(connection.wait(request(3), 1, 10, None), None);
        let mut ready = VecDeque::new();
        connection.answered(2, Some(write(3)), &mut ready);
        assert!(ready.is_empty());
        connection.answered_in_parts(0, parts, &mut ready);
        assert_eq!(ready.pop_front().map(|wait| (wait.request, wait.written)), {
            Some((request(1), several.clone()))
        });
        connection.answered(1, None, &mut ready);
        let written = ready.pop_front().map(|wait| (wait.request, wait.written));
        assert_eq!(written, Some((request(3), Some(Written::One(write(3))))));
    }

    #[test]
    fn the_parts_of_a_write_count_until_the_next_write() {
        let mut connection = Connection::default();
        let write = |acks| LastWrite::Copies { acks, synced: true };
        let mut parts = LastWrites::default();
        parts.add(write(2));
        connection.answered(0, Some(write(1)), &mut VecDeque::new());
        connection.answered_in_parts(1, parts.clone(), &mut VecDeque::new());
        connection.answered(2, None, &mut VecDeque::new());
        assert_eq!(connection.written(), Some(Written::Several(Arc::new(parts.clone()))));
        connection.answered(4, Some(write(4)), &mut VecDeque::new());
        assert_eq!(connection.written(), Some(Written::One(write(4))));
        connection.answered_in_parts(3, parts, &mut VecDeque::new());
        assert_eq!(connection.written(), Some(Written::One(write(4))), "that came before");
    }

    #[test]
    fn the_last_write_is_the_one_that_was_asked_last() {
        let mut connection = Connection::default();
        let copies = |acks| Some(LastWrite::Copies { acks, synced: true });
        for (sequence, write) in [(0, copies(1)), (2, copies(2)), (1, copies(3)), (3, None)] {
            connection.answered(sequence, write, &mut VecDeque::new());
        }
        assert_eq!(connection.last_write, copies(2));
    }

    #[test]
    fn a_wait_with_nothing_before_it_starts_at_once() {
        let mut connection = Connection::default();
        connection.asked();
        assert!(connection.wait(request(0), 1, 10, None).is_some());
    }
}
