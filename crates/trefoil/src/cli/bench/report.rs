//! What came out, for people and for programs.

use super::generator::{Broken, Outcome};
use super::options::{Limit, Plan};
use super::processes::Used;
use crate::cli::status::table;
use serde::Serialize;
use std::fmt::Write as _;
use std::time::Duration;

/// Of a hundred scheduled requests so many may be late at the end of a rate that was held.
const LATE_PERCENT_MAX: u64 = 1;
/// A generator that uses so much of its processor can do no more.
const GENERATOR_BUSY_PERCENT: f64 = 90.0;

/// The figures, and what they were taken with. Its fields are those of `--json`.
#[derive(Serialize, Debug)]
pub struct Report {
    operations: u64,
    seconds: f64,
    ops_per_second: f64,
    p50_us: f64,
    p90_us: f64,
    p99_us: f64,
    p999_us: f64,
    max_us: f64,
    mean_us: f64,
    errors: u64,
    first_error: Option<String>,
    /// They were not opened again; the program fails.
    broken_connections: usize,
    /// Reads that found nothing; they count as operations.
    misses: u64,
    /// None without `--pid`, as the memory.
    server_cpu_us_per_op: Option<f64>,
    client_cpu_us_per_op: f64,
    /// Of all processors, what neither the servers nor the generator used.
    other_cpu_percent: Option<f64>,
    rss_bytes_before: Option<u64>,
    rss_bytes_after: Option<u64>,
    /// Of an open loop: whether the schedule was kept.
    rate_held: Option<bool>,
    /// Requests that were due and not yet sent when the schedule ended.
    requests_late: u64,
    /// Requests that were not sent even a second later; the latencies have their waiting.
    requests_not_sent: u64,
    /// Why the rate was not held.
    rate_limit: Option<&'static str>,
    #[serde(flatten)]
    settings: Settings,
}

/// What the figures were taken with.
#[derive(Serialize, Debug)]
struct Settings {
    addr: String,
    command: String,
    then: String,
    then_each: bool,
    clients: usize,
    pipeline: usize,
    keys: u64,
    key_bytes: usize,
    value_bytes: usize,
    prefix: String,
    distribution: String,
    #[serde(rename = "loop")]
    kind: &'static str,
    rate: Option<u64>,
    requests: Option<u64>,
    limit_seconds: Option<f64>,
    warm_up_seconds: f64,
    fill: bool,
    fill_only: bool,
    seed: u64,
    trefoil_version: &'static str,
}

impl Report {
    /// Of an outcome, and what it has cost.
    pub fn new(
        plan: &Plan,
        outcome: &Outcome,
        used: &Used,
        [rss_bytes_before, rss_bytes_after]: [Option<u64>; 2],
        broken: &Broken,
    ) -> Report {
        let tally = &outcome.tally;
        let (operations, errors) = (tally.operations(), tally.errors);
        let seconds = outcome.elapsed.as_secs_f64();
        let quantile = |quantile| us(tally.latencies.value_at_quantile(quantile) as f64);
        let per_operation =
            |time: Duration| time.as_secs_f64() * 1e6 / (operations + errors).max(1) as f64;
        let kept = outcome.kept;
        let held = kept
            .map(|kept| kept.not_sent == 0 && kept.late * 100 <= kept.scheduled * LATE_PERCENT_MAX);
        let busy_percent = used.own.as_secs_f64() * 100.0 / seconds.max(1e-9);
        let rate_limit =
            (held == Some(false)).then_some(if busy_percent > GENERATOR_BUSY_PERCENT {
                "the generator itself can do no more"
            } else {
                "all connections were waiting for replies"
            });
        Report {
            operations,
            seconds,
            ops_per_second: operations as f64 / seconds.max(1e-9),
            p50_us: quantile(0.5),
            p90_us: quantile(0.9),
            p99_us: quantile(0.99),
            p999_us: quantile(0.999),
            max_us: us(tally.latencies.max() as f64),
            mean_us: us(tally.latencies.mean()),
            errors,
            first_error: tally.first_error.clone(),
            broken_connections: broken.count,
            misses: tally.misses,
            server_cpu_us_per_op: used.servers.map(per_operation),
            client_cpu_us_per_op: per_operation(used.own),
            other_cpu_percent: used.other_percent,
            rss_bytes_before,
            rss_bytes_after,
            rate_held: held,
            requests_late: kept.map_or(0, |kept| kept.late),
            requests_not_sent: kept.map_or(0, |kept| kept.not_sent),
            rate_limit,
            settings: Settings::new(plan),
        }
    }

    /// One JSON object on a line.
    pub fn json(&self) -> serde_json::Result<String> {
        serde_json::to_string(self).map(|json| json + "\n")
    }

    /// A table, and sentences about what is behind it.
    pub fn text(&self) -> String {
        let mut rows = table(&["", ""]);
        let mut row = |name: &str, value: String| {
            rows.add_row([name.to_owned(), value]);
        };
        row("operations", self.operations.to_string());
        row("seconds", format!("{:.2}", self.seconds));
        row("op/s", format!("{:.0}", self.ops_per_second));
        for (name, latency_us) in [
            ("p50 us", self.p50_us),
            ("p90 us", self.p90_us),
            ("p99 us", self.p99_us),
            ("p99.9 us", self.p999_us),
            ("max us", self.max_us),
            ("mean us", self.mean_us),
        ] {
            row(name, format!("{latency_us:.1}"));
        }
        if let Some(cpu_us) = self.server_cpu_us_per_op {
            row("server CPU us/op", format!("{cpu_us:.2}"));
        }
        row("generator CPU us/op", format!("{:.2}", self.client_cpu_us_per_op));
        if let Some(percent) = self.other_cpu_percent {
            row("other CPU %", format!("{percent:.1}"));
        }
        if let (Some(before), Some(after)) = (self.rss_bytes_before, self.rss_bytes_after) {
            row("server memory MiB", format!("{} -> {}", mebibytes(before), mebibytes(after)));
        }
        row("errors", self.errors.to_string());
        let mut text = format!("{}\n\n", rows.trim_fmt());
        for note in self.notes() {
            let _ = writeln!(text, "{note}");
        }
        text
    }

    fn notes(&self) -> Vec<String> {
        let settings = &self.settings;
        let then = match (settings.then.is_empty(), settings.then_each) {
            (true, _) => "",
            (false, false) => ", then ",
            (false, true) => ", behind each ",
        };
        let mut notes = vec![format!(
            "{}{then}{}: {} connections to {}, pipeline {}, {} {} keys, values of {} bytes",
            settings.command,
            settings.then,
            settings.clients,
            settings.addr,
            settings.pipeline,
            settings.keys,
            settings.distribution,
            settings.value_bytes
        )];
        notes.push(match settings.rate {
            None => String::from(
                "closed loop: latencies are the service's, from sending to the reply; what would \
                 have waited behind a slow one is not in them (--rate counts that)",
            ),
            Some(rate) => format!(
                "open loop of {rate} requests a second: latencies count from the moment at which a \
                 request was due"
            ),
        });
        if let (Some(rate), Some(why)) = (settings.rate, self.rate_limit) {
            notes.push(format!(
                "THE RATE WAS NOT HELD: {:.0} of {rate} operations a second; {} requests were late \
                 at the end, {} never sent: {why}",
                self.ops_per_second, self.requests_late, self.requests_not_sent
            ));
        }
        if self.misses > 0 {
            let misses = self.misses;
            notes.push(format!("{misses} reads found no value (--fill writes every key first)"));
        }
        if let Some(error) = &self.first_error {
            notes.push(format!("the first of {} errors: {error}", self.errors));
        }
        notes
    }
}

impl Settings {
    fn new(plan: &Plan) -> Settings {
        let names: Vec<&str> = plan.servers.iter().map(|server| server.name.as_str()).collect();
        Settings {
            addr: names.join(","),
            command: plan.command.to_string(),
            then: plan.then.join(" "),
            then_each: plan.then_each,
            clients: plan.clients,
            pipeline: plan.pipeline,
            keys: plan.keys,
            key_bytes: plan.key_bytes,
            value_bytes: plan.value_bytes,
            prefix: plan.prefixes.join(","),
            distribution: plan.distribution.to_string(),
            kind: if plan.rate.is_some() { "open" } else { "closed" },
            rate: plan.rate,
            requests: match plan.limit {
                Limit::Requests(requests) => Some(requests),
                Limit::Duration(_) => None,
            },
            limit_seconds: match plan.limit {
                Limit::Requests(_) => None,
                Limit::Duration(duration) => Some(duration.as_secs_f64()),
            },
            warm_up_seconds: plan.warm_up.as_secs_f64(),
            fill: plan.fill,
            fill_only: plan.fill_only,
            seed: plan.seed,
            trefoil_version: env!("CARGO_PKG_VERSION"),
        }
    }
}

/// Microseconds of nanoseconds.
fn us(nanoseconds: f64) -> f64 {
    nanoseconds / 1000.0
}

fn mebibytes(bytes: u64) -> String {
    format!("{:.1}", bytes as f64 / 1_048_576.0)
}
