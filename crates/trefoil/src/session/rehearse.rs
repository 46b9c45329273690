//! TF.REHEARSE: what an election timeout would have done here in the last day, as JSON.

use super::status::{joined, name_of, quoted};
use super::{Session, text, wrong_count};
use crate::resp::encode;
use replication::node::heartbeat_gaps::{Gap, GapKind, HeartbeatGaps};
use replication::{Arguments, NodeId};

/// Gaps that are listed for each node.
const LISTED_GAPS_MAX: usize = 8;
/// A longer timeout than a day cannot be tried on a day; milliseconds.
const TIMEOUT_MS_MAX: u64 = 86_400_000;

/// TF.REHEARSE timeout-ms
pub fn execute(arguments: Arguments<'_>, session: &mut Session<'_>, out: &mut Vec<u8>) {
    if arguments.len() != 2 {
        return wrong_count(out, "tf.rehearse");
    }
    let least_ms = session.node.timing().silence_us().div_ceil(1_000);
    match text(arguments.get(1)).parse::<u64>() {
        Ok(timeout_ms) if (least_ms..=TIMEOUT_MS_MAX).contains(&timeout_ms) => {
            encode::bulk(out, json(session, timeout_ms).as_bytes());
        }
        _ => {
            let error = format!(
                "ERR a timeout is a number of milliseconds from {least_ms}, twice the time \
                 between heartbeats, to {TIMEOUT_MS_MAX}"
            );
            encode::error(out, &error);
        }
    }
}

fn json(session: &Session<'_>, timeout_ms: u64) -> String {
    let timing = session.node.timing();
    let peers = (0..session.state.cluster.members.len() as u16).map(NodeId);
    let peers = peers.filter(|node| *node != session.state.me).filter_map(|node| {
        Some(peer(session, node, session.node.heartbeat_gaps(node)?, timeout_ms))
    });
    format!(
        "{{\"node\":{},\"timeout_ms\":{timeout_ms},\"present_timeout_ms\":{},\
         \"heartbeat_interval_ms\":{},\"peers\":[{}]}}",
        name_of(session, session.state.me),
        timing.election_timeout_us / 1_000,
        timing.heartbeat_interval_us / 1_000,
        joined(peers),
    )
}

/// What one other node's silences would have caused.
fn peer(session: &Session<'_>, node: NodeId, gaps: &HeartbeatGaps, timeout_ms: u64) -> String {
    let counted = |name: &str, kind: GapKind, timeout_us: u64| {
        let found = gaps.elections(session.time, timeout_us, kind);
        format!("\"{name}\":{{\"least\":{},\"most\":{}}}", found.least, found.most)
    };
    let (wanted_us, now_us) = (timeout_ms * 1_000, session.node.timing().election_timeout_us);
    let leads = session.node.follows_in(node).into_iter().map(|(group, votes)| {
        let keyspace = session.state.cluster.keyspace(group.keyspace);
        let prefix = keyspace.map_or(String::new(), |k| k.prefix.escape_ascii().to_string());
        let partition = group.partition;
        let prefix = quoted(&prefix);
        format!("{{\"prefix\":{prefix},\"partition\":{partition},\"votes\":{votes}}}")
    });
    let longest = gaps.longest(session.time).into_iter().take(LISTED_GAPS_MAX).map(|gap| {
        let Gap { us, end_ms, kind } = gap;
        let kind = match kind {
            GapKind::LeaderPaused => "leader-paused",
            GapKind::LeaderRestarted => "leader-restarted",
            GapKind::NoLeader => "no-leader",
        };
        format!("{{\"ms\":{},\"end_ms\":{end_ms},\"kind\":\"{kind}\"}}", us / 1_000)
    });
    format!(
        "{{\"node\":{},\"recorded_ms\":{},\"leads\":[{}],{},{},{},\"longest\":[{}]}}",
        name_of(session, node),
        gaps.recorded_us(session.time) / 1_000,
        joined(leads),
        counted("elections", GapKind::LeaderPaused, wanted_us),
        counted("present_elections", GapKind::LeaderPaused, now_us),
        counted("restarts", GapKind::LeaderRestarted, wanted_us),
        joined(longest),
    )
}
