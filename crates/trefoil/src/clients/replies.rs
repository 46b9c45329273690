//! The replies of one connection, in request order. A reply whose turn it is goes straight into
//! the out buffer; one that is early is kept, encoded, until those before it are there.

use crate::resp::Protocol;
use std::collections::VecDeque;

/// Replies on their way to one client.
#[derive(Default)]
pub struct Replies {
    out: Vec<u8>,
    /// Bytes of `out` that the socket has taken.
    sent: usize,
    /// The request whose reply comes next.
    next: u64,
    /// The first request that does not exist yet.
    asked: u64,
    /// Early replies: the one at place 0 belongs to request `next`.
    early: VecDeque<Option<Box<[u8]>>>,
    early_bytes: usize,
    /// Requests that get no reply (CLIENT REPLY): ranges, first and end.
    silent: VecDeque<(u64, u64)>,
    /// The protocol of replies from request `.0` on, in order.
    protocols: VecDeque<(u64, Protocol)>,
    protocol: Protocol,
}

impl Replies {
    /// Takes the number for a new request; `silent`: its reply is not sent.
    pub fn ask(&mut self, silent: bool) -> u64 {
        let sequence = self.asked;
        self.asked += 1;
        if silent {
            match self.silent.back_mut() {
                Some(range) if range.1 == sequence => range.1 += 1,
                _ => self.silent.push_back((sequence, sequence + 1)),
            }
        }
        sequence
    }

    /// Takes the numbers for so many new requests, whose replies are sent, and returns the first.
    pub fn ask_many(&mut self, count: usize) -> u64 {
        let first = self.asked;
        self.asked += count as u64;
        first
    }

    /// The number that the next request will have.
    pub fn asked(&self) -> u64 {
        self.asked
    }

    /// Requests that have no reply yet.
    pub fn outstanding(&self) -> u64 {
        self.asked - self.next
    }

    /// Bytes that wait for the socket or for their turn.
    pub fn unsent(&self) -> usize {
        self.out.len() - self.sent + self.early_bytes
    }

    /// The bytes for the socket.
    pub fn ready(&self) -> &[u8] {
        self.out.get(self.sent..).unwrap_or(&[])
    }

    /// The socket has taken so many of them.
    pub fn advance(&mut self, bytes: usize) {
        self.sent += bytes;
        if self.sent >= self.out.len() {
            self.out.clear();
            self.sent = 0;
        } else if self.sent > self.out.len() / 2 && self.sent > 64 << 10 {
            self.out.drain(..self.sent);
            self.sent = 0;
        }
    }

    /// Whether there is no buffer yet to write into.
    pub fn is_bare(&self) -> bool {
        self.out.capacity() == 0
    }

    /// Gives it an empty buffer.
    pub fn lend(&mut self, buffer: Vec<u8>) {
        if self.out.is_empty() {
            self.out = buffer;
        }
    }

    /// Takes the buffer back when all is sent.
    pub fn take_sent_buffer(&mut self) -> Option<Vec<u8>> {
        (self.out.is_empty() && self.out.capacity() > 0).then(|| std::mem::take(&mut self.out))
    }

    /// Replies to requests from now on speak this protocol.
    pub fn switch(&mut self, protocol: Protocol, from: u64) {
        self.protocols.push_back((from, protocol));
    }

    /// The reply to a request. A second one, or one to a request that was never made, is ignored.
    #[inline]
    pub fn answer(&mut self, sequence: u64, encode: impl FnOnce(&mut Vec<u8>, Protocol)) {
        let is_next = sequence == self.next && sequence < self.asked;
        if is_next && self.early.is_empty() && self.silent.is_empty() && self.protocols.is_empty() {
            encode(&mut self.out, self.protocol);
            self.next += 1;
            return;
        }
        self.answer_specially(sequence, encode);
    }

    /// A reply that comes early, that others wait behind, or that stands where something changes.
    fn answer_specially(&mut self, sequence: u64, encode: impl FnOnce(&mut Vec<u8>, Protocol)) {
        if sequence < self.next || sequence >= self.asked {
            return;
        }
        let protocol = self.protocol_of(sequence);
        if sequence == self.next {
            if !self.is_silent(sequence) {
                encode(&mut self.out, protocol);
            }
            self.next += 1;
            if !self.early.is_empty() {
                self.early.pop_front();
                self.release_early();
            }
            self.forget_passed();
            return;
        }
        let place = (sequence - self.next) as usize;
        if self.early.len() <= place {
            self.early.resize_with(place + 1, || None);
        }
        let silent = self.is_silent(sequence);
        if let Some(entry) = self.early.get_mut(place)
            && entry.is_none()
        {
            let mut bytes = Vec::new();
            if !silent {
                encode(&mut bytes, protocol);
            }
            self.early_bytes += bytes.len();
            *entry = Some(bytes.into_boxed_slice());
        }
    }

    fn release_early(&mut self) {
        while let Some(Some(_)) = self.early.front() {
            if let Some(Some(bytes)) = self.early.pop_front() {
                self.early_bytes -= bytes.len();
                self.out.extend_from_slice(&bytes);
                self.next += 1;
            }
        }
    }

    fn is_silent(&self, sequence: u64) -> bool {
        self.silent.iter().any(|(first, end)| (*first..*end).contains(&sequence))
    }

    fn protocol_of(&self, sequence: u64) -> Protocol {
        let newest = self.protocols.iter().rev().find(|(from, _)| *from <= sequence);
        newest.map_or(self.protocol, |(_, protocol)| *protocol)
    }

    /// Drops what only passed requests needed.
    fn forget_passed(&mut self) {
        let next = self.next;
        while self.silent.front().is_some_and(|(_, end)| *end <= next) {
            self.silent.pop_front();
        }
        while let Some((from, protocol)) = self.protocols.front().copied()
            && from <= next
        {
            self.protocol = protocol;
            self.protocols.pop_front();
        }
    }
}
