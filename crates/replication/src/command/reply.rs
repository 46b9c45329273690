//! What a command answers.

use crate::wire::{Malformed, Read, Reader, Writer};
use alloc::borrow::Cow;
use alloc::vec::Vec;

/// An array inside an array inside ... ends here when it comes from a peer.
const DEPTH_MAX: u32 = 8;

/// What a command answers; borrowed where it can be, so that a GET copies nothing.
#[derive(Clone, PartialEq, Debug)]
pub enum Reply<'a> {
    /// `OK`.
    Ok,
    /// Another short status.
    Simple(Cow<'a, str>),
    /// A number.
    Integer(i64),
    /// Bytes.
    Bulk(Cow<'a, [u8]>),
    /// No value.
    Nil,
    /// Replies in order.
    Array(Vec<Reply<'a>>),
    /// An error: its code in capitals, then a text with its numbers.
    Error(Cow<'a, str>),
}

impl<'a> Reply<'a> {
    /// An error.
    pub fn error(text: impl Into<Cow<'a, str>>) -> Reply<'a> {
        Reply::Error(text.into())
    }

    /// Whether this is an error.
    pub fn is_error(&self) -> bool {
        matches!(self, Reply::Error(_))
    }

    /// Bytes that it takes, about: of its values, and for what is in an array also of the places.
    pub fn held_bytes(&self) -> u64 {
        match self {
            Reply::Bulk(value) => value.len() as u64,
            Reply::Simple(words) | Reply::Error(words) => words.len() as u64,
            Reply::Array(parts) => {
                let place = size_of::<Reply<'_>>() as u64;
                parts.iter().map(|part| place + part.held_bytes()).sum()
            }
            Reply::Ok | Reply::Integer(_) | Reply::Nil => 0,
        }
    }

    /// The same reply, borrowing nothing.
    pub fn into_owned(self) -> Reply<'static> {
        match self {
            Reply::Ok => Reply::Ok,
            Reply::Simple(text) => Reply::Simple(Cow::Owned(text.into_owned())),
            Reply::Integer(number) => Reply::Integer(number),
            Reply::Bulk(bytes) => Reply::Bulk(Cow::Owned(bytes.into_owned())),
            Reply::Nil => Reply::Nil,
            Reply::Array(parts) => Reply::Array(parts.into_iter().map(Reply::into_owned).collect()),
            Reply::Error(Cow::Borrowed(text)) => Reply::Error(Cow::Owned(text.into())),
            Reply::Error(Cow::Owned(text)) => Reply::Error(Cow::Owned(text)),
        }
    }

    /// Writes the reply for another node.
    pub fn encode(&self, w: &mut Writer<'_>) {
        match self {
            Reply::Ok => w.u8(0),
            Reply::Simple(text) => {
                w.u8(1);
                w.bytes(text.as_bytes());
            }
            Reply::Integer(number) => {
                w.u8(2);
                w.u64(*number as u64);
            }
            Reply::Bulk(bytes) => {
                w.u8(3);
                w.bytes(bytes);
            }
            Reply::Nil => w.u8(4),
            Reply::Array(parts) => {
                w.u8(5);
                w.u32(parts.len() as u32);
                for part in parts {
                    part.encode(w);
                }
            }
            Reply::Error(text) => {
                w.u8(6);
                w.bytes(text.as_bytes());
            }
        }
    }

    /// Reads a reply that another node has written.
    pub fn decode(r: &mut Reader<'a>) -> Read<Reply<'a>> {
        Self::decode_nested(r, DEPTH_MAX)
    }

    fn decode_nested(r: &mut Reader<'a>, depth: u32) -> Read<Reply<'a>> {
        Ok(match r.u8()? {
            0 => Reply::Ok,
            1 => Reply::Simple(Cow::Borrowed(text(r)?)),
            2 => Reply::Integer(r.u64()? as i64),
            3 => Reply::Bulk(Cow::Borrowed(r.bytes()?)),
            4 => Reply::Nil,
            5 => {
                let depth = depth.checked_sub(1).ok_or(Malformed)?;
                let mut parts = Vec::new();
                for _ in 0..r.u32()? {
                    parts.push(Self::decode_nested(r, depth)?);
                }
                Reply::Array(parts)
            }
            6 => Reply::Error(Cow::Borrowed(text(r)?)),
            _ => return Err(Malformed),
        })
    }
}

fn text<'a>(r: &mut Reader<'a>) -> Read<&'a str> {
    core::str::from_utf8(r.bytes()?).map_err(|_| Malformed)
}
