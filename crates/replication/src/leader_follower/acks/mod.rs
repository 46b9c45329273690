//! Acknowledgement: when a write is acknowledged (A), committed (C) and visible (min(A, C)), and
//! what its writer is told where the acks do not come.
//!
//! `copies.rs` counts: it commits, shows and lets go what has enough of them. `held.rs` keeps the
//! replies that wait. `outcome.rs` is where a held write is answered, whatever the answer is:
//! acknowledged, or open.

pub mod copies;
pub mod held;
pub mod outcome;
