//! What a node writes into its log about itself.

use crate::keyspace::protected::Protected;
use crate::wire::{Malformed, Read, Reader, Writer};
use crate::{Incarnation, Position};
use alloc::string::String;
use alloc::vec::Vec;

/// The first byte of an [`Identity`].
pub const RECORD_KIND: u8 = 0;
/// The first byte of a [`Begin`].
pub const BEGIN_KIND: u8 = 2;
/// The first byte of a record of what was heard of other nodes (`gap_record.rs`).
pub const GAPS_KIND: u8 = 4;
/// The only byte of an idle mark (`idle_mark.rs`).
pub const IDLE_MARK_KIND: u8 = 5;

/// Who a data directory belongs to: the first record of a log, of every start and every
/// checkpoint.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Identity {
    /// The cluster's name.
    pub cluster: String,
    /// The node's name.
    pub node: String,
    /// The disk's number.
    pub incarnation: Incarnation,
    /// The process's number on this disk, above all before it: the moment of its start by the wall
    /// clock (milliseconds since 1970), where that is higher. So a process on a disk that was
    /// restored from an old backup is not taken for one that its peers have met.
    pub boot: u64,
    /// For how long this process, or one before whose word may still hold, may have promised to
    /// vote for nobody, in microseconds: the next one keeps that.
    pub lease_us: u64,
    /// The options of the keyspaces that must not change under stored keys.
    pub keyspaces: Vec<Protected>,
}

impl Identity {
    /// Writes the record, its kind first.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut w = Writer(&mut bytes);
        w.u8(RECORD_KIND);
        w.bytes(self.cluster.as_bytes());
        w.bytes(self.node.as_bytes());
        w.u64(self.incarnation.0);
        w.u64(self.boot);
        w.u64(self.lease_us);
        w.u32(self.keyspaces.len() as u32);
        for option in &self.keyspaces {
            w.bytes(option.0.as_bytes());
            w.bytes(option.1.as_bytes());
        }
        bytes
    }

    /// Reads the record after its kind.
    pub fn decode(r: &mut Reader<'_>) -> Read<Identity> {
        let cluster = text(r)?;
        let node = text(r)?;
        let (incarnation, boot, lease_us) = (r.incarnation()?, r.u64()?, r.u64()?);
        let mut keyspaces = Vec::new();
        for _ in 0..r.u32()? {
            keyspaces.push((text(r)?, text(r)?));
        }
        r.finish()?;
        Ok(Identity { cluster, node, incarnation, boot, lease_us, keyspaces })
    }
}

/// A checkpoint's last record: what is before this position is not needed any more, and may go
/// once this record is on disk. A log that begins neither with its first record nor at or before
/// such a position has lost its beginning, and with it a part of the newest checkpoint: nothing
/// else could tell (reliability F46, F49: a file that is missing or was written over).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Begin {
    /// The first record that is needed.
    pub keep_from: Position,
}

impl Begin {
    /// Writes the record, its kind first.
    pub fn encode(self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut w = Writer(&mut bytes);
        w.u8(BEGIN_KIND);
        w.u64(self.keep_from.0);
        bytes
    }

    /// Reads the record after its kind.
    pub fn decode(r: &mut Reader<'_>) -> Read<Begin> {
        let keep_from = Position(r.u64()?);
        r.finish()?;
        Ok(Begin { keep_from })
    }
}

fn text(r: &mut Reader<'_>) -> Read<String> {
    core::str::from_utf8(r.bytes()?).map(String::from).map_err(|_| Malformed)
}
