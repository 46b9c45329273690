//! Trefoil: the server and its command line.

fn main() {}
