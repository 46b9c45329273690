//! `trefoil status`: a cluster as one of its nodes sees it. Also the small client that `dev` uses.

use crate::cli::{addresses, say};
use comfy_table::{Table, presets};
use miette::{IntoDiagnostic, WrapErr, miette};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::Duration;

/// How long a node may take to answer.
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// A longer answer is none; bytes.
const ANSWER_BYTES_MAX: u64 = 64 << 20;

/// What `status` is told.
#[derive(clap::Args)]
pub struct Options {
    /// A node; of several, the first that answers.
    #[arg(long, value_name = "HOST:PORT", value_delimiter = ',', default_value = "127.0.0.1:7001")]
    addr: Vec<String>,
    /// The client port of the node, in place of `--addr`.
    #[arg(long, conflicts_with = "addr")]
    port: Option<u16>,
    /// Its IP address or name, with `--port`.
    #[arg(long, requires = "port", default_value = "127.0.0.1")]
    host: String,
    /// Print what the node says as it is, in JSON.
    #[arg(long)]
    json: bool,
}

/// What a node says of its cluster. What a newer node adds is passed over; what an older one
/// leaves out is empty.
#[derive(Deserialize, Default, Debug)]
#[serde(default)]
pub struct Status {
    /// The node's name.
    pub node: String,
    /// All nodes.
    pub members: Vec<MemberStatus>,
    /// The keyspaces with the groups that the node knows of.
    pub keyspaces: Vec<KeyspaceStatus>,
}

/// One node.
#[derive(Deserialize, Default, Debug)]
#[serde(default)]
pub struct MemberStatus {
    /// Its name.
    pub name: String,
    datacenter: String,
    /// Where clients find it.
    pub client: Option<String>,
    peer: Option<String>,
    up: bool,
    heard_ms_ago: Option<u64>,
}

/// One keyspace.
#[derive(Deserialize, Default, Debug)]
#[serde(default)]
pub struct KeyspaceStatus {
    /// Its prefix.
    pub prefix: String,
    /// Its model.
    pub model: String,
    /// Its groups.
    pub groups: Vec<GroupStatus>,
}

/// One group.
#[derive(Deserialize, Default, Debug)]
#[serde(default)]
pub struct GroupStatus {
    /// Which share of the keys.
    pub partition: u64,
    /// Where; nowhere in particular in a leaderless keyspace.
    pub datacenter: Option<String>,
    /// Who leads, as far as the node knows.
    pub leader: Option<String>,
    epoch: Option<u64>,
    commit: Option<u64>,
    last: Option<u64>,
    keys: Option<u64>,
    role: Option<String>,
    lag: BTreeMap<String, Lag>,
    log: Log,
    degraded: Option<Degraded>,
    why: Option<String>,
    suspect: bool,
    possible_loss: u64,
    lost_writes: LostWrites,
}

/// Writes that are reported as lost.
#[derive(Deserialize, Default, Debug)]
#[serde(default)]
struct LostWrites {
    acknowledged: u64,
    not_acknowledged: u64,
    maybe: u64,
    given_up: u64,
    unheard_at_least: u64,
    unheard_leaders: u64,
}

/// How much of a group's log is kept for followers.
#[derive(Deserialize, Default, Debug)]
#[serde(default)]
struct Log {
    bytes: Option<u64>,
    bytes_max: Option<u64>,
    slowest: Option<String>,
    bytes_left: Option<u64>,
    held_records: u64,
}

/// Acks that are lowered.
#[derive(Deserialize, Default, Debug)]
#[serde(default)]
struct Degraded {
    writes: u64,
}

/// How far a follower is behind.
#[derive(Deserialize, Default, Debug)]
#[serde(default)]
struct Lag {
    entries: Option<u64>,
}

/// Prints what a node knows.
pub fn run(options: &Options) -> miette::Result<()> {
    let addresses = match options.port {
        Some(port) => addresses::resolve_one(&host_and_port(&options.host, port))?,
        None => addresses::resolve(&options.addr)?,
    };
    let (address, text) = first_answer(&addresses)?;
    if options.json {
        say(&format!("{text}\n"));
        return Ok(());
    }
    let status: Status = serde_json::from_str(&text)
        .map_err(|error| miette!("the answer of {address} makes no sense: {error}"))?;
    say(&show(&status));
    Ok(())
}

/// An IPv6 address needs brackets before a port.
fn host_and_port(host: &str, port: u16) -> String {
    match host.parse::<IpAddr>() {
        Ok(address) => SocketAddr::new(address, port).to_string(),
        Err(_) => format!("{host}:{port}"),
    }
}

/// The status that the first node tells which answers, and where that is.
pub fn first_answer(addresses: &[SocketAddr]) -> miette::Result<(SocketAddr, String)> {
    let mut last = Err(miette!("no address was given"));
    for address in addresses {
        match ask(*address, ANSWER_TIMEOUT) {
            Ok(text) => return Ok((*address, text)),
            Err(error) => {
                last = Err(error)
                    .into_diagnostic()
                    .wrap_err_with(|| format!("no node answers at {address}"));
            }
        }
    }
    last
}

/// Asks a node for its status.
pub fn ask(address: SocketAddr, timeout: Duration) -> io::Result<String> {
    ask_for(&["TF.STATUS"], address, timeout)
}

/// Asks a node anything that it answers with one text.
pub fn ask_for(words: &[&str], address: SocketAddr, timeout: Duration) -> io::Result<String> {
    let mut request = format!("*{}\r\n", words.len());
    for word in words {
        let _ = write!(request, "${}\r\n{word}\r\n", word.len());
    }
    let mut stream = TcpStream::connect_timeout(&address, timeout)?;
    stream.set_read_timeout(Some(timeout))?;
    stream.set_write_timeout(Some(timeout))?;
    stream.write_all(request.as_bytes())?;
    let mut answer = BufReader::new(stream.take(ANSWER_BYTES_MAX));
    let mut line = String::new();
    answer.read_line(&mut line)?;
    let line = line.trim_end();
    let length = match line.split_at_checked(1) {
        Some(("$", length)) => length.parse::<u64>().ok(),
        Some(("-", error)) => return Err(io::Error::other(error.to_owned())),
        _ => None,
    };
    let length = length
        .filter(|length| *length <= ANSWER_BYTES_MAX)
        .ok_or_else(|| io::Error::other(format!("it is not a Trefoil node: it said `{line}`")))?;
    let mut text = String::new();
    answer.take(length).read_to_string(&mut text)?;
    Ok(text)
}

/// A table in the style of this command line.
pub fn table(head: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(head.to_vec());
    table
}

/// A keyspace's prefix as it is shown.
pub fn show_prefix(prefix: &str) -> String {
    if prefix.is_empty() { String::from("(every other key)") } else { prefix.to_owned() }
}

fn show(status: &Status) -> String {
    let mut members = table(&["node", "datacenter", "client", "peer", "state", "heard"]);
    for member in &status.members {
        let state = match (member.name == status.node, member.up) {
            (true, _) => "this node",
            (false, true) => "up",
            (false, false) => "DOWN",
        };
        let heard = member.heard_ms_ago.map_or(String::new(), |ms| format!("{ms} ms ago"));
        members.add_row([
            member.name.as_str(),
            &member.datacenter,
            member.client.as_deref().unwrap_or(""),
            member.peer.as_deref().unwrap_or(""),
            state,
            &heard,
        ]);
    }
    let mut groups = table(&[
        "keyspace",
        "model",
        "partition",
        "datacenter",
        "leader",
        "epoch",
        "newest",
        "committed",
        "keys",
        "role here",
        "lag",
        "log kept",
        "cut off next",
    ]);
    for keyspace in &status.keyspaces {
        for row in group_rows(keyspace) {
            groups.add_row(row);
        }
    }
    let mut out = String::new();
    let _ = writeln!(out, "{}\n\n{}", members.trim_fmt(), groups.trim_fmt());
    for keyspace in &status.keyspaces {
        // All groups of a replica are ready, or none.
        let waits = keyspace.groups.iter().find(|group| !group.is_ready());
        if let Some(why) = waits.and_then(|group| group.why.as_ref()) {
            let _ = writeln!(out, "{}: not ready: {why}", show_prefix(&keyspace.prefix));
        }
    }
    let groups = status
        .keyspaces
        .iter()
        .flat_map(|keyspace| keyspace.groups.iter().map(move |group| (keyspace, group)));
    for (keyspace, group) in groups {
        for note in group.notes() {
            let prefix = show_prefix(&keyspace.prefix);
            let _ = writeln!(out, "{prefix} partition {}: {note}", group.partition);
        }
    }
    out
}

impl GroupStatus {
    /// Whether this node answers its reads; of a group without a leader.
    fn is_ready(&self) -> bool {
        !self.role.as_ref().is_some_and(|role| role.ends_with("not ready"))
    }

    /// What an operator should know of the group, in sentences.
    fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        if let Some(why) = self.why.as_ref().filter(|why| !why.is_empty() && self.is_ready()) {
            notes.push(format!("last change of leader, as this node knows it: {why}"));
        }
        if self.suspect {
            let text = "this node lost its power and may lack its last second: it neither votes \
                        nor acknowledges until a leader has made that good";
            notes.push(String::from(text));
        }
        if self.possible_loss > 0 {
            let epoch = self.possible_loss;
            notes
                .push(format!("POSSIBLE LOSS: the leader of epoch {epoch} may have lacked writes"));
        }
        if self.log.held_records > 0 {
            notes.push(format!(
                "it holds {} records of the node's log, from its first entry on that is not \
                 committed: the log cannot be cut there",
                self.log.held_records
            ));
        }
        let lost = &self.lost_writes;
        if lost.acknowledged + lost.not_acknowledged + lost.maybe + lost.given_up > 0 {
            notes.push(format!(
                "lost writes known here: {} acknowledged, {} not, {} maybe, {} whose reports were \
                 too large to keep; see TF.LOST LIST",
                lost.acknowledged, lost.not_acknowledged, lost.maybe, lost.given_up
            ));
        }
        if lost.unheard_leaders > 0 {
            notes.push(format!(
                "{} earlier leaders have not told, or cannot tell, what a failover has cost: at \
                 least {} of their entries are gone, maybe more, maybe acknowledged ones; see \
                 TF.LOST LIST",
                lost.unheard_leaders, lost.unheard_at_least
            ));
        }
        notes
    }
}

/// One row a group; the many groups of a leaderless keyspace, which nobody leads, share one.
fn group_rows(keyspace: &KeyspaceStatus) -> Vec<Vec<String>> {
    let number = |number: Option<u64>| number.map_or(String::from("-"), |n| n.to_string());
    let head =
        |partition: String| vec![show_prefix(&keyspace.prefix), keyspace.model.clone(), partition];
    if keyspace.model == "leaderless" {
        let here = keyspace.groups.iter().filter(|group| group.role.is_some()).count();
        let keys: u64 = keyspace.groups.iter().filter_map(|group| group.keys).sum();
        let mut row = head(format!("all {}", keyspace.groups.len()));
        row.extend(["everywhere", "nobody", "-", "-", "-", &keys.to_string()].map(String::from));
        let is_ready = keyspace.groups.iter().all(GroupStatus::is_ready);
        let role = format!("replica of {here}{}", if is_ready { "" } else { ", NOT READY" });
        row.extend([role, String::new(), String::new(), String::new()]);
        return vec![row];
    }
    let rows = keyspace.groups.iter().map(|group| {
        let behind = group.lag.iter().map(|(node, lag)| format!("{node} {}", number(lag.entries)));
        let mut row = head(group.partition.to_string());
        row.extend([
            group.datacenter.clone().unwrap_or_else(|| String::from("everywhere")),
            group.leader.clone().unwrap_or_else(|| String::from("none")),
            number(group.epoch),
            number(group.last),
            number(group.commit),
            number(group.keys),
            match (&group.role, &group.degraded) {
                (Some(role), Some(Degraded { writes: 0 })) => format!("{role}, DEGRADED"),
                (Some(role), Some(Degraded { writes })) => {
                    format!("{role}, DEGRADED ({writes} writes)")
                }
                (role, _) => role.clone().unwrap_or_default(),
            },
            behind.collect::<Vec<_>>().join(", "),
            group.log.kept(),
            group.log.next(),
        ]);
        row
    });
    rows.collect()
}

impl Log {
    fn kept(&self) -> String {
        match (self.bytes, self.bytes_max) {
            (Some(bytes), Some(most)) => format!("{} of {} MiB", mebibytes(bytes), mebibytes(most)),
            _ => String::new(),
        }
    }

    /// Who needs a snapshot next, and after how much more.
    fn next(&self) -> String {
        match (&self.slowest, self.bytes_left) {
            (None, _) => String::new(),
            (Some(node), None) => format!("{node}: not heard"),
            (Some(node), Some(0)) => format!("{node}: needs a snapshot"),
            (Some(node), Some(bytes)) => format!("{node} in {} MiB", mebibytes(bytes)),
        }
    }
}

fn mebibytes(bytes: u64) -> String {
    format!("{:.1}", bytes as f64 / 1_048_576.0)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_status_is_read_leniently_and_shown() {
        let text = r#"{"node":"eu-1","incarnation":"00ff","new-thing":[1],
            "members":[{"name":"eu-1","datacenter":"eu","client":"127.0.0.1:7001","up":true},
                       {"name":"eu-2","datacenter":"eu","up":false,"heard_ms_ago":912}],
            "keyspaces":[{"prefix":"user:","model":"leader-follower","groups":[
                {"partition":0,"datacenter":"eu","leader":"eu-1","epoch":7,"commit":42,
                 "last":45,"keys":9,"role":"leader","degraded":{"writes":4},
                 "lag":{"eu-2":{"entries":3,"ms":9}},"log":{"bytes":1048576,
                 "bytes_max":67108864,"slowest":"eu-2","bytes_left":66060288}}]},
              {"prefix":"session:","model":"leaderless","groups":[
                {"partition":0,"role":"replica, not ready","why":"its disk is new","epoch":0},
                {"partition":1,"role":null}]},
              {"prefix":"","model":"leader-follower","groups":[{"leader":null}]}]}"#;
        let shown = show(&serde_json::from_str(text).unwrap());
        let words = ["this node", "DOWN", "912 ms ago", "user:", "eu-2 3", "(every other key)"];
        for word in words.iter().chain(&[
            "all 2",
            "replica of 1, NOT READY",
            "session:: not ready: its disk is new",
            "DEGRADED (4 writes)",
            "1.0 of 64.0 MiB",
            "eu-2 in 63.0 MiB",
        ]) {
            assert!(shown.contains(word), "`{word}` is not in:\n{shown}");
        }
    }

    #[test]
    fn an_answer_that_is_no_status_is_an_error() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = std::thread::spawn(move || {
            for answer in ["-ERR unknown command\r\n", "HTTP/1.1 400\r\n", "$999999999999\r\n"] {
                let (mut stream, _) = listener.accept().unwrap();
                let mut request = [0; 19];
                stream.read_exact(&mut request).unwrap();
                stream.write_all(answer.as_bytes()).unwrap();
            }
        });
        for words in ["ERR unknown command", "not a Trefoil node", "not a Trefoil node"] {
            let error = ask(address, ANSWER_TIMEOUT).unwrap_err().to_string();
            assert!(error.contains(words), "`{words}` is not in: {error}");
        }
        server.join().unwrap();
    }
}
