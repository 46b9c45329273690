//! CLUSTER NODES, INFO and MYID: the nodes one by one, and whether all slots are served.

use super::described;
use crate::session::Session;
use replication::NodeId;
use replication::frame::cluster_digest;
use replication::keyspace::SLOTS;
use replication::node::slots::SlotShare;
use std::collections::BTreeSet;
use std::fmt::Write;

/// A node's name towards cluster clients: 40 hexadecimal digits that follow from its name, so that
/// they stay the same when it restarts.
pub fn id(session: &Session<'_>, node: NodeId) -> String {
    let cluster = &session.state.cluster;
    let name = cluster.member(node).map_or("", |member| &member.name);
    let part = |number: u64| {
        // Similar names have similar digests; people tell these names apart by their first digits.
        let digest = cluster_digest(&format!("{}/{name}", cluster.name)) ^ number;
        let spread = (digest ^ (digest >> 32)).wrapping_mul(0xd6e8_feb8_6659_fd93);
        (spread ^ (spread >> 32)).wrapping_mul(0xd6e8_feb8_6659_fd93)
    };
    format!("{:016x}{:016x}{:08x}", part(0), part(1), part(2) as u32)
}

/// Where clients find a node, as the configuration has it. A node that listens on all its
/// addresses is found where its peers find it.
pub fn address(session: &Session<'_>, node: NodeId) -> Option<(String, u16)> {
    let place = usize::from(node.0);
    let client = session.state.client_addresses.get(place)?;
    let peer = session.state.peer_addresses.get(place).map(|address| address.ip());
    let ip = match client.ip() {
        ip if ip.is_unspecified() => peer.filter(|ip| !ip.is_unspecified())?,
        ip => ip,
    };
    Some((ip.to_string(), client.port()))
}

/// The same; of a node whose address is not known, this one's: an empty host means to a client
/// "where you have asked".
pub fn address_or_here(session: &Session<'_>, node: NodeId) -> (String, u16) {
    address(session, node).unwrap_or((String::new(), session.state.client_port))
}

/// CLUSTER NODES: a line for each node of the cluster, in Redis's form. A node that leads some
/// partitions and follows in others is a master with its own slots, for the form has one role.
pub fn nodes(session: &Session<'_>) -> String {
    let shares = shares(session);
    let me = session.state.me;
    let is_up = |node| session.node.is_up(session.time, node);
    let asked = |share: &SlotShare| share.asked(me, is_up);
    let mut text = String::new();
    for number in 0..session.state.cluster.members.len() as u16 {
        let node = NodeId(number);
        let serves: Vec<&SlotShare> = shares.iter().filter(|share| asked(share) == node).collect();
        let follows = shares.iter().find(|share| share.members.contains(&node));
        let (role, master) = match follows {
            Some(share) if serves.is_empty() => ("slave", id(session, asked(share))),
            _ => ("master", String::from("-")),
        };
        let myself = if node == me { "myself," } else { "" };
        let fail = if is_up(node) { "" } else { ",fail" };
        let link = if is_up(node) { "connected" } else { "disconnected" };
        let epoch = serves.iter().map(|share| share.epoch).max().unwrap_or(0);
        let (host, port) = address_or_here(session, node);
        let peer = session.state.peer_addresses.get(usize::from(number)).map_or(0, |a| a.port());
        let now_us = session.time.monotonic_us;
        let heard_ms = session
            .node
            .heard_us_ago(now_us, node)
            .map_or(0, |ago_us| session.time.wall_ms.saturating_sub(ago_us / 1_000));
        let id = id(session, node);
        let _ = write!(
            text,
            "{id} {host}:{port}@{peer} {myself}{role}{fail} {master} 0 {heard_ms} {epoch} {link}"
        );
        for share in serves {
            let _ = match share.first == share.last {
                true => write!(text, " {}", share.first),
                false => write!(text, " {}-{}", share.first, share.last),
            };
        }
        text.push('\n');
    }
    text
}

/// CLUSTER INFO. `cluster_state` is `ok` while this node knows for every slot who serves it and,
/// where nobody leads, that enough replicas are up.
pub fn info(session: &Session<'_>) -> String {
    let shares = shares(session);
    let slots = |share: &SlotShare| u32::from(share.last - share.first) + 1;
    let served: u32 = shares.iter().filter(|share| share.works).map(slots).sum();
    let servers: BTreeSet<NodeId> = shares.iter().filter_map(|share| share.server).collect();
    let me = session.state.me;
    let mine = shares.iter().filter(|share| share.server == Some(me));
    let state = if served == u32::from(SLOTS) { "ok" } else { "fail" };
    let fields = [
        ("cluster_slots_assigned", u64::from(SLOTS)),
        ("cluster_slots_ok", u64::from(served)),
        ("cluster_slots_pfail", 0),
        ("cluster_slots_fail", u64::from(u32::from(SLOTS).saturating_sub(served))),
        ("cluster_known_nodes", session.state.cluster.members.len() as u64),
        ("cluster_size", servers.len() as u64),
        ("cluster_current_epoch", shares.iter().map(|share| share.epoch).max().unwrap_or(0)),
        ("cluster_my_epoch", mine.map(|share| share.epoch).max().unwrap_or(0)),
    ];
    let mut text = format!("cluster_state:{state}\r\n");
    for (name, value) in fields {
        let _ = write!(text, "{name}:{value}\r\n");
    }
    text
}

fn shares(session: &Session<'_>) -> Vec<SlotShare> {
    let keyspace = described(session);
    keyspace.map_or(Vec::new(), |keyspace| session.node.slot_shares(session.time, keyspace))
}
