//! What the nodes of this model say to each other.

use crate::GroupId;
use crate::wire::{Malformed, Read, Reader, Writer};

/// A message of this model.
#[derive(Clone, PartialEq, Debug)]
pub enum Message<'a> {
    /// Stands in until the model's own messages are here.
    Placeholder {
        /// The group.
        group: GroupId,
        /// Bytes.
        bytes: &'a [u8],
    },
}

impl<'a> Message<'a> {
    /// Writes the message.
    pub fn encode(&self, w: &mut Writer<'_>) {
        match self {
            Message::Placeholder { group, bytes } => {
                w.group(*group);
                w.bytes(bytes);
            }
        }
    }

    /// Reads a message.
    pub fn decode(r: &mut Reader<'a>) -> Read<Message<'a>> {
        if r.is_empty() {
            return Err(Malformed);
        }
        Ok(Message::Placeholder { group: r.group()?, bytes: r.bytes()? })
    }
}
