//! What may be written in a configuration file, option by option, with its place in the text.

use super::Problem;
use serde::Deserialize;
use toml::Spanned;

/// Options that the design names and that this version does not have.
const NOT_AVAILABLE: [&str; 4] = ["read-replicas", "sloppy", "strict", "read-repair"];

/// The whole file.
#[derive(Deserialize, Debug)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct File {
    /// What the cluster is called.
    pub cluster: Option<Spanned<ClusterTable>>,
    /// Its nodes.
    #[serde(default)]
    pub node: Vec<Spanned<NodeTable>>,
    /// Which of them this file is for.
    pub server: Option<Spanned<ServerTable>>,
    /// How keys are replicated.
    #[serde(default)]
    pub keyspace: Vec<Spanned<KeyspaceTable>>,
}

/// `[cluster]`
#[derive(Deserialize, Debug)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct ClusterTable {
    /// Peers of another name are refused.
    pub name: Spanned<String>,
    /// 16 hexadecimal digits.
    pub secret: Option<Spanned<String>>,
    /// The prefix of the keyspace that cluster-aware clients see.
    pub slots_keyspace: Option<Spanned<String>>,
}

/// `[[node]]`
#[derive(Deserialize, Debug)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct NodeTable {
    /// Unique in the cluster.
    pub name: Spanned<String>,
    /// Where it stands.
    pub datacenter: Spanned<String>,
    /// Its address for clients.
    pub client: Spanned<String>,
    /// Its address for the other nodes.
    pub peer: Spanned<String>,
}

/// `[server]`
#[derive(Deserialize, Debug)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct ServerTable {
    /// Which node this is.
    pub node: Option<Spanned<String>>,
    /// Its data directory.
    pub data: Option<String>,
    /// Bytes of a group's log that are kept in memory for followers.
    pub log_retention_bytes: Option<Spanned<i64>>,
    /// Where it answers GET /metrics.
    pub metrics: Option<Spanned<String>>,
}

/// `[[keyspace]]`: the options of all models; `keyspace.rs` refuses those of another model.
#[derive(Deserialize, Debug)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct KeyspaceTable {
    /// Keys that start with it belong here.
    pub prefix: Spanned<String>,
    /// Which of the three.
    pub model: Spanned<String>,
    /// Into how many shares its keys are dealt.
    pub partitions: Option<Spanned<i64>>,
    /// When a copy counts.
    pub durability: Option<Spanned<String>>,
    /// N of a group.
    pub replicas: Option<Spanned<i64>>,
    /// The datacenter of a leader-follower keyspace.
    pub home: Option<Spanned<String>>,
    /// A of a group: a name or a number.
    pub acks: Option<Spanned<toml::Value>>,
    /// When a copy is an ack.
    pub ack_level: Option<Spanned<String>>,
    /// Whether single commands may ask for less.
    pub weaker_acks: Option<Spanned<bool>>,
    /// After how long acks count as missing.
    pub ack_timeout_ms: Option<Spanned<i64>>,
    /// What becomes of a write whose acks do not come.
    pub when_acks_are_missing: Option<Spanned<String>>,
    /// Which elections are allowed.
    pub failover: Option<Spanned<String>>,
    /// Who answers reads.
    pub reads: Option<Spanned<String>>,
    /// Whether leaders answer reads under a lease.
    pub leases: Option<Spanned<bool>>,
    /// After how long without its disk's word a leader hands over.
    pub disk_stall_ms: Option<Spanned<i64>>,
    /// The datacenters of a multi-leader keyspace.
    pub datacenters: Option<Spanned<Vec<Spanned<String>>>>,
    /// What becomes of concurrent writes.
    pub conflicts: Option<Spanned<String>>,
    /// Replicas of a leaderless key.
    pub n: Option<Spanned<i64>>,
    /// Acks that a leaderless write waits for.
    pub w: Option<Spanned<i64>>,
    /// Answers that a leaderless read waits for.
    pub r: Option<Spanned<i64>>,
    /// How long a leaderless command waits for them.
    pub timeout_ms: Option<Spanned<i64>>,
}

/// Reads the text; the problem points at the first thing that is wrong with it.
pub fn parse(text: &str) -> Result<File, Box<Problem>> {
    toml::from_str(text).map_err(|error| {
        let span = error.span().unwrap_or(0..0);
        Box::new(match unknown_option(error.message()) {
            Some((name, _)) if NOT_AVAILABLE.contains(&name) => {
                Problem::at(span, format!("`{name}` is not available in this version"))
            }
            Some((name, options)) => Problem::at(span, format!("unknown option `{name}`"))
                .help(format!("the options here are {options}")),
            None => {
                let option = option_at(text, span.start);
                if option.ends_with("-ms") && error.message().contains("expected i64") {
                    let what = format!("`{option}` is a whole number of milliseconds");
                    return Box::new(
                        Problem::at(span, what).help(format!("for one second: {option} = 1000")),
                    );
                }
                let problem = Problem::at(span.clone(), error.message());
                match values_of(option) {
                    Some(values) => problem.help(values),
                    None => problem,
                }
            }
        })
    })
}

/// The name of the option on whose line a place is.
fn option_at(text: &str, place: usize) -> &str {
    let before = text.get(..place).unwrap_or("");
    let line = text.get(before.rfind('\n').map_or(0, |end| end + 1)..).unwrap_or("");
    line.split(['=', '\n']).next().unwrap_or("").trim()
}

/// What an option can be, where its value is of another sort.
fn values_of(option: &str) -> Option<&'static str> {
    Some(match option {
        "model" => "`model` is \"leader-follower\", \"multi-leader\" or \"leaderless\"",
        "durability" => "`durability` is \"fsync\" or \"interval-1s\"",
        "ack-level" => "`ack-level` is \"received\", \"durable\" or \"applied\"",
        "when-acks-are-missing" => "`when-acks-are-missing` is \"error\", \"block\" or \"degrade\"",
        "failover" => "`failover` is \"safe\" or \"available\"",
        "reads" => "`reads` is \"leader\" or \"follower\"",
        "conflicts" => "`conflicts` is \"last-write-wins\"",
        "weaker-acks" | "leases" => "it is true or false, without quotes",
        "partitions"
        | "replicas"
        | "ack-timeout-ms"
        | "disk-stall-ms"
        | "n"
        | "w"
        | "r"
        | "timeout-ms"
        | "log-retention-bytes" => "it is a number, without quotes",
        "metrics" | "client" | "peer" => "it is an address, for example \"127.0.0.1:7001\"",
        _ => return None,
    })
}

/// The name and the alternatives in serde's message about a field that does not exist.
fn unknown_option(message: &str) -> Option<(&str, &str)> {
    let (name, rest) = message.strip_prefix("unknown field `")?.split_once('`')?;
    let options = rest.strip_prefix(", expected ")?;
    Some((name, options.strip_prefix("one of ").unwrap_or(options)))
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_time_that_is_no_number_is_told_what_it_is_and_how_to_write_it() {
        for wrong in ["\"1s\"", "1.5", "true"] {
            let text = format!("[[keyspace]]\nprefix = \"\"\nack-timeout-ms = {wrong}\n");
            let problem = format!("{:?}", super::parse(&text).err());
            for word in ["`ack-timeout-ms` is a whole number of milliseconds", "= 1000"] {
                assert!(problem.contains(word), "{problem}");
            }
        }
    }
}
