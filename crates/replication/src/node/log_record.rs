//! What a node writes into its log about itself.

use crate::Incarnation;
use crate::keyspace::protected::Protected;
use crate::wire::{Malformed, Read, Reader, Writer};
use alloc::string::String;
use alloc::vec::Vec;

/// The first byte of these records.
pub const RECORD_KIND: u8 = 0;

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
    /// How often a process has started on this disk.
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

fn text(r: &mut Reader<'_>) -> Read<String> {
    core::str::from_utf8(r.bytes()?).map(String::from).map_err(|_| Malformed)
}
