//! The leaderless model.

pub mod message;
