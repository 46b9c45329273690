//! A batch in memory as whole blocks, which start where the processor's pages do: what a direct
//! write asks for, and what a write through the page cache needs lest the system has to read the
//! rest of a page first. In front of the batch stands what the first block holds already.

/// What is written at once: the size of a page and of a file system's block.
pub const BLOCK_BYTES: usize = 4096;
/// More memory than this is not kept for the next batch.
const BYTES_KEPT: usize = 4 << 20;

/// The blocks of a batch.
#[derive(Default)]
pub struct Blocks {
    bytes: Vec<u8>,
    /// Where in `bytes` the first block starts.
    start: usize,
}

impl Blocks {
    /// Blocks in front of which stands the beginning of a block that is on disk already.
    pub fn new(tail: &[u8]) -> Blocks {
        let mut blocks = Blocks::default();
        blocks.begin_with(tail);
        blocks
    }

    /// So many zeros, in whole blocks.
    pub fn zeros(bytes: usize) -> Blocks {
        let mut blocks = Blocks::default();
        blocks.reserve(bytes);
        blocks.bytes.resize(blocks.start + bytes.next_multiple_of(BLOCK_BYTES), 0);
        blocks
    }

    /// Memory for so many bytes behind what is held, in whole blocks that start where pages do:
    /// while no more are added, nothing moves.
    pub fn reserve(&mut self, bytes: usize) {
        let held = self.as_slice().len();
        let blocks = (held + bytes).next_multiple_of(BLOCK_BYTES);
        let is_aligned = self.as_slice().as_ptr().addr().is_multiple_of(BLOCK_BYTES);
        if is_aligned && self.bytes.capacity() >= self.start + blocks {
            return;
        }
        let memory = self.bytes.capacity().max(blocks);
        let mut larger: Vec<u8> = Vec::with_capacity(BLOCK_BYTES + memory);
        let start = larger.as_ptr().addr().wrapping_neg() % BLOCK_BYTES;
        larger.resize(start, 0);
        larger.extend_from_slice(self.as_slice());
        *self = Blocks { bytes: larger, start };
    }

    /// Gives the memory away for a batch to be gathered at its end, which must not be written
    /// before it is back.
    pub fn lend(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.bytes)
    }

    /// Takes the memory back, with a batch behind what was held. If it has grown meanwhile, it
    /// starts where it happens to: for direct writes, [`Blocks::reserve`] is to follow.
    pub fn take_back(&mut self, bytes: Vec<u8>) {
        self.bytes = bytes;
    }

    /// Where the first block starts in the memory that is lent.
    pub fn start(&self) -> usize {
        self.start
    }

    /// What the last block holds, if that is no whole one.
    pub fn tail(&self) -> &[u8] {
        let held = self.as_slice();
        held.get(held.len() - held.len() % BLOCK_BYTES..).unwrap_or(&[])
    }

    /// Holds this and nothing else, as [`Blocks::new`] does.
    pub fn begin_with(&mut self, tail: &[u8]) {
        self.bytes.truncate(self.start);
        self.reserve(tail.len().max(1));
        self.bytes.extend_from_slice(tail);
    }

    /// What is held; from a block's start on.
    pub fn as_slice(&self) -> &[u8] {
        self.bytes.get(self.start..).unwrap_or(&[])
    }

    /// Fills the last block with zeros, calls `write` with whole blocks, and keeps what the last
    /// one holds of the batch for the next write.
    pub fn write<R>(&mut self, write: impl FnOnce(&[u8]) -> R) -> R {
        let held = self.as_slice().len();
        self.bytes.resize(self.start + held.next_multiple_of(BLOCK_BYTES), 0);
        let result = write(self.as_slice());
        let tail = held % BLOCK_BYTES;
        let from = self.start + held - tail;
        if self.bytes.capacity() > BYTES_KEPT {
            *self = Blocks::new(self.bytes.get(from..from + tail).unwrap_or(&[]));
        } else {
            self.bytes.copy_within(from..from + tail, self.start);
            self.bytes.truncate(self.start + tail);
        }
        result
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn blocks_are_aligned_whole_and_go_on_with_the_last_one() {
        let mut blocks = Blocks::new(&[7; 100]);
        let mut expected = vec![7u8; 100];
        for (number, bytes) in [1usize, 4000, 512, 9000, 8192, 6 << 20, 3].into_iter().enumerate() {
            let mut lent = blocks.lend();
            lent.extend(std::iter::repeat_n(number as u8, bytes));
            blocks.take_back(lent);
            blocks.reserve(0);
            let before = blocks.as_slice().as_ptr();
            expected.extend(std::iter::repeat_n(number as u8, bytes));
            let held = expected.len();
            assert_eq!(blocks.tail(), expected.chunks_exact(BLOCK_BYTES).remainder());
            blocks.write(|whole| {
                assert_eq!(whole.as_ptr(), before, "nothing has moved");
                assert_eq!(whole.as_ptr().addr() % BLOCK_BYTES, 0);
                assert_eq!(whole.len(), held.next_multiple_of(BLOCK_BYTES));
                assert_eq!(whole[..held], expected);
                assert!(whole[held..].iter().all(|byte| *byte == 0));
            });
            expected.drain(..held - held % BLOCK_BYTES);
            assert_eq!(blocks.as_slice(), expected);
            assert!(blocks.bytes.capacity() <= BYTES_KEPT);
        }
        blocks.begin_with(&[5; 3]);
        assert_eq!(blocks.as_slice(), [5; 3]);
        assert_eq!(Blocks::zeros(5000).as_slice(), [0; 8192]);
    }
}
