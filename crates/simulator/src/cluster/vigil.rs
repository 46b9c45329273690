//! A look at those who lead, from outside: with the true time, and with what their peers and their
//! disks have really said. A leader that holds a lease when another one is elected, or that leads
//! on although it hears too few or its disk does not answer, is noted; a checker judges.

use super::Cluster;
use super::server::Process;
use super::sink::Output;
use crate::checkers::bounds;
use replication::keyspace::Durability;
use replication::leader_follower::Group;
use replication::{Event, GroupId, NodeId, Position, replicas};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// How late a leader may notice something by its own clock, however wild, in hundredths of the
/// time that it has.
const CLOCK_PERCENT: u64 = 115;
/// What a turn, and whatever is rounded, may take beyond that.
const GRACE_US: u64 = 30_000;

/// What has happened to a process that it must have noticed.
#[derive(Debug, Default)]
pub(super) struct Vigil {
    /// When a frame of a peer was handled last.
    heard_us: BTreeMap<NodeId, u64>,
    /// Records that count only when they are synced, and are not: the newest of a turn, and when
    /// that was.
    unsynced: VecDeque<(Position, u64)>,
    /// Since when it leads.
    leads: BTreeMap<(GroupId, u64), u64>,
}

impl Vigil {
    /// Frames of these peers are handled.
    pub fn heard(&mut self, peers: impl Iterator<Item = NodeId>, at_us: u64) {
        self.heard_us.extend(peers.map(|peer| (peer, at_us)));
    }

    /// The log is synced up to a position.
    pub fn kept(&mut self, synced: Position) {
        while self.unsynced.pop_front_if(|(newest, _)| *newest <= synced).is_some() {}
    }

    /// Its clock stands still for so long: that is no time in which it could notice anything.
    pub fn slept(&mut self, for_us: u64) {
        self.heard_us.values_mut().for_each(|at_us| *at_us += for_us);
        self.unsynced.iter_mut().for_each(|(_, since_us)| *since_us += for_us);
        self.leads.values_mut().for_each(|since_us| *since_us += for_us);
    }

    /// For how long it has led in this epoch.
    fn leads_for(&mut self, group: GroupId, epoch: u64, at_us: u64) -> u64 {
        at_us.saturating_sub(*self.leads.entry((group, epoch)).or_insert(at_us))
    }
}

impl Process {
    /// The groups that the node leads now.
    pub(super) fn led(&self) -> BTreeSet<GroupId> {
        self.node.groups().filter(|group| group.leads()).map(|group| group.id).collect()
    }
}

impl Cluster {
    /// A node's turn is over: who has what clients are shown by it? `led` are the groups that it
    /// led before.
    pub(super) fn note_shown(&mut self, id: NodeId, mut led: BTreeSet<GroupId>, at_us: u64) {
        let process = self.server(id).and_then(|server| server.process.as_ref());
        led.extend(process.map(Process::led).unwrap_or_default());
        self.observations.note_shown(at_us, id, &led);
    }

    /// A node's turn is over.
    pub(super) fn look_at_leaders(
        &mut self,
        id: NodeId,
        output: &Output,
        is_tick: bool,
        at_us: u64,
    ) {
        self.note_who_answers(id, output);
        for event in &output.events {
            match event {
                Event::BecameLeader { group, epoch } => {
                    self.note_overlaps(id, *group, *epoch, at_us);
                }
                Event::PossibleLoss { group, epoch, .. } => self.note_suspects(*group, *epoch),
                _ => {}
            }
        }
        self.note_suspicion(id);
        if let Some(position) = output.to_sync
            && let Some(server) = self.servers.get_mut(usize::from(id.0))
            && let Some(process) = &mut server.process
        {
            process.vigil.unsynced.push_back((position, at_us));
        }
        self.note_unfit(id, is_tick, at_us);
    }

    /// A node's turn is over: are its bounds kept?
    pub(super) fn look_at_bounds(&mut self, id: NodeId) {
        let (name, now_us) = (self.name(id).to_string(), self.now_us);
        let Some(server) = self.servers.get_mut(usize::from(id.0)) else { return };
        let Some(process) = &mut server.process else { return };
        let seen = &mut self.observations;
        let mut count = |what| seen.count(what);
        let limits = &self.plan.limits;
        let kept = bounds::check(&process.node, limits, &mut process.watch, &mut count);
        let kept = kept.and_then(|()| match &self.network.streams {
            Some(streams) => bounds::wire(streams, &process.node, limits, seen.most_entry_bytes),
            None => Ok(()),
        });
        if let Err(text) = kept {
            seen.over_bounds.get_or_insert_with(|| format!("{text} ({name}, at {now_us} us)"));
        }
    }

    fn note_who_answers(&mut self, id: NodeId, output: &Output) {
        let answers = output.replies.iter().filter(|(_, reply)| !reply.is_error());
        let Some(node) = self.server(id).and_then(|server| server.node()) else { return };
        let led = node.groups().filter(|group| group.leads());
        let led: Vec<(GroupId, u64)> = led.map(|group| (group.id, group.epoch())).collect();
        let leaves = output.events.iter().any(|e| matches!(e, Event::SteppedDown { .. }));
        for (request, _) in answers {
            let name = (request.client.0, request.sequence);
            if leaves {
                self.observations.answered_while_leaving.insert(name);
            }
            self.observations.led_at_answer.insert(name, (id, led.clone()));
        }
    }

    /// A leader begins under a possible loss: who may lack something at this moment? Those that
    /// say so, or did when they were last up (the leader itself until a moment ago), and those
    /// that have lost their power and have not got so far as to say it.
    fn note_suspects(&mut self, group: GroupId, epoch: u64) {
        let groups = replicas::all_groups(&self.plan.cluster);
        let members = groups.into_iter().find(|(id, _)| *id == group).map(|(_, nodes)| nodes);
        let is_suspect = |member: &NodeId| {
            let server = self.server(*member);
            let node = server.and_then(|server| server.node());
            self.observations.suspect_now.contains(&(group, *member))
                || server.is_some_and(|server| server.lost_power)
                || node.is_some_and(|node| {
                    node.groups().any(|known| known.id == group && known.is_suspect())
                })
        };
        let suspects = members.unwrap_or_default().into_iter().filter(is_suspect).collect();
        self.observations.suspects.insert((group, epoch), suspects);
    }

    /// Whether a node takes itself for suspect after this turn.
    fn note_suspicion(&mut self, id: NodeId) {
        let Some(node) = self.servers.get(usize::from(id.0)).and_then(|server| server.node())
        else {
            return;
        };
        for group in node.groups() {
            let name = (group.id, id);
            match group.is_suspect() {
                true => self.observations.suspect_now.insert(name),
                false => self.observations.suspect_now.remove(&name),
            };
        }
    }

    /// A node was elected: nobody else may answer reads without asking at this moment.
    fn note_overlaps(&mut self, id: NodeId, group: GroupId, epoch: u64, at_us: u64) {
        let others = self.servers.iter().filter(|server| server.id != id);
        let holders = others.filter_map(|server| {
            let node = server.node()?;
            let now_us = server.clock.time(at_us).monotonic_us;
            let mut groups = node.groups().filter(|known| known.id == group);
            let held =
                groups.find(|known| known.epoch() < epoch && known.holds_lease_at(now_us))?;
            Some((server.id, held.epoch()))
        });
        let overlaps: Vec<String> = holders
            .map(|(other, older)| {
                format!(
                    "{other} held a lease of epoch {older} of {group:?} when {id} began to lead \
                     epoch {epoch}, at {at_us} us"
                )
            })
            .collect();
        self.observations.overlaps.extend(overlaps);
    }

    /// At a tick a leader looks whether it can go on.
    fn note_unfit(&mut self, id: NodeId, is_tick: bool, at_us: u64) {
        let timing = self.plan.timing;
        let Some(server) = self.servers.get_mut(usize::from(id.0)) else { return };
        let Some(process) = &mut server.process else { return };
        let vigil = &mut process.vigil;
        let notice = |us: u64| us * CLOCK_PERCENT / 100 + GRACE_US;
        let silence_us = notice(timing.election_timeout_us + 2 * timing.heartbeat_interval_us);
        let oldest_us = vigil.unsynced.front().map(|(_, since_us)| *since_us);
        for group in process.node.groups().filter(|group| group.leads()) {
            let leads_for = vigil.leads_for(group.id, group.epoch(), at_us);
            if !is_tick || group.members.len() == 1 {
                continue;
            }
            let heard_us = &vigil.heard_us;
            let is_heard = |node: &&NodeId| {
                let heard = heard_us.get(node);
                heard.is_some_and(|heard_us| at_us.saturating_sub(*heard_us) < silence_us)
            };
            let heard = 1 + group.members.iter().filter(is_heard).count();
            if heard < group.quorum.commit && leads_for > silence_us {
                let need = group.quorum.commit;
                self.observations.unfit.push(format!(
                    "{id} leads epoch {} at {at_us} us and has heard {heard} of {need} needed \
                     replicas in {silence_us} us",
                    group.epoch()
                ));
            }
            let stall_us = notice(patience_us(group, &timing));
            let waits = oldest_us.is_some_and(|since_us| at_us.saturating_sub(since_us) > stall_us);
            if waits && leads_for > stall_us && group.options.durability == Durability::Fsync {
                self.observations.unfit.push(format!(
                    "{id} leads epoch {} at {at_us} us although its disk has not answered for \
                     {stall_us} us",
                    group.epoch()
                ));
            }
        }
    }
}

/// For how long a leader may go on after its disk has stopped: until it notices, and hands over in
/// vain; before that, perhaps, by an administrator's order.
fn patience_us(group: &Group, timing: &replication::node::Timing) -> u64 {
    let handover_us = 2 * timing.election_timeout_us;
    group.options.disk_stall_ms * 1_000 + 2 * handover_us + 3 * timing.heartbeat_interval_us
}
