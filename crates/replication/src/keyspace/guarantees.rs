//! What follows from a keyspace's options.
