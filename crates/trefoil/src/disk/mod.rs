//! The node's log on disk: segment files that are prepared in advance and used again, a thread that
//! waits for the disk, one data directory for one process.
//!
//! **Who writes.** Records that count when they are synced (`fsync` keyspaces) gather while a sync
//! is in flight, group commit without a timer, and are then one direct, synchronous write. The
//! event loop makes it itself where all who ask wait for the disk, the batch is small and the disk
//! quick (`event_loop/stand_in.rs` tells how the loop goes on when it is not); else the log thread
//! does. Records that count when they are written (`interval-1s`) are written to the page cache by
//! the event loop itself, at the turn's end, and synced by the thread within a second. A batch
//! has one place in the log, so the two never write at the same time: while a direct write is in
//! flight everything gathers, and while something in the page cache is not synced no write is
//! direct, but goes through the page cache as well and is synced behind it.
//!
//! **What fails.** The first write or sync that fails ends the process's trust in its log (`fsync`
//! may report an error once and then succeed although data is gone): nothing is tried again, the
//! process stops. `trust.rs` is what the next start makes of that, of a machine that lost its
//! power, and of damage.
//!
//! **A start** reads the log twice, a chunk at a time (`segments.rs`): whatever the log's length, a
//! megabyte of it is in memory, or the longest batch.
//!
//! Not here: a start that reads less than everything. Also what is behind the log's end is looked
//! at, for it may prove that something is missing in front of it.

mod blocks;
#[cfg(test)]
mod damage_tests;
mod directory;
mod error;
mod log;
mod log_thread;
mod pace;
mod segment;
mod segments;
mod spares;
#[cfg(test)]
pub mod stalled;
#[cfg(test)]
mod tests;
mod trust;

pub use directory::Directory;
pub use error::DiskError;
pub use log::{Log, LogOptions};
pub use log_thread::{DiskHand, Report};

/// Bytes of a segment from which on the next batch starts a new one.
pub const SEGMENT_BYTES_MAX: u64 = 64 << 20;
