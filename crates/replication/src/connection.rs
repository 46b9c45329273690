//! What a node keeps of a client's connection: its last write, for WAIT, and what it has asked and
//! not heard yet.

use crate::RequestId;
use crate::turn::LastWrite;
use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::vec::Vec;

/// A connection that has asked something and has not gone.
#[derive(Debug, Default)]
pub struct Connection {
    /// Its newest write that was answered.
    pub last_write: Option<LastWrite>,
    /// That write's number: answers may overtake each other.
    last_write_sequence: u64,
    /// The client's address and the name that it has given itself.
    label: Arc<[u8]>,
    unanswered: u32,
    waits: Vec<Wait>,
}

/// A WAIT that came behind commands of its connection that are not answered yet: it speaks about
/// their writes, so it starts when they are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Wait {
    /// The command.
    pub request: RequestId,
    /// How many followers.
    pub replicas: u64,
    /// How long, in milliseconds.
    pub timeout_ms: u64,
    /// WAITAOF: how many copies of the leader's own.
    pub local: Option<u64>,
    earlier: u32,
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
        let wait = Wait { request, replicas, timeout_ms, local, earlier };
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
            self.release_waits(sequence, ready);
        }
    }

    fn release_waits(&mut self, sequence: u64, ready: &mut VecDeque<Wait>) {
        for wait in self.waits.iter_mut().filter(|wait| sequence < wait.request.sequence) {
            wait.earlier = wait.earlier.saturating_sub(1);
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
        assert_eq!(connection.last_write, Some(LastWrite::Copies { acks: 2, synced: true }));
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
