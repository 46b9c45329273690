//! CLUSTER SLOTS and CLUSTER SHARDS: the map.

use super::{described, nodes};
use crate::resp::Protocol;
use crate::resp::encode;
use crate::session::Session;
use replication::NodeId;
use replication::node::slots::SlotShare;

/// A share of the slots as a client is told it.
struct Told {
    share: SlotShare,
    /// Whom to ask.
    primary: NodeId,
    /// The other members, those that are up first.
    replicas: Vec<NodeId>,
}

fn told(session: &Session<'_>) -> Vec<Told> {
    let Some(keyspace) = described(session) else { return Vec::new() };
    let (me, is_up) = (session.state.me, |node| session.node.is_up(session.time, node));
    let shares = session.node.slot_shares(session.time, keyspace);
    let tell = |share: SlotShare| {
        let primary = share.asked(me, is_up);
        let mut replicas = share.members.clone();
        replicas.retain(|node| *node != primary);
        replicas.sort_by_key(|node| !is_up(*node));
        Told { share, primary, replicas }
    };
    shares.into_iter().map(tell).collect()
}

/// CLUSTER SLOTS: first, last, whom to ask, replicas. As in Redis, replicas that are down are left
/// out, and no slot ever is: while nobody leads, a node that lives takes the leader's place.
pub fn slots(session: &Session<'_>, out: &mut Vec<u8>) {
    let told = told(session);
    encode::array(out, told.len());
    for Told { share, primary, replicas } in told {
        let up = replicas.into_iter().filter(|node| session.node.is_up(session.time, *node));
        let up = up.filter(|node| nodes::address(session, *node).is_some());
        let nodes: Vec<NodeId> = std::iter::once(primary).chain(up).collect();
        encode::array(out, 2 + nodes.len());
        encode::integer(out, i64::from(share.first));
        encode::integer(out, i64::from(share.last));
        for node in nodes {
            let (host, port) = nodes::address_or_here(session, node);
            encode::array(out, 4);
            encode::bulk(out, host.as_bytes());
            encode::integer(out, i64::from(port));
            encode::bulk(out, nodes::id(session, node).as_bytes());
            // Redis tells other names of the node here; there are none.
            encode::array(out, 0);
        }
    }
}

/// CLUSTER SHARDS: each share of the slots with all its nodes.
pub fn shards(session: &Session<'_>, out: &mut Vec<u8>, protocol: Protocol) {
    let told = told(session);
    encode::array(out, told.len());
    for Told { share, primary, replicas } in told {
        encode::map(out, 2, protocol);
        encode::bulk(out, b"slots");
        encode::array(out, 2);
        encode::integer(out, i64::from(share.first));
        encode::integer(out, i64::from(share.last));
        encode::bulk(out, b"nodes");
        encode::array(out, 1 + replicas.len());
        shard_node(session, primary, "master", out, protocol);
        for node in replicas {
            shard_node(session, node, "replica", out, protocol);
        }
    }
}

fn shard_node(
    session: &Session<'_>,
    node: NodeId,
    role: &str,
    out: &mut Vec<u8>,
    protocol: Protocol,
) {
    let (host, port) = nodes::address_or_here(session, node);
    let is_up = session.node.is_up(session.time, node);
    encode::map(out, 6, protocol);
    encode::bulk(out, b"id");
    encode::bulk(out, nodes::id(session, node).as_bytes());
    encode::bulk(out, b"port");
    encode::integer(out, i64::from(port));
    for (name, value) in [
        ("ip", host.as_str()),
        ("endpoint", host.as_str()),
        ("role", role),
        ("health", if is_up { "online" } else { "fail" }),
    ] {
        encode::bulk(out, name.as_bytes());
        encode::bulk(out, value.as_bytes());
    }
}
