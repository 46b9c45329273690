//! Trefoil: the server and its command line.

mod config;

fn main() {}
