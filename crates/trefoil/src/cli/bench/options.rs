//! What `bench` is told, and the plan that is made of it: whatever is in a [`Plan`] can be done.

use super::keys::Distribution;
use crate::cli::addresses;
use crate::config;
use miette::{IntoDiagnostic, miette};
use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;
use std::time::Duration;

/// Bytes of requests under way on all connections.
const UNDER_WAY_BYTES_MAX: usize = 1 << 30;
/// Bytes of a value: what Redis takes at the most.
const VALUE_BYTES_MAX: u64 = 512 << 20;
/// What a request has beside its key and value; bytes, generously.
const FRAMING_BYTES: usize = 64;

/// What `bench` is told.
#[derive(clap::Args)]
pub struct Options {
    /// The servers; connections are dealt round robin.
    #[arg(long, value_name = "HOST:PORT", value_delimiter = ',', default_value = "127.0.0.1:7001")]
    addr: Vec<String>,
    /// set, get, incr, mixed:80 (so many percent GET, the rest SET) or ping.
    #[arg(long, default_value = "set")]
    command: Command,
    /// How many connections.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=60_000))]
    clients: u32,
    /// Requests that a connection sends at once, before it waits for their replies.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pipeline: u32,
    /// How many keys there are.
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1..))]
    keys: u64,
    /// Digits of a key, behind the prefix.
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=1024))]
    key_bytes: u16,
    /// Bytes of a value.
    #[arg(
        long,
        default_value_t = 100,
        value_parser = clap::value_parser!(u64).range(0..=VALUE_BYTES_MAX)
    )]
    value_bytes: u64,
    /// Stands before each key: a keyspace's prefix. Of several, each key has one.
    #[arg(long, value_delimiter = ',', default_value = "", value_name = "TEXT,..")]
    prefix: Vec<String>,
    /// uniform, zipfian, zipfian:THETA (default 0.99; key 0 is the most popular) or sequential.
    #[arg(long, default_value = "uniform")]
    distribution: Distribution,
    /// End after so many requests.
    #[arg(long, conflicts_with = "seconds", value_parser = clap::value_parser!(u64).range(1..))]
    requests: Option<u64>,
    /// End after so long. [default: 10]
    #[arg(long, value_parser = seconds)]
    seconds: Option<Duration>,
    /// The same load before, which counts for nothing.
    #[arg(long, default_value = "1", value_parser = seconds)]
    warm_up_seconds: Duration,
    /// Open loop: so many requests a second in all, on a fixed schedule; the latency counts from
    /// the moment at which a request was due.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=100_000_000))]
    rate: Option<u64>,
    /// Another command behind each batch of requests, whose reply is part of the operation, such as
    /// "WAIT 1 1000"; a WAIT that counts fewer than it asked for is an error.
    #[arg(long, value_name = "COMMAND")]
    then: Option<String>,
    /// The other command stands behind each request, not only behind each batch.
    #[arg(long, requires = "then")]
    then_each: bool,
    /// First write every key once; not part of the figures (the memory before is that before it).
    #[arg(long)]
    fill: bool,
    /// Only write every key once; the figures are those of the writing.
    #[arg(long)]
    fill_only: bool,
    /// The server's processes on this machine, whose CPU time and memory are told.
    #[arg(long, value_delimiter = ',')]
    pid: Vec<u32>,
    /// The generator's threads: 1, in this version.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=1))]
    threads: u8,
    /// The same seed draws the same keys. [default: another each time]
    #[arg(long)]
    seed: Option<u64>,
    /// One JSON object on standard output.
    #[arg(long)]
    json: bool,
}

/// What each request does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Command {
    /// Writes a value.
    Set,
    /// Reads a value.
    Get,
    /// Counts up.
    Incr,
    /// Reads in so many of a hundred cases, and writes in the others.
    Mixed(u8),
    /// Touches no key.
    Ping,
}

/// When a load ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Limit {
    /// After so many requests.
    Requests(u64),
    /// After so long.
    Duration(Duration),
}

/// A server as it was named.
#[derive(Clone, Debug)]
pub struct Server {
    /// HOST:PORT
    pub name: String,
    /// Where that is: a name may have several addresses.
    pub addresses: Vec<SocketAddr>,
}

/// What is to be done, resolved and checked.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Where connections go, round robin.
    pub servers: Vec<Server>,
    /// What each request does.
    pub command: Command,
    /// Connections.
    pub clients: usize,
    /// Requests of a batch.
    pub pipeline: usize,
    /// Number of keys.
    pub keys: u64,
    /// Digits of a key.
    pub key_bytes: usize,
    /// Bytes of a value.
    pub value_bytes: usize,
    /// Before the keys, dealt to them by their numbers; at least one.
    pub prefixes: Vec<String>,
    /// How keys are drawn.
    pub distribution: Distribution,
    /// When the measurement ends.
    pub limit: Limit,
    /// How long the warm-up is.
    pub warm_up: Duration,
    /// Requests a second of the open loop; none: closed.
    pub rate: Option<u64>,
    /// Words of the command behind each batch; none if empty.
    pub then: Vec<String>,
    /// Whether it is behind each request.
    pub then_each: bool,
    /// Whether every key is first written.
    pub fill: bool,
    /// Whether that is all.
    pub fill_only: bool,
    /// The servers' processes.
    pub pids: Vec<u32>,
    /// Where chance begins.
    pub seed: u64,
    /// For programs.
    pub json: bool,
}

impl Plan {
    /// Checks what belongs together, and resolves names.
    pub fn new(options: &Options) -> miette::Result<Plan> {
        let duration = options.seconds.unwrap_or(Duration::from_secs(10));
        if options.requests.is_none() && duration.is_zero() {
            return Err(miette!("--seconds: 0 seconds measure nothing"));
        }
        let seed = match options.seed {
            Some(seed) => seed,
            None => config::random_u64().into_diagnostic()?,
        };
        let then = options.then.as_deref();
        if then.is_some_and(|then| then.split_whitespace().next().is_none()) {
            return Err(miette!("--then: no command is named; leave the option out"));
        }
        let then = then.unwrap_or("");
        let plan = Plan {
            servers: resolve(&options.addr)?,
            command: options.command,
            clients: options.clients as usize,
            pipeline: options.pipeline as usize,
            keys: options.keys,
            key_bytes: usize::from(options.key_bytes),
            value_bytes: options.value_bytes as usize,
            prefixes: options.prefix.clone(),
            distribution: options.distribution,
            limit: options.requests.map_or(Limit::Duration(duration), Limit::Requests),
            warm_up: options.warm_up_seconds,
            rate: options.rate,
            then: then.split_whitespace().map(String::from).collect(),
            then_each: options.then_each,
            fill: options.fill || options.fill_only,
            fill_only: options.fill_only,
            pids: options.pid.clone(),
            seed,
            json: options.json,
        };
        plan.check()?;
        Ok(plan)
    }

    /// Bytes of the longest request.
    pub fn request_bytes_max(&self) -> usize {
        let prefix_bytes = self.prefixes.iter().map(String::len).max().unwrap_or(0);
        FRAMING_BYTES + prefix_bytes + self.key_bytes + self.value_bytes
    }

    fn check(&self) -> miette::Result<()> {
        let digits = (self.keys - 1).checked_ilog10().map_or(1, |digits| digits as usize + 1);
        if digits > self.key_bytes {
            let (keys, bytes) = (self.keys, self.key_bytes);
            return Err(miette!("--key-bytes: {keys} keys need {digits} digits, not {bytes}"));
        }
        let under_way = self.request_bytes_max().saturating_mul(self.clients * self.pipeline);
        if under_way > UNDER_WAY_BYTES_MAX {
            return Err(miette!(
                "{} clients with {} requests of up to {} bytes each are {under_way} bytes under \
                 way; {UNDER_WAY_BYTES_MAX} is the most",
                self.clients,
                self.pipeline,
                self.request_bytes_max()
            ));
        }
        if self.fill && self.command == Command::Ping {
            return Err(miette!("--fill: PING has no keys"));
        }
        Ok(())
    }
}

impl FromStr for Command {
    type Err = String;

    fn from_str(text: &str) -> Result<Command, String> {
        match text {
            "set" => Ok(Command::Set),
            "get" => Ok(Command::Get),
            "incr" => Ok(Command::Incr),
            "ping" => Ok(Command::Ping),
            _ => {
                let percent = text.strip_prefix("mixed:").and_then(|text| text.parse().ok());
                let percent = percent.filter(|percent| *percent <= 100);
                percent
                    .map(Command::Mixed)
                    .ok_or_else(|| String::from("say set, get, incr, mixed:0 to mixed:100 or ping"))
            }
        }
    }
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Command::Set => f.write_str("set"),
            Command::Get => f.write_str("get"),
            Command::Incr => f.write_str("incr"),
            Command::Mixed(percent) => write!(f, "mixed:{percent}"),
            Command::Ping => f.write_str("ping"),
        }
    }
}

/// YCSB's.
const THETA_DEFAULT: f64 = 0.99;

impl FromStr for Distribution {
    type Err = String;

    fn from_str(text: &str) -> Result<Distribution, String> {
        match text {
            "uniform" => Ok(Distribution::Uniform),
            "zipfian" => Ok(Distribution::Zipfian(THETA_DEFAULT)),
            "sequential" => Ok(Distribution::Sequential),
            _ => {
                let theta = text.strip_prefix("zipfian:").and_then(|text| text.parse().ok());
                let theta = theta.filter(|theta| *theta > 0.0 && *theta <= 10.0);
                theta.map(Distribution::Zipfian).ok_or_else(|| {
                    String::from("say uniform, zipfian, zipfian:THETA (up to 10) or sequential")
                })
            }
        }
    }
}

impl fmt::Display for Distribution {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Distribution::Uniform => f.write_str("uniform"),
            Distribution::Zipfian(theta) => write!(f, "zipfian:{theta}"),
            Distribution::Sequential => f.write_str("sequential"),
        }
    }
}

/// A number of seconds, up to a day.
fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().ok().filter(|seconds| (0.0..=86_400.0).contains(seconds));
    let seconds = seconds.ok_or_else(|| String::from("say a number of seconds up to 86400"))?;
    Ok(Duration::from_secs_f64(seconds))
}

fn resolve(texts: &[String]) -> miette::Result<Vec<Server>> {
    let one =
        |text: &String| Ok(Server { name: text.clone(), addresses: addresses::resolve_one(text)? });
    texts.iter().map(one).collect()
}
