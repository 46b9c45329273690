//! What travels between two nodes: a frame holds all that one turn had to say to one peer.
//!
//! ```text
//! magic and version  4 bytes   "TFP" 1
//! cluster            8 bytes   hash of the cluster's name
//! length             4 bytes   of the payload
//! checksum           4 bytes   CRC-32 of the payload and of the cluster and length before it
//! payload: sender 2, incarnation 8, then messages, each a length of 4 bytes and its bytes
//! ```
//!
//! All numbers are little-endian. A frame is hostile until every one of these has been checked. It
//! is the same in the server and in the simulator, where bits flip on the way.

use crate::wire::Reader;
use crate::{Incarnation, Message, NodeId};
use alloc::vec::Vec;
use core::fmt;

/// The last byte is the version.
const MAGIC: [u8; 4] = *b"TFP\x01";
const LENGTH_AT: usize = 12;
const CHECKSUM_AT: usize = 16;
const HEADER_BYTES: usize = 20;
const SENDER_BYTES: usize = 10;
/// Bytes that a frame with one message has beyond the message.
pub const PAYLOAD_OVERHEAD: usize = HEADER_BYTES + SENDER_BYTES + 4;

/// A cluster's name as a number. Not a secret.
pub fn cluster_digest(name: &str) -> u64 {
    // FNV-1a, 64 bits: stable for ever, and short enough to be seen through.
    name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// Starts a frame at the end of `out`.
pub fn begin(out: &mut Vec<u8>, cluster: u64, from: NodeId, incarnation: Incarnation) {
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&cluster.to_le_bytes());
    out.extend_from_slice(&[0; 8]);
    out.extend_from_slice(&from.0.to_le_bytes());
    out.extend_from_slice(&incarnation.0.to_le_bytes());
}

/// Adds a message. Returns how many bytes it has.
pub fn push(out: &mut Vec<u8>, message: &Message<'_>) -> usize {
    let start = out.len();
    out.extend_from_slice(&[0; 4]);
    message.encode(out);
    let length = out.len() - start - 4;
    patch(out, start, length as u32);
    length
}

/// Completes the frame that starts at `start` and ends at the end of `out`.
pub fn finish(out: &mut [u8], start: usize) {
    let payload = out.len().saturating_sub(start + HEADER_BYTES);
    patch(out, start + LENGTH_AT, payload as u32);
    let checksum = checksum(out.get(start..).unwrap_or(&[]));
    patch(out, start + CHECKSUM_AT, checksum);
}

fn patch(out: &mut [u8], at: usize, value: u32) {
    if let Some(place) = out.get_mut(at..at + 4) {
        place.copy_from_slice(&value.to_le_bytes());
    }
}

/// Everything but the checksum itself.
fn checksum(frame: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(frame.get(..CHECKSUM_AT).unwrap_or(&[]));
    hasher.update(frame.get(HEADER_BYTES..).unwrap_or(&[]));
    hasher.finalize()
}

/// A frame whose header and checksum are right.
#[derive(Debug)]
pub struct Frame<'a> {
    /// Who says it.
    pub from: NodeId,
    /// The sender's disk.
    pub incarnation: Incarnation,
    messages: Reader<'a>,
}

impl<'a> Frame<'a> {
    /// The next message; `None` at the end.
    pub fn message(&mut self) -> Option<Result<Message<'a>, FrameError>> {
        if self.messages.is_empty() {
            return None;
        }
        let message = self.messages.bytes().and_then(Message::decode);
        Some(message.map_err(|_| FrameError::Malformed))
    }
}

/// Why a connection from a peer is closed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum FrameError {
    /// Not a frame, or of a version that this one does not speak.
    Magic,
    /// Another cluster's.
    Cluster,
    /// Over the limit, or too short to name its sender.
    Length,
    /// Damaged on the way.
    Checksum,
    /// Its sender is not a member, or is this node.
    Sender,
    /// What it says is no message.
    Malformed,
}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Magic => "not a frame of this version",
            Self::Cluster => "a frame of another cluster: is its `cluster` name the same?",
            Self::Length => "a frame whose length is out of bounds",
            Self::Checksum => "a frame with a wrong checksum",
            Self::Sender => "a frame from no member of this cluster",
            Self::Malformed => "a frame with a malformed message",
        })
    }
}

/// The frame at the start of `bytes` and its length; `None` while it has not wholly arrived.
pub fn split(
    bytes: &[u8],
    cluster: u64,
    payload_max: usize,
) -> Result<Option<(Frame<'_>, usize)>, FrameError> {
    let magic = bytes.get(..MAGIC.len().min(bytes.len())).unwrap_or(&[]);
    if !MAGIC.starts_with(magic) {
        return Err(FrameError::Magic);
    }
    let Some(header) = bytes.get(..HEADER_BYTES) else { return Ok(None) };
    let mut r = Reader(header.get(MAGIC.len()..).unwrap_or(&[]));
    let (Ok(theirs), Ok(length), Ok(sum)) = (r.u64(), r.u32(), r.u32()) else { return Ok(None) };
    if theirs != cluster {
        return Err(FrameError::Cluster);
    }
    let length = length as usize;
    if length > payload_max || length < SENDER_BYTES {
        return Err(FrameError::Length);
    }
    let end = HEADER_BYTES + length;
    let Some(frame) = bytes.get(..end) else { return Ok(None) };
    if checksum(frame) != sum {
        return Err(FrameError::Checksum);
    }
    let mut messages = Reader(frame.get(HEADER_BYTES..).unwrap_or(&[]));
    let (Ok(from), Ok(incarnation)) = (messages.node(), messages.incarnation()) else {
        return Err(FrameError::Length);
    };
    Ok(Some((Frame { from, incarnation, messages }, end)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]
    use super::*;
    use crate::node::message::Message as NodeMessage;

    fn heartbeat(round: u64) -> Message<'static> {
        let term = crate::node::LeaseTerm::default();
        Message::Node(NodeMessage::HeartbeatAnswer { round, confirmed: Vec::new(), term })
    }

    fn frame(rounds: &[u64]) -> Vec<u8> {
        let mut out = b"unsent".to_vec();
        begin(&mut out, cluster_digest("c"), NodeId(2), Incarnation(7));
        for round in rounds {
            push(&mut out, &heartbeat(*round));
        }
        finish(&mut out, 6);
        out.split_off(6)
    }

    fn error_of(bytes: &[u8], cluster: &str) -> FrameError {
        split(bytes, cluster_digest(cluster), 1000).unwrap_err()
    }

    #[test]
    fn a_frame_comes_back_whole_and_only_when_it_is_whole() {
        let bytes = frame(&[1, 2]);
        for length in 0..bytes.len() {
            assert!(split(&bytes[..length], cluster_digest("c"), 1000).unwrap().is_none());
        }
        let both = [bytes.clone(), frame(&[])].concat();
        let (mut first, end) = split(&both, cluster_digest("c"), 1000).unwrap().unwrap();
        assert_eq!((first.from, first.incarnation, end), (NodeId(2), Incarnation(7), bytes.len()));
        assert_eq!(first.message(), Some(Ok(heartbeat(1))));
        assert_eq!(first.message(), Some(Ok(heartbeat(2))));
        assert_eq!(first.message(), None);
    }

    #[test]
    fn what_is_wrong_is_told_apart() {
        let bytes = frame(&[1]);
        assert_eq!(error_of(b"GET / HTTP/1.1", "c"), FrameError::Magic);
        assert_eq!(error_of(&bytes, "other"), FrameError::Cluster);
        let too_long = [&bytes[..LENGTH_AT], &[255; 8][..]].concat();
        assert_eq!(error_of(&too_long, "c"), FrameError::Length);
        for place in LENGTH_AT..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[place] ^= 1;
            match split(&damaged, cluster_digest("c"), 1000) {
                Err(FrameError::Checksum | FrameError::Length) => {}
                Ok(None) if place < CHECKSUM_AT => {}
                other => panic!("byte {place}: {other:?}"),
            }
        }
    }

    #[test]
    fn a_malformed_message_is_an_error_not_a_panic() {
        let mut out = Vec::new();
        begin(&mut out, 1, NodeId(0), Incarnation(0));
        out.extend_from_slice(&[1, 0, 0, 0, 99]);
        finish(&mut out, 0);
        let (mut frame, _) = split(&out, 1, 1000).unwrap().unwrap();
        assert_eq!(frame.message(), Some(Err(FrameError::Malformed)));
    }
}
