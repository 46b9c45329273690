//! Trefoil: the server and its command line.

mod cli;
mod clients;
mod config;
mod disk;
mod event_loop;
mod metrics;
mod operator_log;
mod peers;
mod resp;
mod server;
mod session;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::run()
}
