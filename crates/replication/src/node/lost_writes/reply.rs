//! Lost writes as replies: each is a flat array of names and values, so that RESP2 clients can
//! read it, too. `docs/commands.md` describes the shape.

use super::message::{Answer, Found, LostId};
use crate::keyspace::Cluster;
use crate::leader_follower::lost_writes::Unheard;
use crate::leader_follower::lost_writes::report::{LostChange, NOT_KNOWN, Status, What};
use crate::storage::record::Record;
use crate::{GroupId, NodeId, Reply};
use alloc::borrow::Cow;
use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

/// LIST's reply.
pub(super) fn list(
    cluster: &Cluster,
    answer: &Answer,
    next: Option<LostId>,
    silent: impl Iterator<Item = NodeId>,
) -> Reply<'static> {
    let mut all: Vec<Reply<'static>> = Vec::new();
    all.extend(answer.found.iter().map(|(id, found)| report(cluster, id, found)));
    all.extend(answer.unheard.iter().map(|(group, unheard)| of_unheard(cluster, *group, unheard)));
    all.extend(answer.given_up.iter().map(|(group, count)| {
        fields(vec![
            ("kind", text("given-up")),
            ("id", text(LostId::of_given_up(*group).print())),
            ("keyspace", keyspace(cluster, *group)),
            ("partition", number(u64::from(group.partition))),
            ("count", number(*count)),
        ])
    }));
    if answer.more > 0 {
        let after = next.map_or(Reply::Nil, |id| text(id.print()));
        let count = number(answer.more);
        all.push(fields(vec![("kind", text("more")), ("count", count), ("after", after)]));
    }
    let unreachable =
        |node| fields(vec![("kind", text("unreachable")), ("node", name(cluster, node))]);
    all.extend(silent.map(unreachable));
    Reply::Array(all)
}

/// One lost write.
pub(super) fn report(cluster: &Cluster, id: &LostId, found: &Found) -> Reply<'static> {
    let write = &found.write;
    let (at_ms, level) = match write.status {
        Status::Acknowledged { at_ms, level } => (number(at_ms), text(format!("{level}"))),
        Status::NotAcknowledged | Status::Maybe => (Reply::Nil, Reply::Nil),
    };
    let (what, changes) = match &write.what {
        What::Changes(changes) => ("changes", changes.as_slice()),
        What::Everything => ("removed all keys", &[][..]),
    };
    let mut changes = changes.iter();
    let nothing = || CHANGE.map(|name| (name, Reply::Nil));
    let first = changes.next().map_or_else(nothing, change);
    let others = changes.map(|other| fields(change(other).to_vec())).collect();
    let asker = &write.asker;
    let node = node_name(cluster, asker.node);
    let request = match &*asker.label == NOT_KNOWN.as_bytes() {
        true => String::from(NOT_KNOWN),
        false => format!("{node}/{}/{}", asker.client.0, asker.sequence),
    };
    let leader = write.leader.map_or(Reply::Nil, |(node, _)| name(cluster, node));
    let mut all = vec![
        ("kind", text("lost-write")),
        ("id", text(id.print())),
        ("keyspace", keyspace(cluster, id.group)),
        ("status", text(write.status.word())),
        ("what", text(what)),
        ("client", Reply::Bulk(Cow::Owned(asker.label.to_vec()))),
        ("request", text(request)),
        ("acknowledged_at", at_ms),
        ("level", level),
        ("epoch", number(write.id.epoch)),
        ("index", number(write.id.index)),
        ("leader", leader),
        ("lost_at", number(write.cut_at_ms)),
        ("shortened", number(u64::from(found.shortened))),
    ];
    all.extend(first);
    all.push(("others", Reply::Array(others)));
    fields(all)
}

/// What is told of each key.
const CHANGE: [&str; 4] = ["key", "old", "new", "expires_at"];

fn change(change: &LostChange) -> [(&'static str, Reply<'static>); 4] {
    let value = |record: &Option<Record<'static>>| {
        let value = record.as_ref().and_then(Record::value);
        value.map_or(Reply::Nil, |value| Reply::Bulk(Cow::Owned(value.into_owned())))
    };
    let expires_at = change.new.as_ref().and_then(|record| record.expires_at_ms);
    let [key, old, new, deadline] = CHANGE;
    [
        (key, Reply::Bulk(Cow::Owned(change.key.clone()))),
        (old, value(&change.old)),
        (new, value(&change.new)),
        (deadline, expires_at.map_or(Reply::Nil, number)),
    ]
}

/// What is told of a leader that was not heard out.
pub(super) fn of_unheard(cluster: &Cluster, group: GroupId, unheard: &Unheard) -> Reply<'static> {
    fields(vec![
        ("kind", text("unheard")),
        ("id", text(LostId::of_unheard(group, unheard.epoch).print())),
        ("keyspace", keyspace(cluster, group)),
        ("partition", number(u64::from(group.partition))),
        ("leader", name(cluster, unheard.leader)),
        ("epoch", number(unheard.epoch)),
        ("at_least", number(unheard.at_least)),
        ("at_most", unheard.at_most.map_or(Reply::Nil, number)),
        ("first_index", number(unheard.first)),
        ("why", text(unheard.why.word())),
    ])
}

/// A node's name.
pub(super) fn node_name(cluster: &Cluster, node: NodeId) -> String {
    cluster.member(node).map_or_else(|| format!("{node}"), |member| member.name.clone())
}

fn name(cluster: &Cluster, node: NodeId) -> Reply<'static> {
    text(node_name(cluster, node))
}

fn keyspace(cluster: &Cluster, group: GroupId) -> Reply<'static> {
    let prefix = cluster.keyspace(group.keyspace).map_or(Vec::new(), |k| k.prefix.clone());
    Reply::Bulk(Cow::Owned(prefix))
}

fn fields(fields: Vec<(&'static str, Reply<'static>)>) -> Reply<'static> {
    Reply::Array(fields.into_iter().flat_map(|(name, value)| [text(name), value]).collect())
}

fn text(text: impl Into<String>) -> Reply<'static> {
    Reply::Bulk(Cow::Owned(text.into().into_bytes()))
}

fn number(number: u64) -> Reply<'static> {
    Reply::Integer(i64::try_from(number).unwrap_or(i64::MAX))
}
