//! The command line: what can be asked for, and who does it.

mod addresses;
mod bench;
mod check;
mod dev;
mod explain;
mod rehearse;
mod serve;
mod status;

use clap::{Parser, Subcommand};
use std::io::{IsTerminal, Write};
use std::process::ExitCode;

/// One Redis-compatible database with three replication models.
#[derive(Parser)]
#[command(name = "trefoil", version, arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Start a whole cluster on this machine, to try things out.
    Dev(dev::Options),
    /// Run one node of a cluster.
    Serve(serve::Options),
    /// Play a whole cluster in one thread, from one number, and check it.
    #[command(disable_help_flag = true)]
    Sim {
        /// A seed, `--seeds A..B`, `--model M`, `--trace`, `--help`.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Measure how fast a running server is, and what an operation costs it.
    Bench(bench::Options),
    /// Hold a running cluster to what it promises: drive clients, judge what they saw.
    Check(check::Options),
    /// Show a cluster as one of its nodes sees it.
    Status(status::Options),
    /// Say how many failovers another election timeout would have caused in the last day.
    Rehearse(rehearse::Options),
    /// Say what each keyspace of a configuration file guarantees.
    Explain(explain::Options),
}

/// Does what the arguments ask for.
pub fn run() -> ExitCode {
    let arguments = Arguments::parse();
    show_errors_plainly();
    let result = match arguments.task {
        Task::Dev(options) => dev::run(&options).map(|()| ExitCode::SUCCESS),
        Task::Serve(options) => serve::run(&options),
        Task::Sim { arguments } => {
            let code = simulator::cli::main(arguments);
            Ok(u8::try_from(code).map_or(ExitCode::FAILURE, ExitCode::from))
        }
        Task::Bench(options) => bench::run(&options),
        Task::Check(options) => check::run(&options),
        Task::Status(options) => status::run(&options).map(|()| ExitCode::SUCCESS),
        Task::Rehearse(options) => rehearse::run(&options).map(|()| ExitCode::SUCCESS),
        Task::Explain(options) => explain::run(&options).map(|()| ExitCode::SUCCESS),
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            eprintln!("{error:?}");
            ExitCode::FAILURE
        }
    }
}

/// Prints a text; whoever has stopped reading, as `head` does, does not want the rest.
fn say(text: &str) {
    let _ = std::io::stdout().lock().write_all(text.as_bytes());
}

/// Lines are not wrapped, so that names and paths in errors can be searched for and copied.
fn show_errors_plainly() {
    let colours = std::io::stderr().is_terminal();
    // It can only fail if it was set before, and then the errors are shown all the same.
    let _ = miette::set_hook(Box::new(move |_| {
        let options = miette::MietteHandlerOpts::new().wrap_lines(false).terminal_links(false);
        Box::new(options.color(colours).build())
    }));
}
