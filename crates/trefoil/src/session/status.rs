//! TF.STATUS: the cluster as this node sees it, as JSON.

use super::{Session, wrong_count};
use crate::resp::encode;
use replication::keyspace::{Cluster, Model};
use replication::node::status::GroupStatus;
use replication::{Arguments, NodeId};
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
        let datacenter = state.cluster.datacenters.get(usize::from(member.datacenter.0));
        format!(
            "{{\"name\":{},\"datacenter\":{},\"client\":{},\"peer\":{},\"up\":{}}}",
            quoted(&member.name),
            quoted(datacenter.map_or("", String::as_str)),
            address(&state.client_addresses, number),
            address(&state.peer_addresses, number),
            node == state.me || session.sink.peers.is_up(node),
        )
    };
    let members: Vec<String> = state.cluster.members.iter().enumerate().map(member).collect();
    members.join(",")
}

fn keyspaces(session: &Session<'_>) -> String {
    let keyspace = |keyspace: &replication::keyspace::Keyspace| {
        let model = match keyspace.model {
            Model::LeaderFollower(_) => "leader-follower",
            Model::MultiLeader(_) => "multi-leader",
            Model::Leaderless(_) => "leaderless",
        };
        let prefix = String::from_utf8_lossy(&keyspace.prefix);
        let groups: Vec<String> = session
            .node
            .status(keyspace.id)
            .iter()
            .map(|status| group(&session.state.cluster, status))
            .collect();
        let (prefix, groups) = (quoted(&prefix), groups.join(","));
        format!("{{\"prefix\":{prefix},\"model\":\"{model}\",\"groups\":[{groups}]}}")
    };
    let keyspaces: Vec<String> = session.state.cluster.keyspaces.iter().map(keyspace).collect();
    keyspaces.join(",")
}

/// A group: who leads it as far as this node knows, and what this node has as a member.
fn group(cluster: &Cluster, status: &GroupStatus) -> String {
    let name = |node: NodeId| cluster.member(node).map_or("", |member| &member.name);
    let place = cluster.datacenters.get(usize::from(status.group.datacenter.0));
    let members: Vec<String> = status.members.iter().map(|node| quoted(name(*node))).collect();
    let mut text = format!(
        "{{\"partition\":{},\"datacenter\":{},\"members\":[{}],\"leader\":{}",
        status.group.partition,
        place.map_or("null".into(), |place| quoted(place)),
        members.join(","),
        status.leader.map_or("null".into(), |leader| quoted(name(leader))),
    );
    if let Some(here) = &status.here {
        let lag = here
            .lag
            .iter()
            .map(|(node, entries)| format!("{}:{{\"entries\":{entries}}}", quoted(name(*node))));
        let lag: Vec<String> = lag.collect();
        let _ = write!(
            text,
            ",\"role\":{},\"epoch\":{},\"last\":{},\"commit\":{},\"keys\":{},\"bytes\":{},\
             \"cut_entries\":{},\"lag\":{{{}}}",
            quoted(here.role),
            here.epoch,
            here.last_index,
            here.commit,
            here.keys,
            here.bytes,
            here.cut_entries,
            lag.join(","),
        );
    }
    text.push('}');
    text
}

/// A JSON string.
fn quoted(text: &str) -> String {
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
