//! The configuration file: from text to types that cannot be wrong. `file.rs` is what may be
//! written, `keyspace.rs` makes a keyspace of it, `problem.rs` points at what is wrong.
//!
//! Every option is described in `docs/configuration.md`; a test keeps the two in step.

mod file;
mod keyspace;
mod problem;
#[cfg(test)]
mod tests;

pub use problem::{ConfigError, Problem};

use file::{ClusterTable, File, NodeTable, ServerTable};
use replication::keyspace::{Cluster, Member};
use replication::{DatacenterId, KeyspaceId, NodeId};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use toml::Spanned;

/// A file larger than this is not read; bytes.
const FILE_BYTES_MAX: u64 = 4 << 20;
/// Nodes of a cluster; all speak to all.
const NODES_MAX: usize = 1000;
/// Datacenters of a cluster.
const DATACENTERS_MAX: usize = 64;
/// What `log-retention-bytes` may be: less would send snapshots for every hiccup.
const RETENTION_BYTES: std::ops::RangeInclusive<usize> = 65_536..=1 << 40;
/// Bytes of a node's, a datacenter's or a cluster's name.
const NAME_BYTES_MAX: usize = 64;

/// A configuration file that has been read and checked.
#[derive(Clone, Debug)]
pub struct Config {
    /// What all nodes must agree on.
    pub cluster: Cluster,
    /// Where the nodes listen, by [`NodeId`].
    pub addresses: Vec<Addresses>,
    /// The keyspace that CLUSTER SLOTS describes, and of whose keys a cluster-aware client is told
    /// `-MOVED`.
    pub slots_keyspace: KeyspaceId,
    /// Which node this file is for, if it says so.
    pub server: Server,
}

/// Where a node listens.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Addresses {
    /// For Redis clients.
    pub client: SocketAddr,
    /// For the other nodes; outgoing connections to them come from its IP address.
    pub peer: SocketAddr,
}

/// The table `[server]`: what `serve` needs beyond the cluster's description.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Server {
    /// Which node this is.
    pub node: Option<NodeId>,
    /// Where its data lies.
    pub data: Option<PathBuf>,
    /// Bytes of each group's log that are kept in memory for followers that lag behind.
    pub log_retention_bytes: Option<usize>,
    /// Where it answers GET /metrics.
    pub metrics: Option<SocketAddr>,
}

impl Config {
    /// Reads and checks a file.
    pub fn read(path: &Path) -> Result<Config, ConfigError> {
        let name = path.display().to_string();
        let text = read_text(path)
            .map_err(|error| ConfigError::unreadable(&name, &format!("cannot be read: {error}")))?;
        Config::parse(&name, &text)
    }

    /// Checks a file's text; `name` is for the error messages.
    pub fn parse(name: &str, text: &str) -> Result<Config, ConfigError> {
        let file = file::parse(text).map_err(|problem| problem.of(name, text))?;
        let mut problems = Vec::new();
        let config = check(&file, &mut problems);
        match config {
            Some(config) if problems.is_empty() => Ok(config),
            _ => Err(ConfigError::new(name, text, problems)),
        }
    }

    /// The address of a node; every member has one.
    pub fn addresses_of(&self, node: NodeId) -> Option<Addresses> {
        self.addresses.get(usize::from(node.0)).copied()
    }
}

/// Checks a text that may hold only `[[keyspace]]` tables, as `dev --config` wants it.
pub fn only_keyspaces(name: &str, text: &str) -> Result<(), ConfigError> {
    let file = file::parse(text).map_err(|problem| problem.of(name, text))?;
    let mut spans = Vec::new();
    spans.extend(file.cluster.iter().map(|table| ("[cluster]", table.span())));
    spans.extend(file.node.iter().map(|table| ("[[node]]", table.span())));
    spans.extend(file.server.iter().map(|table| ("[server]", table.span())));
    let problems: Vec<Problem> = spans
        .into_iter()
        .map(|(table, span)| {
            Problem::at(span, format!("`{table}` has no place here: `dev` makes its own nodes"))
                .help("keep only the [[keyspace]] tables, or start the nodes with `trefoil serve`")
        })
        .collect();
    if problems.is_empty() { Ok(()) } else { Err(ConfigError::new(name, text, problems)) }
}

/// Whether a text is meant to describe a cluster with its nodes, not only keyspaces.
pub fn names_nodes(name: &str, text: &str) -> Result<bool, ConfigError> {
    let file = file::parse(text).map_err(|problem| problem.of(name, text))?;
    Ok(file.cluster.is_some() || !file.node.is_empty())
}

/// Reads a file of a sensible size.
pub fn read_text(path: &Path) -> std::io::Result<String> {
    let bytes = std::fs::metadata(path)?.len();
    if bytes > FILE_BYTES_MAX {
        let text = format!("it has {bytes} bytes, more than {FILE_BYTES_MAX}");
        return Err(std::io::Error::other(text));
    }
    std::fs::read_to_string(path)
}

/// A 64-bit number from the operating system's source of chance.
pub fn random_u64() -> std::io::Result<u64> {
    getrandom::u64().map_err(|error| std::io::Error::other(format!("no random numbers: {error}")))
}

fn check(file: &File, problems: &mut Vec<Problem>) -> Option<Config> {
    let (name, secret) = check_cluster(file.cluster.as_ref(), problems);
    let datacenters = check_nodes(&file.node, problems);
    let mut nodes: Vec<&NodeTable> = file.node.iter().map(Spanned::get_ref).collect();
    nodes.sort_by_key(|node| node.name.get_ref().clone());
    let mut members = Vec::new();
    let mut addresses = Vec::new();
    for node in &nodes {
        let place = datacenters.iter().position(|name| name == node.datacenter.get_ref())?;
        let datacenter = DatacenterId(u8::try_from(place).ok()?);
        members.push(Member { name: node.name.get_ref().clone(), datacenter });
        addresses.push((address(&node.client, problems), address(&node.peer, problems)));
    }
    check_addresses(&nodes, &addresses, problems);
    let server = check_server(file, &nodes, problems);
    let keyspaces = if members.is_empty() {
        Vec::new()
    } else {
        keyspace::check(&file.keyspace, &datacenters, &members, problems)
    };
    if !problems.is_empty() {
        return None;
    }
    let cluster =
        keyspace::assemble(file, name?, secret?, datacenters, members, keyspaces, problems)?;
    let slots_keyspace = check_slots_keyspace(file.cluster.as_ref(), &cluster, problems)?;
    let addresses = addresses
        .into_iter()
        .map(|pair| Some(Addresses { client: pair.0?, peer: pair.1? }))
        .collect::<Option<Vec<_>>>()?;
    Some(Config { cluster, addresses, slots_keyspace, server })
}

/// The cluster's name and secret.
fn check_cluster(
    table: Option<&Spanned<ClusterTable>>,
    problems: &mut Vec<Problem>,
) -> (Option<String>, Option<u64>) {
    let Some(table) = table else {
        problems.push(
            Problem::somewhere("the table `[cluster]` is missing")
                .help(format!("add:\n[cluster]\nname = \"mine\"\n{}", fresh_secret())),
        );
        return (None, None);
    };
    let name = &table.get_ref().name;
    let named = check_name("cluster", name, problems);
    let Some(secret) = &table.get_ref().secret else {
        problems.push(
            Problem::at(table.span(), "`secret` is missing in `[cluster]`").help(format!(
                "draw one, the same for all nodes, for example:\n{}",
                fresh_secret()
            )),
        );
        return (named, None);
    };
    let digits = secret.get_ref();
    let number = u64::from_str_radix(digits, 16).ok();
    if digits.len() != 16 || number.is_none() || digits.starts_with('+') {
        let text = format!("`secret` has to be 16 hexadecimal digits, not `{digits}`");
        problems.push(Problem::at(secret.span(), text));
        return (named, None);
    }
    (named, number)
}

/// The keyspace of `slots-keyspace`; without it, the one of the empty prefix.
fn check_slots_keyspace(
    table: Option<&Spanned<ClusterTable>>,
    cluster: &Cluster,
    problems: &mut Vec<Problem>,
) -> Option<KeyspaceId> {
    let wanted = table.and_then(|table| table.get_ref().slots_keyspace.as_ref());
    let prefix = wanted.map_or("", |prefix| prefix.get_ref().as_str());
    let found = cluster.keyspaces.iter().find(|keyspace| keyspace.prefix == prefix.as_bytes());
    if let (None, Some(wanted)) = (found, wanted) {
        let names = cluster.keyspaces.iter().map(|k| format!("\"{}\"", k.prefix.escape_ascii()));
        let names = names.collect::<Vec<_>>().join(", ");
        let text = format!("no keyspace has the prefix `{prefix}`");
        let help = format!("the prefixes are: {names}");
        problems.push(Problem::at(wanted.span(), text).help(help));
    }
    Some(found?.id)
}

fn fresh_secret() -> String {
    match random_u64() {
        Ok(secret) => format!("secret = \"{secret:016x}\""),
        Err(_) => String::from("secret = \"16 random hexadecimal digits\""),
    }
}

/// The datacenters in the order in which the nodes name them.
fn check_nodes(nodes: &[Spanned<NodeTable>], problems: &mut Vec<Problem>) -> Vec<String> {
    let mut datacenters: Vec<String> = Vec::new();
    let mut names: Vec<&str> = Vec::new();
    for node in nodes {
        let node = node.get_ref();
        check_name("node", &node.name, problems);
        check_name("datacenter", &node.datacenter, problems);
        let name = node.name.get_ref();
        if names.contains(&name.as_str()) {
            let text = format!("two nodes are named `{name}`");
            problems.push(Problem::at(node.name.span(), text));
        }
        names.push(name);
        if !datacenters.contains(node.datacenter.get_ref()) {
            datacenters.push(node.datacenter.get_ref().clone());
        }
    }
    if nodes.is_empty() {
        let text = "no `[[node]]` is listed: a cluster has at least one";
        problems.push(Problem::somewhere(text));
    }
    if nodes.len() > NODES_MAX {
        let text = format!("{} nodes are listed, at most {NODES_MAX} can be", nodes.len());
        problems.push(Problem::somewhere(text));
    }
    if datacenters.len() > DATACENTERS_MAX {
        let count = datacenters.len();
        let text = format!("{count} datacenters are named, at most {DATACENTERS_MAX} can be");
        problems.push(Problem::somewhere(text));
    }
    datacenters
}

/// A name that can be a directory, a host label and a word in a table.
fn check_name(what: &str, name: &Spanned<String>, problems: &mut Vec<Problem>) -> Option<String> {
    match is_name(name.get_ref()) {
        true => Some(name.get_ref().clone()),
        false => {
            let text = format!("`{}` is not a {what}'s name: {NAME_RULE}", name.get_ref());
            problems.push(Problem::at(name.span(), text));
            None
        }
    }
}

/// What a name may look like.
pub const NAME_RULE: &str = "1 to 64 letters, digits, `-`, `_`, `.`, not starting with `.` or `-`";

/// Whether a text may be the name of a node, a datacenter or a cluster.
pub fn is_name(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    let first_is_plain = !name.starts_with(['.', '-']);
    (1..=NAME_BYTES_MAX).contains(&name.len()) && first_is_plain && name.bytes().all(plain)
}

fn address(text: &Spanned<String>, problems: &mut Vec<Problem>) -> Option<SocketAddr> {
    match text.get_ref().parse::<SocketAddr>() {
        Ok(address) if address.port() != 0 => Some(address),
        _ => {
            let message = format!("`{}` is not an address", text.get_ref());
            let help = "an IP address and a port, for example \"10.0.0.1:7001\" or \"[::1]:7001\"";
            problems.push(Problem::at(text.span(), message).help(help));
            None
        }
    }
}

/// No two listeners share an address.
fn check_addresses(
    nodes: &[&NodeTable],
    addresses: &[(Option<SocketAddr>, Option<SocketAddr>)],
    problems: &mut Vec<Problem>,
) {
    let mut seen: Vec<(SocketAddr, &str)> = Vec::new();
    for (node, pair) in nodes.iter().zip(addresses) {
        for (address, place) in [(pair.0, &node.client), (pair.1, &node.peer)] {
            let Some(address) = address else { continue };
            let name = node.name.get_ref().as_str();
            match seen.iter().find(|(other, _)| *other == address) {
                Some((_, other)) => {
                    let text = format!("`{address}` of node `{name}` is already node `{other}`'s");
                    problems.push(Problem::at(place.span(), text));
                }
                None => seen.push((address, name)),
            }
        }
    }
}

fn check_retention(table: &ServerTable, problems: &mut Vec<Problem>) -> Option<usize> {
    let option = table.log_retention_bytes.as_ref()?;
    let bytes = usize::try_from(*option.get_ref()).ok();
    let bytes = bytes.filter(|bytes| RETENTION_BYTES.contains(bytes));
    if bytes.is_none() {
        let (least, most) = RETENTION_BYTES.into_inner();
        let text = format!("`log-retention-bytes` has to be from {least} to {most}");
        problems.push(Problem::at(option.span(), text));
    }
    bytes
}

fn check_server(file: &File, nodes: &[&NodeTable], problems: &mut Vec<Problem>) -> Server {
    let Some(table) = &file.server else { return Server::default() };
    let table = table.get_ref();
    let data = table.data.as_ref().map(PathBuf::from);
    let log_retention_bytes = check_retention(table, problems);
    let metrics = table.metrics.as_ref().and_then(|text| address(text, problems));
    let mut server = Server { node: None, data, log_retention_bytes, metrics };
    if let Some(wanted) = &table.node {
        let place = nodes.iter().position(|node| node.name.get_ref() == wanted.get_ref());
        server.node = place.and_then(|place| u16::try_from(place).ok()).map(NodeId);
        if server.node.is_none() {
            let names: Vec<&str> = nodes.iter().map(|node| node.name.get_ref().as_str()).collect();
            let text = format!("no `[[node]]` is named `{}`", wanted.get_ref());
            let help = format!("the nodes are: {}", names.join(", "));
            problems.push(Problem::at(wanted.span(), text).help(help));
        }
    }
    server
}
