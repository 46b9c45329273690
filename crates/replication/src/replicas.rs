//! Which nodes hold a key.
