//! Acknowledgement: when a write is acknowledged (A), committed (C) and visible (min(A, C)), and
//! what its writer is told where the acks do not come.
//!
//! `need.rs` says what a writer waits for. `copies.rs` counts: it commits, shows and lets go what
//! has enough of them. `held.rs` keeps the replies that wait, `evaluated.rs` those of
//! this turn's reads, `waiting.rs` those of earlier ones. `outcome.rs` is where a held write is
//! answered, whatever the answer is (acknowledged, or open), and where an open one is told later;
//! `asked.rs` is for a write whose entry nobody could name.
//! `older.rs` is for readers where a write does not become visible. `degrade.rs` lowers the acks
//! where they are missing and the keyspace wants that.

pub(super) mod asked;
pub mod copies;
pub mod degrade;
pub mod evaluated;
pub mod held;
pub mod need;
pub(super) mod older;
pub mod outcome;
mod waiting;
