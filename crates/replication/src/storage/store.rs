//! The table of a partition's records.
