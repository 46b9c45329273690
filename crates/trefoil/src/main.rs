//! Trefoil: the server and its command line.

mod clients;
mod disk;
mod event_loop;
mod operator_log;
mod peers;
mod resp;
mod server;
mod session;

fn main() {}
