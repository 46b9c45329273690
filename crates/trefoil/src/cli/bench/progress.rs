//! How far a load is: a bar on a terminal, a line each second elsewhere; on standard error.

use super::generator::Load;
use super::options::Limit;
use super::tally::Tally;
use indicatif::{ProgressBar, ProgressStyle};
use std::io::IsTerminal;

const NS_PER_SECOND: u64 = 1_000_000_000;
/// Between two looks of a terminal's bar.
const BAR_EVERY_NS: u64 = NS_PER_SECOND / 5;

/// Shows how far a load is.
pub struct Progress {
    name: String,
    limit: Limit,
    bar: Option<ProgressBar>,
    next_ns: u64,
    last_ns: u64,
    last_operations: u64,
}

impl Progress {
    /// Of a load that begins now.
    pub fn new(name: &str, load: &Load) -> Progress {
        let bar = std::io::stderr().is_terminal().then(|| bar(name, load.limit));
        let first_ns = if bar.is_some() { BAR_EVERY_NS } else { NS_PER_SECOND };
        let name = name.to_owned();
        Progress { name, limit: load.limit, bar, next_ns: first_ns, last_ns: 0, last_operations: 0 }
    }

    /// Shows it, if it is time to; tells when it wants to be asked again.
    pub fn show(&mut self, now_ns: u64, tally: &Tally) -> u64 {
        if now_ns < self.next_ns {
            return self.next_ns;
        }
        let operations = tally.operations();
        let done = operations + tally.errors;
        let since_ns = (now_ns - self.last_ns).max(1);
        let new = operations - self.last_operations;
        let rate = u128::from(new) * u128::from(NS_PER_SECOND) / u128::from(since_ns);
        let errors = tally.errors;
        match &self.bar {
            Some(bar) => {
                bar.set_position(match self.limit {
                    Limit::Requests(_) => done,
                    Limit::Duration(_) => now_ns / 1_000_000,
                });
                bar.set_message(format!("{rate} op/s, {errors} errors"));
                self.next_ns = now_ns + BAR_EVERY_NS;
            }
            None => {
                let seconds = now_ns / NS_PER_SECOND;
                let part = match self.limit {
                    Limit::Requests(total) => format!("{done} of {total} requests"),
                    Limit::Duration(total) => format!("{seconds} of {} s", total.as_secs_f64()),
                };
                eprintln!("{}: {part}, {rate} op/s, {errors} errors", self.name);
                self.next_ns = (seconds + 1) * NS_PER_SECOND;
            }
        }
        self.last_ns = now_ns;
        self.last_operations = operations;
        self.next_ns
    }

    /// The load is over.
    pub fn end(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

fn bar(name: &str, limit: Limit) -> ProgressBar {
    let bar = ProgressBar::new(match limit {
        Limit::Requests(total) => total,
        Limit::Duration(duration) => u64::try_from(duration.as_millis()).unwrap_or(u64::MAX),
    });
    // The template is known to be right; without it there is a plainer bar.
    if let Ok(style) = ProgressStyle::with_template("{prefix:11} [{bar:30}] {percent:>3} % {msg}") {
        bar.set_style(style.progress_chars("=> "));
    }
    bar.set_prefix(name.to_owned());
    bar
}
