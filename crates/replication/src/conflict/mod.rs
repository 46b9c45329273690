//! What becomes of two writes of one key, neither of which had seen the other.

pub mod last_write_wins;
