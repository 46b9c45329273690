//! Names, addresses and files of a `dev` cluster. `DIR/cluster.toml` describes it for good;
//! `DIR/NAME/trefoil.toml` is the same with a `[server]` table, `DIR/NAME/data` the node's data.

use super::Options;
use super::processes::Processes;
use crate::config::{self, Addresses, Config, NAME_RULE};
use miette::{IntoDiagnostic, WrapErr, miette};
use std::fmt::Write as _;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};

/// The datacenters, unless others are asked for.
const DATACENTERS: [&str; 2] = ["eu", "us"];
/// Nodes in each, unless another number is asked for.
const NODES: usize = 3;
/// The first client port, unless another is asked for.
const PORT: u16 = 7001;
/// The first peer port lies so much above the first client port.
const PEER_PORT_DISTANCE: u16 = 100;
/// A node's metrics are so much above its client port, where they are asked for.
const METRICS_PORT_DISTANCE: u32 = 200;
/// All client ports lie below the first peer port.
const NODES_MAX: usize = PEER_PORT_DISTANCE as usize;
/// The file that a directory of `dev` is known by.
const CLUSTER_FILE: &str = "cluster.toml";
/// What a node says, in its own directory.
pub const LOG_FILE: &str = "log.txt";
/// The file that tells programs where the nodes are.
const DESCRIPTION: &str = "dev.json";

/// A `dev` cluster in its directory.
pub struct Layout {
    /// Where everything lies.
    pub directory: PathBuf,
    /// What the nodes are told.
    pub config: Config,
    /// The nodes in order of their client ports.
    pub nodes: Vec<DevNode>,
    /// Whether the nodes answer `GET /metrics`.
    metrics: bool,
    text: String,
}

/// One of its nodes.
#[derive(Clone)]
pub struct DevNode {
    /// Its name.
    pub name: String,
    /// Its datacenter.
    pub datacenter: String,
    /// Where it listens.
    pub addresses: Addresses,
    /// Its own directory.
    pub directory: PathBuf,
}

impl DevNode {
    /// Its configuration file.
    pub fn config_file(&self) -> PathBuf {
        self.directory.join("trefoil.toml")
    }

    /// What it says.
    pub fn log_file(&self) -> PathBuf {
        self.directory.join(LOG_FILE)
    }
}

/// Resumes the cluster of a directory, or makes a new one in an empty directory.
pub fn open(directory: &Path, options: &Options) -> miette::Result<Layout> {
    let file = directory.join(CLUSTER_FILE);
    let (text, config) = if file.exists() {
        let text = config::read_text(&file).into_diagnostic()?;
        let config = Config::parse(&file.display().to_string(), &text)?;
        refuse_other_options(directory, &config, options)?;
        (text, config)
    } else {
        if std::fs::read_dir(directory).into_diagnostic()?.next().is_some() {
            let directory = directory.display();
            return Err(miette!("{directory} is not empty, and no `trefoil dev` has made it"));
        }
        create(options)?
    };
    let mut nodes: Vec<DevNode> = Vec::new();
    for (member, addresses) in config.cluster.members.iter().zip(&config.addresses) {
        let datacenter = config.cluster.datacenters.get(usize::from(member.datacenter.0));
        nodes.push(DevNode {
            name: member.name.clone(),
            datacenter: datacenter.cloned().unwrap_or_default(),
            addresses: *addresses,
            directory: directory.join(&member.name),
        });
    }
    nodes.sort_by_key(|node| node.addresses.client.port());
    let metrics = options.metrics;
    Ok(Layout { directory: directory.to_path_buf(), config, nodes, metrics, text })
}

/// A keyspace file with the nodes that `dev` makes by default.
pub fn with_default_nodes(keyspaces: &str) -> String {
    let datacenters = DATACENTERS.map(String::from);
    describe(keyspaces, "dev", 0, &node_lines(&datacenters, NODES, PORT, Ipv4Addr::LOCALHOST))
}

fn create(options: &Options) -> miette::Result<(String, Config)> {
    let datacenters = match &options.datacenters {
        Some(names) => names.clone(),
        None => DATACENTERS.map(String::from).to_vec(),
    };
    let nodes = options.nodes.unwrap_or(NODES);
    let port = options.port.unwrap_or(PORT);
    check_shape(&datacenters, nodes, port)?;
    let (name, keyspaces) = match &options.config {
        Some(path) => {
            let name = path.display().to_string();
            let text = config::read_text(path)
                .into_diagnostic()
                .wrap_err_with(|| format!("{name} cannot be read"))?;
            config::only_keyspaces(&name, &text)?;
            (name, text)
        }
        None => (String::from(CLUSTER_FILE), example_keyspaces(&datacenters, nodes)),
    };
    let secret = config::random_u64().into_diagnostic()?;
    let lines = node_lines(&datacenters, nodes, port, first_peer_address());
    // The keyspaces come first, so that their lines are those of the file they come from.
    let text = describe(&keyspaces, "dev", secret, &lines);
    let config = Config::parse(&name, &text)?;
    Ok((text, config))
}

fn check_shape(datacenters: &[String], nodes: usize, port: u16) -> miette::Result<()> {
    for (number, name) in datacenters.iter().enumerate() {
        if !config::is_name(name) {
            return Err(miette!("--datacenters: `{name}` is not a name: {NAME_RULE}"));
        }
        if datacenters.iter().take(number).any(|other| other == name) {
            return Err(miette!("--datacenters: `{name}` is listed twice"));
        }
    }
    let total = datacenters.len().saturating_mul(nodes);
    if total == 0 || total > NODES_MAX {
        return Err(miette!("--nodes: a `dev` cluster has 1 to {NODES_MAX} nodes, not {total}"));
    }
    let last = usize::from(port) + usize::from(PEER_PORT_DISTANCE) + total - 1;
    if port == 0 || last > usize::from(u16::MAX) {
        let most = usize::from(u16::MAX) - usize::from(PEER_PORT_DISTANCE) - total + 1;
        return Err(miette!("--port: {port} is not between 1 and {most}"));
    }
    Ok(())
}

/// Each node has a loopback address of its own for its peers, so that one firewall rule makes a
/// partition. Not every system has them.
fn first_peer_address() -> Ipv4Addr {
    let own = Ipv4Addr::new(127, 0, 1, 1);
    match TcpListener::bind((own, 0)) {
        Ok(_) => own,
        Err(_) => Ipv4Addr::LOCALHOST,
    }
}

fn node_lines(datacenters: &[String], nodes: usize, port: u16, peer: Ipv4Addr) -> String {
    let mut text = String::new();
    let mut number = 0u16;
    for datacenter in datacenters {
        for node in 1..=nodes {
            let client = port + number;
            let address = match peer.is_loopback() && peer != Ipv4Addr::LOCALHOST {
                true => Ipv4Addr::from(u32::from(peer) + u32::from(number)),
                false => peer,
            };
            let _ = write!(
                text,
                "\n[[node]]\nname = \"{datacenter}-{node}\"\ndatacenter = \"{datacenter}\"\n\
                 client = \"127.0.0.1:{client}\"\npeer = \"{address}:{}\"\n",
                client + PEER_PORT_DISTANCE,
            );
            number += 1;
        }
    }
    text
}

fn describe(keyspaces: &str, name: &str, secret: u64, nodes: &str) -> String {
    let keyspaces = keyspaces.trim_end();
    format!("{keyspaces}\n\n[cluster]\nname = \"{name}\"\nsecret = \"{secret:016x}\"\n{nodes}")
}

/// One keyspace of each model, as large as the cluster allows.
fn example_keyspaces(datacenters: &[String], nodes: usize) -> String {
    let home = datacenters.first().map_or("", String::as_str);
    let acks = if nodes >= 2 { "semi-sync" } else { "majority" };
    let n = (nodes * datacenters.len()).min(3);
    let (replicas, quorum) = (nodes.min(3), n / 2 + 1);
    let mut text = format!(
        "# What `trefoil dev` starts with: one keyspace of each model.\n\
         [[keyspace]]\nprefix = \"user:\"\nmodel = \"leader-follower\"\nhome = \"{home}\"\n\
         replicas = {replicas}\nacks = \"{acks}\"\n\n"
    );
    // With one datacenter there is nobody to be a second leader.
    if datacenters.len() >= 2 {
        let names = datacenters.join("\", \"");
        let _ = write!(
            text,
            "[[keyspace]]\nprefix = \"cart:\"\nmodel = \"multi-leader\"\n\
             datacenters = [\"{names}\"]\nconflicts = \"last-write-wins\"\n\n"
        );
    }
    let _ = write!(
        text,
        "[[keyspace]]\nprefix = \"session:\"\nmodel = \"leaderless\"\n\
         n = {n}\nw = {quorum}\nr = {quorum}\n\n\
         [[keyspace]]\nprefix = \"\"\nmodel = \"leader-follower\"\nacks = \"majority\"\n"
    );
    text
}

/// A kept cluster keeps its shape; what is asked for must be what it is.
fn refuse_other_options(dir: &Path, config: &Config, options: &Options) -> miette::Result<()> {
    let refuse = |option: &str, wanted: String, is: String| {
        let dir = dir.display();
        Err(miette!(
            "{option} {wanted} contradicts {dir}, whose cluster has {is}; leave the option \
                     out to resume it, or name another directory"
        ))
    };
    let cluster = &config.cluster;
    if let Some(wanted) = options.datacenters.as_ref().filter(|w| **w != cluster.datacenters) {
        return refuse("--datacenters", wanted.join(","), cluster.datacenters.join(","));
    }
    let nodes = cluster.members.len() / cluster.datacenters.len().max(1);
    if let Some(wanted) = options.nodes.filter(|wanted| *wanted != nodes) {
        return refuse("--nodes", wanted.to_string(), format!("{nodes} in each datacenter"));
    }
    let port = config.addresses.iter().map(|addresses| addresses.client.port()).min().unwrap_or(0);
    if let Some(wanted) = options.port.filter(|wanted| *wanted != port) {
        return refuse("--port", wanted.to_string(), format!("client ports from {port} on"));
    }
    if let Some(path) = &options.config {
        let name = path.display().to_string();
        let text = config::read_text(path).into_diagnostic().wrap_err_with(|| name.clone())?;
        config::only_keyspaces(&name, &text)?;
        let kept = config::read_text(&dir.join(CLUSTER_FILE)).into_diagnostic()?;
        let own_part = kept.find("\n[cluster]\n").and_then(|end| kept.get(end..)).unwrap_or("");
        let wanted = Config::parse(&name, &format!("{}\n{own_part}", text.trim_end()))?;
        if wanted.cluster.keyspaces != cluster.keyspaces {
            return refuse("--config", name, format!("the keyspaces of its {CLUSTER_FILE}"));
        }
    }
    Ok(())
}

impl Layout {
    /// Refuses to start where anything else listens.
    pub fn check_ports(&self) -> miette::Result<()> {
        for node in &self.nodes {
            for address in [node.addresses.client, node.addresses.peer] {
                if let Err(error) = TcpListener::bind(address) {
                    let port = address.port();
                    let advice = match error.kind() {
                        std::io::ErrorKind::AddrInUse => "choose another with --port",
                        _ => "choose other ports with --port",
                    };
                    return Err(miette!(
                        "port {port} ({address}) of {} cannot be used: {error}; \
                                        {advice}",
                        node.name
                    ));
                }
            }
        }
        Ok(())
    }

    /// Writes the cluster's file and each node's.
    pub fn write_files(&self) -> miette::Result<()> {
        let cluster = self.directory.join(CLUSTER_FILE);
        if !cluster.exists() {
            write_whole(&cluster, &self.text)?;
        }
        for node in &self.nodes {
            std::fs::create_dir_all(&node.directory).into_diagnostic()?;
            let data = node.directory.join("data").display().to_string();
            let data = toml::Value::String(data);
            let name = &node.name;
            let mut text = format!("{}\n[server]\nnode = \"{name}\"\ndata = {data}\n", self.text);
            if self.metrics {
                let port = u32::from(node.addresses.client.port()) + METRICS_PORT_DISTANCE;
                let _ = writeln!(text, "metrics = \"127.0.0.1:{port}\"");
            }
            write_whole(&node.config_file(), &text)?;
        }
        Ok(())
    }

    /// Writes `dev.json`: where the nodes are, and as which processes they run or last ran.
    pub fn write_description(&self, processes: &Processes) -> miette::Result<()> {
        let nodes: Vec<serde_json::Value> = self
            .nodes
            .iter()
            .map(|node| {
                serde_json::json!({
                    "name": node.name,
                    "datacenter": node.datacenter,
                    "client": node.addresses.client.to_string(),
                    "peer": node.addresses.peer.to_string(),
                    "pid": processes.pid(&node.name),
                })
            })
            .collect();
        let text = serde_json::to_string_pretty(&nodes).into_diagnostic()?;
        write_whole(&self.directory.join(DESCRIPTION), &text)
    }

    /// Removes `dev.json`: nothing runs any more.
    pub fn remove_description(&self) {
        // If it is not there, so much the better.
        let _ = std::fs::remove_file(self.directory.join(DESCRIPTION));
    }

    /// The client port of the `number`th node, counted round and round.
    pub fn client_port(&self, number: usize) -> u16 {
        let node = self.nodes.get(number % self.nodes.len().max(1));
        node.map_or(PORT, |node| node.addresses.client.port())
    }
}

/// Writes a file so that a reader finds it whole or not at all.
fn write_whole(path: &Path, text: &str) -> miette::Result<()> {
    let half = path.with_extension("half");
    std::fs::write(&half, text)
        .and_then(|()| std::fs::rename(&half, path))
        .into_diagnostic()
        .wrap_err_with(|| format!("{} cannot be written", path.display()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_examples_fit_every_shape_of_cluster() {
        let all = ["eu", "us", "ap"].map(String::from);
        for (datacenters, nodes) in (1..=3).flat_map(|d| (1..=11).map(move |n| (d, n))) {
            let datacenters = all.get(..datacenters).unwrap();
            let lines = node_lines(datacenters, nodes, PORT, Ipv4Addr::new(127, 0, 1, 1));
            let text = describe(&example_keyspaces(datacenters, nodes), "dev", 1, &lines);
            let config = Config::parse("cluster.toml", &text).unwrap();
            assert_eq!(config.addresses.len(), datacenters.len() * nodes);
            assert_eq!(config.cluster.datacenters, datacenters);
            assert_eq!(config.cluster.keyspaces.len(), if datacenters.len() > 1 { 4 } else { 3 });
        }
    }

    #[test]
    fn a_comment_or_no_newline_at_the_end_of_a_keyspace_file_hides_nothing() {
        for end in ["", "\n", " # the end", "\r\n"] {
            let text = format!("[[keyspace]]\nprefix = \"a:\"\nmodel = \"leaderless\"{end}");
            let config = Config::parse("k.toml", &with_default_nodes(&text)).unwrap();
            assert_eq!(config.cluster.members.len(), 6);
        }
    }
}
