//! What the server tells of itself: INFO and ROLE.

use super::connection::REDIS_VERSION;
use super::{Session, upper, wrong_count};
use crate::resp::encode;
use replication::Arguments;
use replication::node::status::GroupStatus;
use std::fmt::Write;

/// The sections of INFO, in order.
const SECTIONS: [(&str, Section); 8] = [
    ("Server", server),
    ("Clients", clients),
    ("Memory", memory),
    ("Persistence", persistence),
    ("Stats", stats),
    ("Replication", replication_section),
    ("Cluster", cluster),
    ("Keyspace", keyspace),
];

type Section = fn(&Session<'_>, &mut String);

/// INFO [section ...]
pub fn execute(arguments: Arguments<'_>, session: &mut Session<'_>, out: &mut Vec<u8>) {
    let wanted: Vec<Vec<u8>> = arguments.from(1).iter().map(|name| upper(Some(name))).collect();
    let everything = wanted.is_empty()
        || wanted.iter().any(|name| matches!(&**name, b"ALL" | b"DEFAULT" | b"EVERYTHING"));
    let mut text = String::new();
    for (title, section) in SECTIONS {
        if everything || wanted.contains(&title.to_ascii_uppercase().into_bytes()) {
            if !text.is_empty() {
                text.push_str("\r\n");
            }
            let _ = write!(text, "# {title}\r\n");
            section(session, &mut text);
        }
    }
    let protocol = session.protocol();
    encode::verbatim(out, &text, protocol);
}

fn field(text: &mut String, name: &str, value: impl std::fmt::Display) {
    let _ = write!(text, "{name}:{value}\r\n");
}

fn server(session: &Session<'_>, text: &mut String) {
    let state = &session.state;
    let uptime = session.now.saturating_duration_since(state.started).as_secs();
    let name = state.cluster.member(state.me).map_or("", |member| &member.name);
    field(text, "redis_version", REDIS_VERSION);
    field(text, "trefoil_version", env!("CARGO_PKG_VERSION"));
    field(text, "redis_mode", "standalone");
    field(text, "os", std::env::consts::OS);
    field(text, "arch_bits", usize::BITS);
    field(text, "multiplexing_api", "epoll");
    field(text, "process_id", std::process::id());
    field(text, "run_id", &state.run_id);
    field(text, "tcp_port", state.client_port);
    field(text, "uptime_in_seconds", uptime);
    field(text, "uptime_in_days", uptime / 86_400);
    field(text, "cluster_name", &state.cluster.name);
    field(text, "node_name", name);
    field(text, "node_incarnation", format_args!("{:016x}", session.node.incarnation().0));
}

fn clients(session: &Session<'_>, text: &mut String) {
    let clients = &session.sink.clients;
    let largest = |size: fn(&crate::clients::Client) -> usize| clients.iter().map(size).max();
    field(text, "connected_clients", clients.len());
    field(text, "maxclients", clients.clients_max());
    let input = largest(|client| client.carry.len());
    field(text, "client_recent_max_input_buffer", input.unwrap_or(0));
    let output = largest(|client| client.replies.unsent());
    field(text, "client_recent_max_output_buffer", output.unwrap_or(0));
    field(text, "blocked_clients", 0);
}

fn memory(_: &Session<'_>, text: &mut String) {
    let resident = resident_bytes();
    field(text, "used_memory", resident);
    field(text, "used_memory_human", format_args!("{:.2}M", resident as f64 / 1_048_576.0));
    field(text, "used_memory_rss", resident);
    field(text, "maxmemory", 0);
    field(text, "maxmemory_policy", "noeviction");
}

/// What the operating system counts for this process; 0 where it does not say.
fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().strip_suffix("kB"));
    kib.and_then(|kib| kib.trim().parse::<u64>().ok()).unwrap_or(0) * 1_024
}

fn persistence(session: &Session<'_>, text: &mut String) {
    let (written, synced) = session.sink.log.kept();
    field(text, "loading", 0);
    field(text, "aof_enabled", 1);
    field(text, "aof_last_write_status", "ok");
    field(text, "log_last_position", session.sink.log.last().0);
    field(text, "log_written_position", written.0);
    field(text, "log_synced_position", synced.0);
    let (log, counts) = (&session.sink.log, session.sink.log.counts);
    field(text, "log_direct_writes", if log.is_direct() { "yes" } else { "no" });
    field(text, "log_bytes_on_disk", log.bytes_on_disk());
    field(text, "log_batches_direct", counts.direct);
    field(text, "log_batches_direct_by_loop", counts.own);
    field(text, "log_batches_through_page_cache", counts.plain);
    field(text, "log_syncs", counts.syncs);
}

fn stats(session: &Session<'_>, text: &mut String) {
    let (counters, sink) = (&session.state.counters, &session.sink);
    field(text, "total_connections_received", sink.clients.accepted());
    field(text, "total_commands_processed", counters.commands);
    field(text, "total_net_input_bytes", counters.bytes_in);
    field(text, "total_net_output_bytes", sink.clients.bytes_out);
    field(text, "loop_turns", counters.turns);
    field(text, "loop_reads", counters.reads);
    field(text, "loop_reads_empty", counters.reads_empty);
    field(text, "loop_writes_to_clients", sink.clients.writes);
    field(text, "loop_writes_to_peers", sink.peers.writes());
    let repeated = sink.clients.repeated_writes + sink.peers.repeated_writes();
    field(text, "loop_writes_repeated", repeated);
    field(text, "rejected_connections", sink.clients.rejected);
    field(text, "client_protocol_errors", counters.protocol_errors);
    field(text, "peer_connections_refused", sink.peers.refused);
    field(text, "peer_connections_without_word", sink.peers.without_word);
    field(text, "older_epochs_refused", sink.counts.epochs_refused);
    field(text, "committed_entries", sink.counts.committed);
    field(text, "conflicts_resolved", sink.counts.conflicts);
    field(text, "retries_deduplicated", sink.counts.deduplicated);
    field(text, "read_repairs", sink.counts.read_repairs);
}

/// A node has no single role: it leads some groups and follows in others. Towards tools that ask
/// for one, every node is a master, for every node takes reads and writes.
fn replication_section(session: &Session<'_>, text: &mut String) {
    let state = &session.state;
    field(text, "role", "master");
    field(text, "connected_slaves", 0);
    field(text, "leaderships_won", session.sink.counts.leaderships);
    field(text, "degraded_groups", session.node.degraded_groups());
    field(text, "degraded_writes", session.sink.counts.degraded_writes);
    field(text, "lease_reads", session.sink.counts.lease_reads);
    field(text, "leases_lost", session.sink.counts.leases_lost);
    lost_writes(session, text);
    for (number, member) in state.cluster.members.iter().enumerate() {
        let node = replication::NodeId(number as u16);
        if node != state.me {
            let link = if session.sink.peers.is_up(node) { "up" } else { "down" };
            let datacenter = state.cluster.datacenters.get(usize::from(member.datacenter.0));
            let datacenter = datacenter.map_or("", String::as_str);
            let peer = format!("peer_{}", member.name);
            field(text, &peer, format_args!("datacenter={datacenter},link={link}"));
        }
    }
    for (number, keyspace) in state.cluster.keyspaces.iter().enumerate() {
        for group in session.node.status(session.time, keyspace.id) {
            log_kept(session, text, number, &group);
        }
    }
}

/// How much of a group's log is kept in memory; at its leader, who is next to be cut off from it.
fn log_kept(session: &Session<'_>, text: &mut String, keyspace: usize, group: &GroupStatus) {
    let Some(here) = group.here.as_ref().filter(|here| here.epoch > 0) else { return };
    let name = format!("log_{keyspace}_{}", group.group.partition);
    let kept = here.retention;
    let mut value = format!("bytes={},bytes_max={}", kept.bytes, kept.bytes_max);
    if let Some(slowest) = kept.slowest {
        let node = session.state.cluster.member(slowest.node).map_or("", |member| &member.name);
        let left = slowest.bytes_left.map_or(String::from("unknown"), |bytes| bytes.to_string());
        let _ = write!(value, ",slowest={node},bytes_left={left}");
    }
    if here.log_held_records > 0 {
        let _ = write!(value, ",held_records={}", here.log_held_records);
    }
    field(text, &name, value);
}

/// What failovers have cost, as far as this node reports it: see `TF.LOST LIST`.
fn lost_writes(session: &Session<'_>, text: &mut String) {
    let keyspaces = &session.state.cluster.keyspaces;
    let groups = keyspaces.iter().flat_map(|k| session.node.status(session.time, k.id));
    let (mut acknowledged, mut not_acknowledged, mut maybe) = (0, 0, 0);
    let (mut given_up, mut unheard_at_least, mut unheard_leaders) = (0, 0, 0);
    for here in groups.filter_map(|group| group.here) {
        acknowledged += here.lost_writes.acknowledged;
        not_acknowledged += here.lost_writes.not_acknowledged;
        maybe += here.lost_writes.maybe;
        given_up += here.lost_writes.given_up;
        unheard_at_least += here.unheard_at_least;
        unheard_leaders += here.unheard_leaders;
    }
    field(text, "lost_writes_acknowledged", acknowledged);
    field(text, "lost_writes_not_acknowledged", not_acknowledged);
    field(text, "lost_writes_maybe", maybe);
    field(text, "lost_writes_given_up", given_up);
    field(text, "lost_writes_unheard_at_least", unheard_at_least);
    field(text, "unheard_leaders", unheard_leaders);
    field(text, "lost_writes_reported_total", session.sink.counts.lost_writes);
}

/// Tools take `cluster_enabled:1` for "only keys of one slot in a command, and only at their node",
/// which does not hold here: docs/decisions has a page on cluster-aware clients.
fn cluster(_: &Session<'_>, text: &mut String) {
    field(text, "cluster_enabled", 0);
}

/// `db0` as in Redis, without what is not counted here (`expires`): the records of all keyspaces
/// that this node holds. Then one line for each keyspace.
fn keyspace(session: &Session<'_>, text: &mut String) {
    let keyspaces = &session.state.cluster.keyspaces;
    let keys: Vec<u64> =
        keyspaces.iter().map(|k| session.node.keys_here(session.time, k.id)).collect();
    let all: u64 = keys.iter().sum();
    if all > 0 {
        field(text, "db0", format_args!("keys={all}"));
    }
    for (number, (keyspace, keys)) in keyspaces.iter().zip(keys).enumerate() {
        let prefix = keyspace.prefix.escape_ascii();
        let name = format!("keyspace_{number}");
        field(text, &name, format_args!("prefix=\"{prefix}\",keys_here={keys}"));
    }
}

/// ROLE: see [`replication_section`].
pub fn role(arguments: Arguments<'_>, session: &Session<'_>, out: &mut Vec<u8>) {
    if arguments.len() != 1 {
        return wrong_count(out, "role");
    }
    encode::array(out, 3);
    encode::bulk(out, b"master");
    encode::integer(out, session.sink.log.last().0 as i64);
    encode::array(out, 0);
}
