//! What a node keeps of a client's connection: its last write, for WAIT, and what it has asked and
//! not heard yet.

use crate::RequestId;
use crate::turn::LastWrite;
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
    /// The client's label, as its driver says it with each request.
    pub fn label(&mut self, label: &[u8]) -> Arc<[u8]> {
        if *self.label != *label {
            self.label = Arc::from(label);
        }
        self.label.clone()
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

    /// A command was answered. Returns the WAITs that have nothing before them any more.
    pub fn answered(&mut self, sequence: u64, last_write: Option<LastWrite>) -> Vec<Wait> {
        self.unanswered = self.unanswered.saturating_sub(1);
        if last_write.is_some()
            && (self.last_write.is_none() || sequence > self.last_write_sequence)
        {
            (self.last_write, self.last_write_sequence) = (last_write, sequence);
        }
        if self.waits.is_empty() {
            return Vec::new();
        }
        for wait in self.waits.iter_mut().filter(|wait| sequence < wait.request.sequence) {
            wait.earlier = wait.earlier.saturating_sub(1);
        }
        let (ready, waits) = self.waits.drain(..).partition(|wait| wait.earlier == 0);
        self.waits = waits;
        ready
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
        assert!(connection.answered(3, None).is_empty(), "a later command's answer is no matter");
        assert!(connection.answered(0, None).is_empty());
        let ready = connection.answered(1, Some(LastWrite::Copies { acks: 2, synced: true }));
        assert_eq!(ready.first().unwrap().request, request(2));
        assert_eq!(connection.last_write, Some(LastWrite::Copies { acks: 2, synced: true }));
    }

    #[test]
    fn the_last_write_is_the_one_that_was_asked_last() {
        let mut connection = Connection::default();
        let copies = |acks| Some(LastWrite::Copies { acks, synced: true });
        connection.answered(0, copies(1));
        connection.answered(2, copies(2));
        connection.answered(1, copies(3));
        connection.answered(3, None);
        assert_eq!(connection.last_write, copies(2));
    }

    #[test]
    fn a_wait_with_nothing_before_it_starts_at_once() {
        let mut connection = Connection::default();
        connection.asked();
        assert!(connection.wait(request(0), 1, 10, None).is_some());
    }
}
