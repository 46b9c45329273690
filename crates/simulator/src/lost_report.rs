//! What a run says about lost writes in the end: the reports of `TF.LOST LIST`, and the truth.

use crate::checkers::lost_write_report::{self, Name, Report, Request, Truth, UNKNOWN};
use crate::checkers::unheard::{End, Reign, Told};
use crate::cluster::Cluster;
use crate::history::History;
use replication::keyspace::{AckLevel, Durability, Model};
use replication::leader_follower::Group;
use replication::leader_follower::lost_writes::Why;
use replication::leader_follower::lost_writes::report::NOT_KNOWN;
use replication::node::lost_writes::message::LostId;
use replication::{GroupId, NodeId, Reply};
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
    let (level, _) = promised(cluster);
    let possible_loss = !seen.losses.is_empty();
    let committed = committed.filter(|_| !possible_loss);
    Truth {
        level,
        possible_loss,
        survivors: seen.asked.keys().copied().filter(survives).chain(committed).collect(),
        entries: seen.asked.clone(),
        answered: seen.answered.clone(),
        leaders: leaders.collect(),
        crashes: seen.crashes.clone(),
        wipes: seen.wipes.clone(),
        torn: torn(cluster),
    }
}

/// At which level the cluster's first keyspace acknowledges, and what of a copy counts.
fn promised(cluster: &Cluster) -> (AckLevel, Durability) {
    let options = cluster.plan().cluster.keyspaces.first().map(|keyspace| match &keyspace.model {
        Model::LeaderFollower(options) => (options.group.ack_level, options.group.durability),
        Model::MultiLeader(options) => (options.group.ack_level, options.group.durability),
        Model::Leaderless(options) => (AckLevel::Durable, options.durability),
    });
    options.unwrap_or((AckLevel::Durable, Durability::Fsync))
}

/// When nodes may have lost, with their power, what they had acknowledged.
fn torn(cluster: &Cluster) -> Vec<(NodeId, u64)> {
    let (_, durability) = promised(cluster);
    let cuts = cluster.observations.power_cuts.iter().map(|(at_us, node)| (*node, *at_us));
    cuts.filter(|_| durability == Durability::Interval).collect()
}

/// How every leadership before the present one has ended, where there is a present one: what its
/// leader had taken in for clients and is in the log no more.
pub fn ends(cluster: &Cluster, history: &History, truth: &Truth) -> Vec<End> {
    let mut present: BTreeMap<GroupId, &Group> = BTreeMap::new();
    let nodes = cluster.servers.iter().filter_map(|server| server.node());
    for group in nodes.flat_map(|node| node.groups()).filter(|group| group.is_serving()) {
        let known = present.entry(group.id).or_insert(group);
        if group.epoch() > known.epoch() {
            *known = group;
        }
    }
    let mut ends: BTreeMap<(GroupId, u64), End> = BTreeMap::new();
    for (name, request) in &truth.entries {
        let (group, entry) = name;
        let Some(present) = present.get(group).filter(|group| group.epoch() > entry.epoch) else {
            continue;
        };
        let in_log = present.epochs.reign_at(entry.index).is_some_and(|r| r.epoch == entry.epoch);
        if in_log && entry.index <= present.last().index {
            continue;
        }
        let key = (*group, entry.epoch);
        let end = ends.entry(key).or_insert_with(|| End {
            group: *group,
            epoch: entry.epoch,
            lost: 0,
            acknowledged: 0,
            reign: reign(present, truth, name),
        });
        end.lost += 1;
        end.acknowledged += u64::from(lost_write_report::was_promised(history, truth, request));
    }
    ends.into_values().collect()
}

fn reign(group: &Group, truth: &Truth, name: &Name) -> Option<Reign> {
    let epoch = name.1.epoch;
    let reign = group.epochs.reign_of(epoch)?;
    let next = group.epochs.reign_at(group.epochs.first_index_after(epoch)?)?;
    let same_disk = (reign.leader, reign.incarnation) == (next.leader, next.incarnation);
    // What its power has taken it cannot have seen.
    let led_on = same_disk && !truth.befell(name, &truth.torn);
    Some(Reign { heard_out: reign.heard_out > 0, led_on })
}

/// What the leaders say of earlier ones that were not heard out.
pub fn told(cluster: &Cluster) -> Vec<Told> {
    let nodes = cluster.servers.iter().filter_map(|server| server.node());
    let groups = nodes.flat_map(|node| node.groups());
    let told = groups.flat_map(|group| {
        group.unheard().map(|unheard| Told {
            group: group.id,
            epoch: unheard.epoch,
            at_most: unheard.at_most,
        })
    });
    told.collect()
}

/// What LIST says: the reports, and what is told of leaders that were not heard out.
pub type Listed = (Vec<Report>, Vec<Told>);

/// Of which leaders nobody may ever hear all.
pub struct Excuses {
    /// The names of nodes that have come back with another disk.
    gone: Vec<String>,
    /// The names of nodes that may have lost with their power what they had acknowledged: they are
    /// told of in these words only.
    torn: Vec<String>,
    /// A leader began under a possible loss: of nobody who led before that.
    possible_loss: bool,
}

impl Excuses {
    /// What has befallen a cluster.
    pub fn of(cluster: &Cluster) -> Excuses {
        let seen = &cluster.observations;
        let gone = seen.wipes.iter().map(|(node, _)| *node).chain(seen.repaired.iter().copied());
        let torn = torn(cluster).into_iter().map(|(node, _)| node);
        let name = |node| cluster.name(node).to_string();
        Excuses {
            gone: gone.map(name).collect(),
            torn: torn.map(name).collect(),
            possible_loss: !seen.losses.is_empty(),
        }
    }

    fn allow(&self, leader: &String, why: &str) -> bool {
        let is_torn = why == Why::Torn.word() && self.torn.contains(leader);
        self.possible_loss || self.gone.contains(leader) || is_torn
    }
}

/// The reports in LIST's reply; `None` while a node that could know of others is not heard, or a
/// leader not heard out that can be: its disk may stall long after all replicas are equal.
///
/// # Errors
/// What of the reply is not as documented.
pub fn reports(reply: &Reply<'_>, excuses: &Excuses) -> Result<Option<Listed>, String> {
    let Reply::Array(parts) = reply else { return Err(format!("TF.LOST LIST: {reply:?}")) };
    let (mut reports, mut told) = (Vec::new(), Vec::new());
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
            "unheard" if excuses.allow(&word("leader")?, &word("why")?) => {
                let id = LostId::parse(word("id")?.as_bytes()).ok_or(format!("no id: {part:?}"))?;
                let at_most = match field("at_most") {
                    Some(Reply::Integer(number)) => u64::try_from(*number).ok(),
                    _ => None,
                };
                let (group, epoch) = (id.group, id.entry.epoch);
                told.push(Told { group, epoch, at_most });
                continue;
            }
            "unheard" if word("why")? == Why::Away.word() => return Ok(None),
            // Every leader is back, and has been heard out.
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
    Ok(Some((reports, told)))
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
