//! The bytes of a node's log.
