//! What a run says about lost writes in the end: the reports of `TF.LOST LIST`, and the truth.

use crate::checkers::lost_write_report::{Name, Report, Request, Truth, UNKNOWN};
use crate::cluster::Cluster;
use replication::keyspace::{AckLevel, Durability, Model};
use replication::leader_follower::Group;
use replication::leader_follower::lost_writes::report::NOT_KNOWN;
use replication::node::lost_writes::message::LostId;
use replication::{GroupId, Reply};
use std::collections::BTreeMap;

/// The truth about a cluster that has come to rest.
pub fn truth(cluster: &Cluster) -> Truth {
    let seen = &cluster.observations;
    let leaders = seen.leaderships.iter().map(|l| ((l.group, l.epoch), (l.node, l.at_us)));
    let mut groups: BTreeMap<GroupId, &Group> = BTreeMap::new();
    for node in cluster.servers.iter().filter_map(|server| server.node()) {
        groups.extend(node.groups().map(|group| (group.id, group)));
    }
    let survives = |(group, entry): &Name| {
        groups.get(group).is_some_and(|group| {
            let reign = group.epochs.reign_at(entry.index);
            entry.index <= group.commit() && reign.is_some_and(|reign| reign.epoch == entry.epoch)
        })
    };
    // Whatever anybody has taken for committed has survived, or another checker says so.
    let committed = seen.commits.iter().map(|commit| (commit.group, commit.entry));
    let options = cluster.plan().cluster.keyspaces.first().map(|keyspace| match &keyspace.model {
        Model::LeaderFollower(options) => (options.group.ack_level, options.group.durability),
        Model::MultiLeader(options) => (options.group.ack_level, options.group.durability),
        Model::Leaderless(options) => (AckLevel::Durable, options.durability),
    });
    let (level, durability) = options.unwrap_or((AckLevel::Durable, Durability::Fsync));
    let possible_loss = !seen.losses.is_empty();
    let committed = committed.filter(|_| !possible_loss);
    let mut wipes = seen.wipes.clone();
    if durability == Durability::Interval {
        // What was written and not synced, and acknowledged, is gone with the power.
        wipes.extend(seen.power_cuts.iter().map(|(at_us, node)| (*node, *at_us)));
    }
    Truth {
        level,
        possible_loss,
        survivors: seen.asked.keys().copied().filter(survives).chain(committed).collect(),
        entries: seen.asked.clone(),
        answered: seen.answered.clone(),
        leaders: leaders.collect(),
        crashes: seen.crashes.clone(),
        wipes,
    }
}

/// The reports in LIST's reply; `None` while a node that could know of others is not heard. `gone`
/// are the names of nodes that have come back with another disk: of what one of them had led
/// before, nobody hears again.
///
/// # Errors
/// What of the reply is not as documented.
pub fn reports(reply: &Reply<'_>, gone: &[String]) -> Result<Option<Vec<Report>>, String> {
    let Reply::Array(parts) = reply else { return Err(format!("TF.LOST LIST: {reply:?}")) };
    let mut reports = Vec::new();
    for part in parts {
        let Reply::Array(fields) = part else { return Err(format!("TF.LOST LIST: {part:?}")) };
        let field = |name: &str| {
            let mut pairs = fields.chunks_exact(2);
            pairs.find_map(|pair| (text(pair.first()?)? == name).then(|| pair.get(1))?)
        };
        let word = |name: &str| {
            field(name).and_then(text).ok_or(format!("TF.LOST LIST: no {name} in {part:?}"))
        };
        match &*word("kind")? {
            "unreachable" => return Ok(None),
            "lost-write" => {}
            "unheard" if gone.contains(&word("leader")?) => continue,
            // What an earlier leader was heard to have: it is back, and has been heard, too.
            kind => return Err(format!("TF.LOST LIST: {kind} in the end: {part:?}")),
        }
        let id = LostId::parse(word("id")?.as_bytes()).ok_or(format!("no id: {part:?}"))?;
        let request = word("request")?;
        let request = match request.as_str() {
            NOT_KNOWN => UNKNOWN,
            request => request_of(request).ok_or(format!("TF.LOST LIST: request {request}"))?,
        };
        let status = word("status")?;
        let name = (id.group, id.entry);
        reports.push(Report { name, request, status });
    }
    Ok(Some(reports))
}

fn request_of(text: &str) -> Option<Request> {
    let mut numbers = text.rsplit('/').map(str::parse::<u64>);
    let (Some(Ok(sequence)), Some(Ok(connection))) = (numbers.next(), numbers.next()) else {
        return None;
    };
    Some((connection, sequence))
}

fn text(reply: &Reply<'_>) -> Option<String> {
    match reply {
        Reply::Bulk(bytes) => Some(String::from_utf8_lossy(bytes).into_owned()),
        _ => None,
    }
}
