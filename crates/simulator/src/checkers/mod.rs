//! The checkers: pure functions over what clients saw ([`crate::history`]) and what the harness
//! observed ([`crate::observe`]). Each returns the first violation that it finds, in words.
//!
//! What is left out: session guarantees over several keys, and conflicts told to clients; the
//! features that they belong to do not exist yet.

pub mod acks;
pub mod bounds;
pub mod counters;
pub mod fading;
#[cfg(test)]
mod fixtures;
pub mod follower_reads;
pub mod leaders;
pub mod leadership;
pub mod lost_write_report;
pub mod lost_writes;
pub mod outcomes;
pub mod possible_loss;
pub mod quorum_reads;
pub mod superseded;
pub mod surveys;
pub mod surviving_reads;
pub mod unheard;
pub mod visible_copies;
pub mod waits;
pub mod wgl;
pub mod zones;

/// A violation, told so that the trace can be searched for it.
pub type Verdict = Result<(), String>;
