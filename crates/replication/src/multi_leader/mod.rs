//! The multi_leader model.

pub mod message;
