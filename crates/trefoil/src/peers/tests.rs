//! Tests of the connections between nodes.
