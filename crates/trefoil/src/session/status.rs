//! TF.STATUS: the cluster as this node sees it, as JSON.

use super::{Session, wrong_count};
use crate::resp::encode;
use replication::keyspace::Model;
use replication::node::status::{GroupStatus, MemberStatus};
use replication::quorum::Quorum;
use replication::{Arguments, GroupId, NodeId};
use std::fmt::Write;
use std::net::SocketAddr;

/// TF.STATUS
pub fn execute(arguments: Arguments<'_>, session: &mut Session<'_>, out: &mut Vec<u8>) {
    if arguments.len() != 1 {
        return wrong_count(out, "tf.status");
    }
    encode::bulk(out, json(session).as_bytes());
}

fn json(session: &Session<'_>) -> String {
    let state = &session.state;
    let name = state.cluster.member(state.me).map_or("", |member| &member.name);
    let (written, synced) = session.sink.log.kept();
    let mut text = String::new();
    let _ = write!(
        text,
        "{{\"cluster\":{},\"node\":{},\"incarnation\":\"{:016x}\",\"log\":{{\"last\":{},\
         \"written\":{},\"synced\":{}}}",
        quoted(&state.cluster.name),
        quoted(name),
        session.node.incarnation().0,
        session.sink.log.last().0,
        written.0,
        synced.0,
    );
    let _ = write!(text, ",\"members\":[{}]", members(session));
    let _ = write!(text, ",\"keyspaces\":[{}]}}", keyspaces(session));
    text
}

fn members(session: &Session<'_>) -> String {
    let state = &session.state;
    let address = |addresses: &[SocketAddr], number: usize| {
        addresses.get(number).map_or("null".into(), |address| quoted(&address.to_string()))
    };
    let member = |(number, member): (usize, &replication::keyspace::Member)| {
        let node = NodeId(number as u16);
        let heard_us = session.node.heard_us_ago(session.time.monotonic_us, node);
        let heard = heard_us.map_or("null".into(), |us| (us / 1_000).to_string());
        let datacenter = state.cluster.datacenters.get(usize::from(member.datacenter.0));
        format!(
            "{{\"name\":{},\"datacenter\":{},\"client\":{},\"peer\":{},\"up\":{},\
             \"heard_ms_ago\":{heard},\"connected\":{}}}",
            quoted(&member.name),
            quoted(datacenter.map_or("", String::as_str)),
            address(&state.client_addresses, number),
            address(&state.peer_addresses, number),
            session.node.is_up(session.time, node),
            node == state.me || session.sink.peers.is_up(node),
        )
    };
    joined(state.cluster.members.iter().enumerate().map(member))
}

fn keyspaces(session: &Session<'_>) -> String {
    let keyspace = |keyspace: &replication::keyspace::Keyspace| {
        let model = match keyspace.model {
            Model::LeaderFollower(_) => "leader-follower",
            Model::MultiLeader(_) => "multi-leader",
            Model::Leaderless(_) => "leaderless",
        };
        let prefix = String::from_utf8_lossy(&keyspace.prefix);
        let status = session.node.status(session.time, keyspace.id);
        let groups = joined(status.iter().map(|status| group(session, status)));
        let options = options(&keyspace.model);
        format!(
            "{{\"prefix\":{},\"model\":\"{model}\"{options},\"groups\":[{groups}]}}",
            quoted(&prefix)
        )
    };
    joined(session.state.cluster.keyspaces.iter().map(keyspace))
}

/// What a leader-follower keyspace is asked to do, for programs that judge whether it does.
fn options(model: &Model) -> String {
    let Model::LeaderFollower(options) = model else { return String::new() };
    let group = &options.group;
    let Quorum { replicas, acks, election, commit } = Quorum::of(group);
    format!(
        ",\"options\":{{\"acks\":\"{}\",\"ack_level\":\"{}\",\"failover\":\"{}\",\
         \"reads\":\"{}\"}},\"quorum\":{{\"replicas\":{replicas},\"acks\":{acks},\
         \"election\":{election},\"commit\":{commit}}}",
        group.acks, group.ack_level, group.failover, group.reads,
    )
}

fn group(session: &Session<'_>, status: &GroupStatus) -> String {
    let cluster = &session.state.cluster;
    let datacenter = match status.group.datacenter {
        GroupId::EVERYWHERE => None,
        datacenter => cluster.datacenters.get(usize::from(datacenter.0)),
    };
    let here = status.here.as_ref().map_or(String::new(), |here| member_fields(session, here));
    format!(
        "{{\"partition\":{},\"datacenter\":{},\"members\":[{}],\"leader\":{}{here}}}",
        status.group.partition,
        datacenter.map_or("null".into(), |name| quoted(name)),
        joined(status.members.iter().map(|node| name_of(session, *node))),
        status.leader.map_or("null".into(), |leader| name_of(session, leader)),
    )
}

/// What this node knows as a member. A group without leaders has neither epoch nor log.
fn member_fields(session: &Session<'_>, here: &MemberStatus) -> String {
    let mut text =
        format!(",\"role\":{},\"keys\":{},\"bytes\":{}", quoted(here.role), here.keys, here.bytes);
    if here.epoch == 0 && !here.why.is_empty() {
        let _ = write!(text, ",\"why\":{}", quoted(&here.why));
    }
    if here.epoch > 0 {
        let lag = |(node, entries): &(NodeId, u64)| {
            format!("{}:{{\"entries\":{entries}}}", name_of(session, *node))
        };
        let degraded = here.degraded.map_or("null".into(), |interval| {
            format!(
                "{{\"since_ms\":{},\"first\":\"{}-{}\",\"writes\":{},\"fewest_copies\":{}}}",
                interval.opened_ms,
                interval.degraded.first.epoch,
                interval.degraded.first.index,
                interval.degraded.writes,
                interval.degraded.fewest,
            )
        });
        let _ = write!(
            text,
            ",\"epoch\":{},\"last\":{},\"commit\":{},\"lag\":{{{}}},\
             \"lost_writes\":{{\"acknowledged\":{},\"not_acknowledged\":{},\
             \"maybe\":{},\"given_up\":{},\"unheard_at_least\":{},\"unheard_leaders\":{}}},\
             \"once_sessions\":{},\"log\":{{{}}},\"degraded\":{degraded},\"since\":{},\"why\":{},\
             \"suspect\":{},\"possible_loss\":{}",
            here.epoch,
            here.last_index,
            here.commit,
            joined(here.lag.iter().map(lag)),
            here.lost_writes.acknowledged,
            here.lost_writes.not_acknowledged,
            here.lost_writes.maybe,
            here.lost_writes.given_up,
            here.unheard_at_least,
            here.unheard_leaders,
            here.once_sessions,
            log_fields(session, here),
            here.since_ms,
            quoted(&here.why),
            here.suspect,
            here.possible_loss,
        );
    }
    text
}

/// How much of the log is kept; at a leader, who is next to be cut off from it, and after how many
/// bytes more, where that is known.
fn log_fields(session: &Session<'_>, here: &MemberStatus) -> String {
    let retention = here.retention;
    let mut text = format!("\"bytes\":{},\"bytes_max\":{}", retention.bytes, retention.bytes_max);
    let _ = write!(text, ",\"held_records\":{}", here.log_held_records);
    if let Some(slowest) = retention.slowest {
        let left = slowest.bytes_left.map_or("null".into(), |bytes| bytes.to_string());
        let node = name_of(session, slowest.node);
        let _ = write!(text, ",\"slowest\":{node},\"bytes_left\":{left}");
    }
    text
}

pub(super) fn name_of(session: &Session<'_>, node: NodeId) -> String {
    quoted(session.state.cluster.member(node).map_or("", |member| &member.name))
}

pub(super) fn joined(parts: impl Iterator<Item = String>) -> String {
    parts.collect::<Vec<_>>().join(",")
}

/// A JSON string.
pub(super) fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for character in text.chars() {
        match character {
            '"' | '\\' => {
                quoted.push('\\');
                quoted.push(character);
            }
            control if control.is_control() => {
                let _ = write!(quoted, "\\u{:04x}", u32::from(control));
            }
            other => quoted.push(other),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    #[test]
    fn strings_are_escaped() {
        assert_eq!(super::quoted("a\"b\\c\nd\u{e9}"), "\"a\\\"b\\\\c\\u000ad\u{e9}\"");
    }
}
