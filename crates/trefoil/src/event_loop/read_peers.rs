//! From a peer's socket to the core: read once, check the frames, step for each message.

use super::EventLoop;
use crate::peers::Admission;
use replication::Input;
use replication::frame::{self, FrameError};
use std::io::{ErrorKind, Read};

impl EventLoop {
    /// Something happened on a connection to a peer.
    pub(super) fn peer_event(&mut self, place: usize, readable: bool, ending: bool) {
        self.sink.peers.event(place, self.now, self.poll.registry());
        if let Some(connection) = self.sink.peers.connection(place) {
            connection.ending |= ending;
            if (readable || ending) && !connection.ready {
                connection.ready = true;
                self.ready_peers.push_back(place);
            }
        }
    }

    /// Reads every ready peer once.
    pub(super) fn read_peers(&mut self) {
        for _ in 0..self.ready_peers.len() {
            if let Some(place) = self.ready_peers.pop_front() {
                self.read_peer(place);
            }
        }
    }

    fn read_peer(&mut self, mut place: usize) {
        let Some(connection) = self.sink.peers.connection(place) else { return };
        connection.ready = false;
        self.state.counters.reads += 1;
        let length = match connection.stream.read(&mut self.buffer) {
            Ok(0) => return self.close_peer(place),
            Ok(length) => length,
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                self.state.counters.reads_empty += 1;
                return;
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => 0,
            Err(_) => return self.close_peer(place),
        };
        let is_more = length == 0 || length == self.buffer.len() || connection.ending;
        let buffer = std::mem::take(&mut self.buffer);
        let carry = std::mem::take(&mut connection.carry);
        let result = if carry.is_empty() {
            // The usual case: whole frames, straight from the shared buffer.
            let bytes = buffer.get(..length).unwrap_or(&[]);
            let taken = self.take_frames(&mut place, bytes);
            taken.map(|taken| bytes.get(taken..).unwrap_or(&[]).to_vec())
        } else {
            let mut bytes = carry;
            bytes.extend_from_slice(buffer.get(..length).unwrap_or(&[]));
            self.take_frames(&mut place, &bytes).map(|taken| {
                bytes.drain(..taken);
                if bytes.is_empty() { Vec::new() } else { bytes }
            })
        };
        self.buffer = buffer;
        match result {
            Ok(carry) => {
                if let Some(connection) = self.sink.peers.connection(place) {
                    connection.carry = carry;
                    if is_more && !connection.ready {
                        connection.ready = true;
                        self.ready_peers.push_back(place);
                    }
                }
            }
            Err(error) => {
                let registry = self.poll.registry();
                if let Some(node) = self.sink.peers.refuse(place, error, self.now, registry) {
                    self.peer_lost(node);
                }
            }
        }
    }

    fn close_peer(&mut self, place: usize) {
        if let Some(node) = self.sink.peers.close(place, self.now, self.poll.registry()) {
            self.peer_lost(node);
        }
    }

    /// Steps for each message of the whole frames in `bytes`, and returns how long those are. The
    /// connection's place is another once the first frame has named the sender.
    fn take_frames(&mut self, place: &mut usize, bytes: &[u8]) -> Result<usize, FrameError> {
        let identity = self.sink.peers.identity();
        let mut taken = 0;
        loop {
            let rest = bytes.get(taken..).unwrap_or(&[]);
            let found = frame::split(rest, identity.cluster, identity.payload_bytes_max)?;
            let Some((mut frame, length)) = found else { return Ok(taken) };
            taken += length;
            match self.sink.peers.admit(*place, frame.from, self.now, self.poll.registry()) {
                Admission::Known => {}
                Admission::Greeting { place: home, replaced } => {
                    *place = home;
                    if replaced {
                        self.peer_lost(frame.from);
                    }
                }
                Admission::Unwanted => return Ok(bytes.len()),
                Admission::Refused => return Err(FrameError::Sender),
            }
            let (from, incarnation) = (frame.from, frame.incarnation);
            while let Some(message) = frame.message() {
                self.step(Input::Message { from, incarnation, message: message? });
            }
        }
    }
}
