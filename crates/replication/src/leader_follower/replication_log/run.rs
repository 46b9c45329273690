//! A run: entries one after another, each as its length and its bytes. So they lie in the chunks of
//! the replication log, and a run is what goes into the node's log and to the followers: copied as
//! it is, whatever it holds.

use crate::wire::{Read, Reader};

/// The bytes of an entry's length, before the entry.
pub(in crate::leader_follower) const LENGTH_BYTES: usize = 4;

/// The entries of a run, in order; ends at the first that is malformed.
#[derive(Clone, Debug)]
pub struct Bodies<'a>(Reader<'a>);

impl<'a> Bodies<'a> {
    /// The entries of a run.
    pub fn of(run: &'a [u8]) -> Bodies<'a> {
        Bodies(Reader(run))
    }

    /// What is left of the run.
    pub fn rest(&self) -> &'a [u8] {
        self.0.0
    }
}

impl<'a> Iterator for Bodies<'a> {
    type Item = Read<&'a [u8]>;

    #[inline]
    fn next(&mut self) -> Option<Read<&'a [u8]>> {
        if self.0.is_empty() {
            return None;
        }
        let body = self.0.bytes();
        if body.is_err() {
            self.0 = Reader(&[]);
        }
        Some(body)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{Malformed, Writer};
    use alloc::vec::Vec;

    #[test]
    fn a_run_ends_at_what_is_malformed() {
        let mut run = Vec::new();
        let mut w = Writer(&mut run);
        w.bytes(b"one");
        w.bytes(b"");
        w.u32(9);
        let bodies: Vec<_> = Bodies::of(&run).collect();
        assert_eq!(bodies, [Ok(&b"one"[..]), Ok(&b""[..]), Err(Malformed)]);
    }
}
