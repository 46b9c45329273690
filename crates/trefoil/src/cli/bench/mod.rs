//! `trefoil bench`: how fast a server of the Redis protocol is, and what an operation costs it.
//!
//! One thread with one read and one write per ready connection, so that the generator is cheaper
//! than what it measures. `options.rs` is the command line; `keys.rs` draws the keys and
//! `requests.rs` the bytes; `connection.rs` is a client with a batch of requests under way, whose
//! replies `replies.rs` counts and `tally.rs` judges; `generator.rs` is the loop and `schedule.rs`
//! the arithmetic of its open form; `processes.rs` asks the operating system what the servers
//! have used; `progress.rs` shows how far it is, and `report.rs` what came out.
//!
//! Two loops. Closed: each connection sends its next batch when the last is answered; the latency
//! is then the service's alone, for a server that stands still is asked nothing meanwhile. Open
//! (`--rate`): requests are due on a fixed schedule, whatever the server does, and each one's
//! latency counts from the moment at which it was due (no coordinated omission: Gil Tene, "How
//! NOT to Measure Latency").
//!
//! What it leaves out: more than one thread (start it several times), RESP3, passwords and TLS,
//! transactions, following `-MOVED`; a broken connection is reported, not opened again.

mod connection;
mod generator;
mod keys;
mod options;
mod processes;
mod progress;
mod replies;
mod report;
mod requests;
mod schedule;
mod tally;
#[cfg(test)]
mod tests;
mod timer;

pub use options::Options;

use crate::cli::say;
use generator::{Generator, Load, Outcome};
use miette::{IntoDiagnostic, miette};
use options::{Limit, Plan};
use processes::Servers;
use progress::Progress;
use report::Report;
use requests::Requests;
use std::process::ExitCode;

/// Bytes of requests that one connection of the fill has under way.
const FILL_BATCH_BYTES: usize = 128 << 10;
/// Requests that one connection of the fill has under way.
const FILL_PIPELINE_MAX: usize = 64;

/// Measures, and prints what came out; fails where connections broke or nothing succeeded.
pub fn run(options: &Options) -> miette::Result<ExitCode> {
    let plan = Plan::new(options)?;
    let servers = Servers::new(&plan.pids)?;
    let mut generator = Generator::connect(&plan.servers, plan.clients)?;
    let rss_before = servers.rss_bytes()?;
    let filled = if plan.fill { Some(fill(&plan, &servers, &mut generator)?) } else { None };
    let (outcome, used) = match filled {
        Some(filled) if plan.fill_only => filled,
        _ => measure(&plan, &servers, &mut generator)?,
    };
    let rss_after = servers.rss_bytes()?;
    let report = Report::new(&plan, &outcome, &used, [rss_before, rss_after], &generator.broken);
    say(&if plan.json { report.json().into_diagnostic()? } else { report.text() });
    match generator.broken.failure() {
        None => Ok(ExitCode::SUCCESS),
        Some(failure) => Err(failure),
    }
}

type Measured = (Outcome, processes::Used);

/// Writes every key once.
fn fill(plan: &Plan, servers: &Servers, generator: &mut Generator) -> miette::Result<Measured> {
    let mut requests = Requests::fill(plan);
    let fitting = FILL_BATCH_BYTES / plan.request_bytes_max().max(1);
    let load = Load {
        pipeline: fitting.clamp(1, FILL_PIPELINE_MAX),
        limit: Limit::Requests(plan.keys),
        rate: None,
    };
    let measured = phase("fill", &mut requests, &load, servers, generator)?;
    let tally = &measured.0.tally;
    if let Some(error) = &tally.first_error {
        let (failed, keys) = (tally.errors, plan.keys);
        return Err(miette!("the fill: {failed} of {keys} keys were not written: {error}"));
    }
    Ok(measured)
}

/// The warm-up, which counts for nothing, and the measurement.
fn measure(plan: &Plan, servers: &Servers, generator: &mut Generator) -> miette::Result<Measured> {
    let mut requests = Requests::new(plan);
    let load = |limit| Load { pipeline: plan.pipeline, limit, rate: plan.rate };
    if !plan.warm_up.is_zero() {
        let warm_up = load(Limit::Duration(plan.warm_up));
        phase("warm-up", &mut requests, &warm_up, servers, generator)?;
    }
    phase("measurement", &mut requests, &load(plan.limit), servers, generator)
}

fn phase(
    name: &str,
    requests: &mut Requests,
    load: &Load,
    servers: &Servers,
    generator: &mut Generator,
) -> miette::Result<Measured> {
    if let Some(failure) = generator.broken.failure() {
        return Err(failure);
    }
    let mut progress = Progress::new(name, load);
    let before = servers.snapshot()?;
    let outcome = generator.run(requests, load, &mut progress)?;
    let used = servers.snapshot()?.since(&before);
    progress.end();
    if let (0, Some(error)) = (outcome.tally.operations(), &outcome.tally.first_error) {
        return Err(miette!("the server answers with errors from the start: {error}"));
    }
    Ok((outcome, used))
}
