//! What goes to and comes from other datacenters: the entries that a group has committed become
//! updates; `take_in.rs` makes entries of updates.

use super::take_in::{take, take_page};
use crate::leader_follower::Group;
use crate::leader_follower::entry::{Entry, Origin, Payload, Shared};
use crate::multi_leader::MultiLeader;
use crate::multi_leader::leader;
use crate::multi_leader::message::{Message, Page, Pull, Updates};
use crate::multi_leader::sync::{
    self, Batch, Due, NODE_WINDOW_BYTES, PAGES_PER_TURN_MAX, PART_BYTES, Place, Stream, Update,
    Verdict, Waiting,
};
use crate::multi_leader::{are_siblings, catch_up};
use crate::mutant::Mutant;
use crate::node::{Limits, Roles};
use crate::turn::Turn;
use crate::{Event, GroupId, Message as AnyMessage, NodeId};
use alloc::borrow::Cow;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;

impl Roles {
    pub(in crate::node) fn on_multi_leader(
        &mut self,
        turn: &mut Turn<'_>,
        from: NodeId,
        message: Message<'_>,
    ) {
        let (here, there) = (message.to_group(), message.from_group());
        let is_member = self.placement.get(&there).is_some_and(|nodes| nodes.contains(&from));
        if !is_member || !are_siblings(here, there) {
            return;
        }
        if !self.groups.get(&here).is_some_and(Group::takes_in) {
            return;
        }
        match message {
            Message::Pull(pull) => self.on_pull(turn, from, pull),
            Message::Updates(updates) => self.on_updates(turn, from, &updates),
            Message::Page(page) => self.on_page(turn, from, &page),
        }
    }

    /// Another datacenter's leader asks for what is committed here.
    fn on_pull(&mut self, turn: &mut Turn<'_>, node: NodeId, pull: Pull) {
        let Some(group) = self.groups.get(&pull.source) else { return };
        let key = (pull.source, pull.target);
        let MultiLeader { waiting, on_way, buffer, .. } = &mut self.multi_leader;
        let is_known = |w: &&mut Waiting| w.node == node && w.pull.number == pull.number;
        if let Some(known) = waiting.get_mut(&key).filter(is_known) {
            // The turn's end goes on with the answer.
            return known.on_progress(pull);
        }
        let at_once = pull.again;
        let before = waiting.get(&key).filter(|before| before.node == node);
        let mut asked = Waiting::new(node, pull, before);
        let node_bytes = of_node(on_way, node);
        let limits = limits_for(&self.limits, *node_bytes);
        let message = answer(group, &mut asked, at_once, &limits, buffer);
        *node_bytes += asked.on_way();
        waiting.insert(key, asked);
        if let Some(message) = message {
            turn.send(node, AnyMessage::MultiLeader(message));
        }
    }

    /// Committed entries of another datacenter.
    fn on_updates(&mut self, turn: &mut Turn<'_>, from: NodeId, updates: &Updates<'_>) {
        let heartbeat_us = self.timing.heartbeat_interval_us;
        let now_us = turn.now.monotonic_us;
        let Some(group) = self.groups.get_mut(&updates.target) else { return };
        let stream = self.multi_leader.streams.get_mut(&(updates.target, updates.source));
        let Some(stream) = stream.filter(|stream| stream.epoch == group.epoch()) else { return };
        let place = stream.place(from, updates.number, updates.after);
        if place == Place::BehindGap {
            return stream.close();
        }
        let expected = place == Place::Next;
        // What the source covers need not go there.
        let waiting = self.multi_leader.waiting.get_mut(&(updates.target, updates.source));
        if let Some(waiting) = waiting.filter(|waiting| waiting.node == from && expected) {
            waiting.pull.covered.merge(&updates.covered);
        }
        if !expected && !turn.local.mutants.is(Mutant::ApplyTwice) {
            return;
        }
        let result = take(group, turn, updates);
        if !expected {
            return;
        }
        match result {
            Ok((taken, held)) => {
                stream.took(now_us, taken, updates.updates.len(), heartbeat_us);
                if held && stream.alarm() {
                    self.tell_held(turn, updates.source);
                }
            }
            Err(_) => {
                stream.rest(now_us, heartbeat_us);
                turn.event(Event::Alarm(Cow::Borrowed("malformed updates of a datacenter")));
            }
        }
    }

    /// A piece of another datacenter's state, whose log does not reach back so far.
    fn on_page(&mut self, turn: &mut Turn<'_>, from: NodeId, page: &Page<'_>) {
        let heartbeat_us = self.timing.heartbeat_interval_us;
        let now_us = turn.now.monotonic_us;
        let Some(group) = self.groups.get_mut(&page.target) else { return };
        let stream = self.multi_leader.streams.get_mut(&(page.target, page.source));
        let Some(stream) = stream.filter(|stream| stream.epoch == group.epoch()) else { return };
        let first_slot = group.state.store.first_slot();
        match stream.place_of_page(from, page.number, page.first_slot, first_slot) {
            Place::Next => {}
            Place::Old => return,
            Place::BehindGap => return stream.close(),
        }
        let Some(transfer) = catch_up::Transfer::after(stream.transfer(), page, first_slot) else {
            return stream.rest(now_us, heartbeat_us);
        };
        match take_page(group, turn, page) {
            Ok(None) => {
                if transfer.is_complete() {
                    group.append(turn, None, Payload::Covers(transfer.covered().clone()));
                }
                stream.took_page(now_us, transfer, page.records.len());
            }
            Ok(Some(verdict)) => {
                stream.rest(now_us, heartbeat_us);
                if verdict == Verdict::Ahead && stream.alarm() {
                    self.tell_held(turn, page.source);
                }
            }
            Err(_) => {
                stream.rest(now_us, heartbeat_us);
                turn.event(Event::Alarm(Cow::Borrowed("malformed records of a datacenter")));
            }
        }
    }

    fn tell_held(&self, turn: &mut Turn<'_>, source: GroupId) {
        let datacenters = &self.cluster.datacenters;
        let name = datacenters.get(usize::from(source.datacenter.0)).map_or("?", |name| name);
        let text = alloc::format!(
            "writes of datacenter {name} are held: their stamps are more than {} ms ahead of this \
             node's clock",
            leader::MAX_SKEW_MS
        );
        turn.event(Event::Alarm(Cow::Owned(text)));
    }

    /// A tick: for each group that this node leads there is a stream from every other datacenter,
    /// and no stream outlives its leadership.
    pub(in crate::node) fn tend_streams(&mut self) {
        let multi_leader = &mut self.multi_leader;
        let groups = &self.groups;
        multi_leader
            .waiting
            .retain(|(source, _), _| groups.get(source).is_some_and(Group::is_serving));
        multi_leader.streams.retain(|(target, _), stream| {
            groups.get(target).is_some_and(|g| g.is_serving() && g.epoch() == stream.epoch)
        });
        for group in groups.values().filter(|group| group.is_serving()) {
            let sources = self.placement.keys().filter(|id| are_siblings(**id, group.id));
            for source in sources {
                let new = || Stream::new(group.epoch());
                multi_leader.streams.entry((group.id, *source)).or_insert_with(new);
            }
        }
    }

    /// Nothing more this turn: asks the other datacenters, and answers those that wait.
    pub(in crate::node) fn exchange(&mut self, turn: &mut Turn<'_>) {
        let MultiLeader { streams, waiting, keeps_logs, on_way, .. } = &mut self.multi_leader;
        if streams.is_empty() && waiting.is_empty() && !*keeps_logs {
            return on_way.clear();
        }
        let mut streams = core::mem::take(streams);
        for ((target, source), stream) in &mut streams {
            self.pull(turn, *target, *source, stream);
        }
        self.multi_leader.streams = streams;
        let (groups, limits) = (&self.groups, &self.limits);
        let MultiLeader { waiting, on_way, buffer, .. } = &mut self.multi_leader;
        waiting.retain(|(source, _), _| groups.get(source).is_some_and(Group::is_serving));
        on_way.fill(0);
        for waiting in waiting.values() {
            *of_node(on_way, waiting.node) += waiting.on_way();
        }
        for ((source, _), waiting) in waiting {
            let Some(group) = groups.get(source) else { continue };
            let node_bytes = of_node(on_way, waiting.node);
            let mut pages = 0;
            while waiting.has_room(*node_bytes)
                && pages < PAGES_PER_TURN_MAX
                && (waiting.more || has_news(group, waiting))
            {
                let before = waiting.on_way();
                let limits = limits_for(limits, *node_bytes);
                let Some(message) = answer(group, waiting, false, &limits, buffer) else { break };
                pages += usize::from(matches!(message, Message::Page(_)));
                turn.send(waiting.node, AnyMessage::MultiLeader(message));
                *node_bytes += waiting.on_way().saturating_sub(before);
            }
        }
        self.keep_logs();
    }

    /// Whoever was sent the state of a group goes on with its log: that must reach back so far.
    fn keep_logs(&mut self) {
        let MultiLeader { waiting, keeps_logs, .. } = &mut self.multi_leader;
        let needs = |id: GroupId| {
            let of_group = waiting.iter().filter(move |((source, _), _)| *source == id);
            of_group.filter_map(|(_, waiting)| waiting.needs_log_after).min()
        };
        let any = waiting.values().any(|waiting| waiting.needs_log_after.is_some());
        if any || *keeps_logs {
            for group in self.groups.values_mut().filter(|group| group.merges()) {
                group.needed_after = needs(group.id).unwrap_or(u64::MAX);
            }
        }
        *keeps_logs = any;
    }

    fn pull(&self, turn: &mut Turn<'_>, target: GroupId, source: GroupId, stream: &mut Stream) {
        let Some(group) = self.groups.get(&target).filter(|group| group.takes_in()) else {
            return;
        };
        let Some(leader) = self.leader_of(turn, source) else { return };
        let now_us = turn.now.monotonic_us;
        let due = stream.due(now_us, leader, self.timing.heartbeat_interval_us);
        let Some(due) = due.filter(|_| group.epoch() == stream.epoch) else { return };
        let number = match due {
            Due::Progress => 0,
            Due::Question | Due::Again => turn.local.random.next_u64(),
        };
        let first_slot = group.state.store.first_slot();
        let (number, taken_bytes, wants) = stream.say((now_us, leader, first_slot), due, number);
        let (again, covered) = (due == Due::Again, group.covered.clone());
        let pull = Pull { source, target, number, again, taken_bytes, wants, covered };
        turn.send(leader, AnyMessage::MultiLeader(Message::Pull(pull)));
    }

    /// The connection to a node broke.
    pub(in crate::node) fn lose_streams(&mut self, node: NodeId) {
        for stream in self.multi_leader.streams.values_mut() {
            stream.on_peer_lost(node);
        }
        self.multi_leader.waiting.retain(|_, waiting| waiting.node != node);
    }
}

/// Bytes of answers that are on their way to a node.
fn of_node(on_way: &mut Vec<u64>, node: NodeId) -> &mut u64 {
    let place = usize::from(node.0);
    if place >= on_way.len() {
        on_way.resize(place + 1, 0);
    }
    &mut on_way[place]
}

/// How long one answer may be to a node that has so many bytes on their way to it.
fn limits_for(limits: &Limits, node_bytes: u64) -> Limits {
    if node_bytes < NODE_WINDOW_BYTES {
        return *limits;
    }
    Limits {
        append_bytes_max: limits.append_bytes_max.min(PART_BYTES),
        image_bytes_max: limits.image_bytes_max.min(PART_BYTES),
        ..*limits
    }
}

/// Whether something of the own datacenter is committed that a puller who waits lacks.
fn has_news(group: &Group, waiting: &mut Waiting) -> bool {
    let (from, commit) = (waiting.passed.max(waiting.looked_at), group.commit());
    if commit <= from {
        return false;
    }
    waiting.looked_at = commit;
    // Where the log does not reach back so far, the answer says it.
    let Some(mut entries) = group.committed_after(from) else { return true };
    entries.any(|(_, body)| {
        let Ok(Some(dot)) = Entry::dot_of(body) else { return false };
        leader::is_of(dot.actor, group.id.datacenter) && !waiting.pull.covered.covers(dot)
    })
}

/// The answer to a pull, if there is one, made in a buffer: with `at_once`, even with nothing.
fn answer<'b>(
    group: &Group,
    waiting: &mut Waiting,
    at_once: bool,
    limits: &Limits,
    buffer: &'b mut Vec<u8>,
) -> Option<Message<'b>> {
    let pull = &waiting.pull;
    if let Some(first_slot) = waiting.next_slot {
        return page(group, waiting, first_slot, limits);
    }
    let from = waiting.passed.min(group.commit());
    let (commit, bytes_max) = (group.commit(), limits.append_bytes_max);
    let mut batch = Batch::new(from, &pull.covered, bytes_max, core::mem::take(buffer));
    let entries = match group.committed_after(from) {
        Some(entries) => entries,
        None if pull.covered.covers_all(&group.covered) => {
            return Some(updates(group, waiting, commit, &[]));
        }
        None if log_suffices(group, pull) => group.committed_after(group.log_start())?,
        None => return page(group, waiting, group.state.store.first_slot(), limits),
    };
    for (index, body) in entries {
        let dot = Entry::dot_of(body).ok().flatten();
        let update = match dot.is_some_and(|dot| !pull.covered.covers(dot)) {
            true => update_of(index, body),
            false => None,
        };
        if !batch.offer(index, body.len(), update.as_ref()) {
            break;
        }
    }
    let to = batch.to;
    *buffer = batch.updates;
    (waiting.passed, waiting.more) = (to, to < commit);
    let wait = buffer.is_empty() && to == commit && !at_once && !waiting.is_far();
    (!wait).then(|| updates(group, waiting, to, buffer))
}

/// The next part of an answer, up to an index of this group's log.
fn updates<'b>(group: &Group, waiting: &mut Waiting, to: u64, bytes: &'b [u8]) -> Message<'b> {
    let (after, last) = (waiting.told, to == group.commit());
    waiting.sent(to, bytes.len(), !last);
    let pull = &waiting.pull;
    Message::Updates(Updates {
        source: pull.source,
        target: pull.target,
        number: pull.number,
        after,
        to,
        last,
        covered: group.covered.clone(),
        updates: Cow::Borrowed(bytes),
    })
}

/// `None` while some slots contain more than the vector says.
fn page(
    group: &Group,
    waiting: &mut Waiting,
    first_slot: u16,
    limits: &Limits,
) -> Option<Message<'static>> {
    (waiting.next_slot, waiting.more) = (Some(first_slot), true);
    if group.state.ahead_of(group.commit()).is_some() {
        return None;
    }
    let image = group.state.image(first_slot, limits.image_bytes_max, group.commit());
    let done = image.last_slot == group.state.store.last_slot();
    let next_slot = if done { None } else { image.last_slot.checked_add(1) };
    waiting.sent_page(group.commit(), next_slot, image.records.len());
    let pull = &waiting.pull;
    Some(Message::Page(Page {
        source: pull.source,
        target: pull.target,
        number: pull.number,
        commit: group.commit(),
        covered: group.covered.clone(),
        first_slot,
        last_slot: image.last_slot,
        done,
        records: image.records,
    }))
}

/// Whether the log still holds everything that a puller lacks, although it does not reach back
/// to where he has got.
fn log_suffices(group: &Group, pull: &Pull) -> bool {
    let Some(entries) = group.committed_after(group.log_start()) else { return false };
    let mut first = BTreeMap::new();
    for (_, body) in entries {
        if let Ok(Some(dot)) = Entry::dot_of(body) {
            first.entry(dot.actor).or_insert(dot.counter);
        }
    }
    sync::log_suffices(&pull.covered, &group.covered, &first)
}

/// What an entry is to other datacenters; `None` if it is nothing to them.
fn update_of(index: u64, body: &[u8]) -> Option<Update<'_>> {
    let Shared { stamp, origin: Origin { dot, dependencies }, changes } =
        Entry::shared(body).ok().flatten()?;
    Some(Update { index, dot, stamp, dependencies, changes: Cow::Borrowed(changes) })
}
