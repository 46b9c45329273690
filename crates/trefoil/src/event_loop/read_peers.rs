//! From a peer's socket to the core: read once, check the frames, step for each message.

use super::EventLoop;
use replication::Input;
use replication::frame::{self, FrameError};
use std::io::{ErrorKind, Read};

impl EventLoop {
    /// Something happened on a connection that a peer has dialled.
    pub(super) fn peer_ready(&mut self, place: usize, ending: bool) {
        if let Some(inbound) = self.sink.peers.inbound(place) {
            inbound.ending |= ending;
            if !inbound.ready {
                inbound.ready = true;
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

    fn read_peer(&mut self, place: usize) {
        let Some(inbound) = self.sink.peers.inbound(place) else { return };
        inbound.ready = false;
        self.state.counters.reads += 1;
        let length = match inbound.stream.read(&mut self.buffer) {
            Ok(0) => return self.sink.peers.close(place, self.poll.registry()),
            Ok(length) => length,
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                self.state.counters.reads_empty += 1;
                return;
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => 0,
            Err(_) => return self.sink.peers.close(place, self.poll.registry()),
        };
        if length == 0 || length == self.buffer.len() || inbound.ending {
            inbound.ready = true;
            self.ready_peers.push_back(place);
        }
        if inbound.carry.is_empty() {
            let buffer = std::mem::take(&mut self.buffer);
            let bytes = buffer.get(..length).unwrap_or(&[]);
            match self.take_frames(place, bytes) {
                Ok(taken) => {
                    if let Some(inbound) = self.sink.peers.inbound(place) {
                        inbound.carry.extend_from_slice(bytes.get(taken..).unwrap_or(&[]));
                    }
                }
                Err(error) => self.sink.peers.refuse(place, error, self.poll.registry()),
            }
            self.buffer = buffer;
            return;
        }
        let mut bytes = std::mem::take(&mut inbound.carry);
        bytes.extend_from_slice(self.buffer.get(..length).unwrap_or(&[]));
        match self.take_frames(place, &bytes) {
            Ok(taken) => {
                if let Some(inbound) = self.sink.peers.inbound(place) {
                    bytes.drain(..taken);
                    inbound.carry = if bytes.is_empty() { Vec::new() } else { bytes };
                }
            }
            Err(error) => self.sink.peers.refuse(place, error, self.poll.registry()),
        }
    }

    /// Steps for each message of the whole frames in `bytes`, and returns how long those are.
    fn take_frames(&mut self, place: usize, bytes: &[u8]) -> Result<usize, FrameError> {
        let identity = self.sink.peers.identity();
        let mut taken = 0;
        loop {
            let rest = bytes.get(taken..).unwrap_or(&[]);
            let found = frame::split(rest, identity.cluster, identity.payload_bytes_max)?;
            let Some((mut frame, length)) = found else { return Ok(taken) };
            taken += length;
            if !self.sink.peers.admit(place, frame.from, self.poll.registry()) {
                return Err(FrameError::Sender);
            }
            let (from, incarnation) = (frame.from, frame.incarnation);
            while let Some(message) = frame.message() {
                self.step(Input::Message { from, incarnation, message: message? });
            }
        }
    }
}
