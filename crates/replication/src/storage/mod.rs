//! What is kept, and how it looks in bytes.

pub mod log;
pub mod record;
pub mod store;
