//! A node's turn: its inputs one after another, `TurnEnd`, then what it had to say.

use super::server::Process;
use super::sink::{Output, Sink};
use super::{Cluster, Happening, Outside, Timer, Trip, describe};
use crate::disk::DiskFailure;
use crate::observe::{Commit, Observations};
use crate::promises;
use replication::frame;
use replication::leader_follower::Group;
use replication::mutant::Mutant;
use replication::{ClientId, Event, Input, NodeId, Position, Reply, RequestId, Requests, Span};
use std::rc::Rc;

/// How long a node takes from an arrival to the turn that handles it.
const WAKE_US: (u64, u64) = (5, 60);
/// How long one input takes.
const INPUT_US: (u64, u64) = (1, 8);

/// How many arrivals one turn takes at most, as one wait for ready sockets returns only so many.
const TURN_ARRIVALS_MAX: u64 = 8;
/// Payloads are never longer, for nothing in a simulation is.
const FRAME_BYTES_MAX: usize = 64 << 20;
/// How long after a refusal the sender notices that its connection is closed.
const CLOSE_US: u64 = 200;
/// Within how long what was kept back arrives.
const KEPT_BACK_SPREAD_US: u64 = 20_000;

/// What waits for a node's next turn.
pub(super) enum Arrival {
    Frame { from: NodeId, frame: Rc<Vec<u8>> },
    Request { connection: ClientId, sequence: u64, words: Vec<String> },
    Hangup(ClientId),
    PeerLost(NodeId),
    Durable { written: Position, synced: Position },
    Tick,
}

impl Cluster {
    /// Something reaches a node; a node that is down never knows.
    pub(super) fn deliver(&mut self, to: NodeId, arrival: Arrival) {
        let wake = self.random.range(WAKE_US.0, WAKE_US.1);
        let now_us = self.now_us;
        let Some(server) = self.servers.get_mut(usize::from(to.0)) else { return };
        let process_number = server.process_number;
        let Some(process) = &mut server.process else { return };
        process.inbox.push(arrival);
        if process.turn_at.is_none() {
            let at_us = (now_us + wake).max(process.busy_until);
            process.turn_at = Some(at_us);
            self.schedule(at_us, Happening::Turn { node: to, process: process_number });
        }
    }

    /// The disk has finished something.
    pub(super) fn disk_done(&mut self, id: NodeId, process: u64) {
        let now_us = self.now_us;
        let Some(server) = self.servers.get_mut(usize::from(id.0)) else { return };
        if server.process_number != process || server.process.is_none() {
            return;
        }
        if server.disk_due_us != Some(now_us) {
            // A rest that was broken off by a batch.
            return;
        }
        if let Some(late) = server.disk.was_late() {
            self.observations.count(late);
        }
        let (written, synced, next) = match server.disk.done(&mut self.random) {
            Ok(done) => done,
            Err(DiskFailure::Error) if self.plan.mutants.is(Mutant::SyncRetried) => {
                server.disk.lose_silently();
                server.disk_due_us = Some(now_us + 1);
                return self.schedule(now_us + 1, Happening::Disk { node: id, process });
            }
            Err(failure) => {
                let drops = failure == DiskFailure::Error && server.failure_drops;
                return self.disk_failed(id, failure, drops);
            }
        };
        if self.ends_here(id) {
            return;
        }
        let Some(server) = self.servers.get_mut(usize::from(id.0)) else { return };
        if let Some(process) = &mut server.process {
            process.vigil.kept(synced);
        }
        if server.process.as_ref().is_some_and(|process| synced >= process.opened_at) {
            server.lost_power = false;
            server.disk.trust();
        }
        server.disk_due_us = next.map(|after_us| now_us + after_us);
        if let Some(due_us) = server.disk_due_us {
            self.schedule(due_us, Happening::Disk { node: id, process });
        }
        let kept = if promises::counts_synced(&self.plan.cluster) { synced } else { written };
        self.observations.copies.kept(id, kept);
        self.deliver(id, Arrival::Durable { written, synced });
    }

    /// What a turn has written to the disk at once.
    fn note_early(
        &mut self,
        id: NodeId,
        process: u64,
        early: Option<(Position, Position, u64)>,
        due_us: Option<u64>,
    ) {
        let (Some((written, synced, _)), Some(due_us)) = (early, due_us) else { return };
        self.observations.count("written before the turn ended");
        let kept = if promises::counts_synced(&self.plan.cluster) { synced } else { written };
        self.observations.copies.kept(id, kept);
        self.schedule(due_us, Happening::Disk { node: id, process });
    }

    /// The first failure ends the process: it can no longer trust its log.
    fn disk_failed(&mut self, id: NodeId, failure: DiskFailure, drops: bool) {
        let name = self.name(id).to_string();
        self.trace.line(self.now_us, || format!("{name}'s disk fails: {failure:?}"));
        self.observations.count(match failure {
            DiskFailure::Full => "disk full",
            DiskFailure::Error => "disk error",
        });
        self.stop(id, drops);
    }

    /// A deadline of the node has come: the tick is a turn of its own, at this very moment.
    pub(super) fn tick(&mut self, id: NodeId, process_number: u64) {
        let now_us = self.now_us;
        let Some(server) = self.servers.get_mut(usize::from(id.0)) else { return };
        let Some(process) = &mut server.process else { return };
        if server.process_number != process_number || process.tick_at != Some(now_us) {
            return;
        }
        process.tick_at = None;
        process.inbox.push(Arrival::Tick);
        if process.turn_at.is_none_or(|at_us| at_us > now_us) && process.busy_until <= now_us {
            process.turn_at = Some(now_us);
            self.turn(id, process_number);
        } else if process.turn_at.is_none() {
            let at_us = process.busy_until;
            process.turn_at = Some(at_us);
            self.schedule(at_us, Happening::Turn { node: id, process: process_number });
        }
    }

    /// The node handles what has arrived.
    pub(super) fn turn(&mut self, id: NodeId, process_number: u64) {
        let start_us = self.now_us;
        let name = self.name(id).to_string();
        let members = &self.plan.cluster.members;
        let Some(server) = self.servers.get_mut(usize::from(id.0)) else { return };
        let Some(process) = &mut server.process else { return };
        if server.process_number != process_number || process.turn_at != Some(start_us) {
            return;
        }
        process.turn_at = None;
        let led_before = process.led();
        let mut at_us = start_us;
        // The driver reads its clock before it reads its sockets; the turn's end has a fresh one.
        let clock_read_at = process.clock_read_at.take();
        let mut refused = Vec::new();
        let mut sink = Sink::new(&mut server.disk, &mut self.observations, start_us, id);
        let most = self.random.range(1, TURN_ARRIVALS_MAX + 1) as usize;
        let later = process.inbox.split_off(most.min(process.inbox.len()));
        let arrivals = std::mem::replace(&mut process.inbox, later);
        if let Some(turned) = server.clock.is_read() {
            sink.observations().count(turned);
        }
        let stall_us = std::mem::take(&mut server.stall_us);
        // Between two inputs, or between the last look at the clock and what is said then.
        let stall_at = self.random.range(0, arrivals.len() as u64 + 1) as usize;
        for (place, arrival) in arrivals.iter().enumerate() {
            at_us += if place == stall_at { stall_us } else { 0 };
            let whole = arrival.each_input(self.cluster_digest, &mut |input| {
                self.trace.line(at_us, || format!("{name} {}", describe(&input, members)));
                let time = server.clock.time(clock_read_at.unwrap_or(at_us));
                process.node.step(time, input, &mut sink);
                at_us += self.random.range(INPUT_US.0, INPUT_US.1);
            });
            refused.extend(whole.err());
        }
        process.node.step(server.clock.time(at_us), Input::TurnEnd, &mut sink);
        let early = sink.write_early(&mut self.random);
        if let Some((written, synced, _)) = early {
            let input = Input::Durable { written, synced };
            self.trace.line(at_us, || format!("{name} {}", describe(&input, members)));
            process.node.step(server.clock.time(at_us), input, &mut sink);
            at_us += self.random.range(INPUT_US.0, INPUT_US.1);
            process.node.step(server.clock.time(at_us), Input::TurnEnd, &mut sink);
        }
        at_us += if stall_at == arrivals.len() { stall_us } else { 0 };
        process.busy_until = at_us;
        process.note_commits(id, sink.observations());
        let is_tick = clock_read_at.is_none()
            && stall_us == 0
            && arrivals.iter().any(|arrival| matches!(arrival, Arrival::Tick));
        let heard =
            arrivals.iter().filter_map(Arrival::peer).filter(|from| !refused.contains(from));
        process.vigil.heard(heard, at_us);
        let more = !process.inbox.is_empty();
        if more {
            process.turn_at = Some(at_us);
        }
        let output = sink.finish();
        server.disk_due_us = early.map(|(.., after_us)| at_us + after_us).or(server.disk_due_us);
        let disk_due_us = server.disk_due_us.filter(|_| early.is_some());
        if more {
            self.schedule(at_us, Happening::Turn { node: id, process: process_number });
        }
        self.note_early(id, process_number, early, disk_due_us);
        self.note_shown(id, led_before, at_us);
        self.look_at_leaders(id, &output, is_tick, at_us);
        self.look_at_bounds(id);
        self.note_troubles(id, stall_us, &refused, at_us);
        self.carry_out(id, output, at_us);
    }

    /// A frame that is damaged breaks the connection that it came over, as the server closes it.
    fn note_troubles(&mut self, id: NodeId, stall_us: u64, refused: &[NodeId], at_us: u64) {
        let name = self.name(id).to_string();
        if stall_us > 0 {
            self.observations.count("stall in a turn");
            self.trace.line(at_us, || format!("{name} stood still for {stall_us} us in this turn"));
        }
        for from in refused {
            self.observations.count("damaged frame refused");
            self.trace.line(at_us, || format!("{name} refuses a damaged frame"));
            self.lose_peer(*from, id, CLOSE_US);
            self.lose_peer(id, *from, 0);
        }
    }

    /// Carries out what a turn has brought forth, at its end.
    pub(super) fn carry_out(&mut self, id: NodeId, output: Output, at_us: u64) {
        self.narrate(id, &output, at_us);
        let timer = output.events.iter().find_map(|event| match event {
            Event::BecameLeader { .. } => Some(Timer::NewLeader(id)),
            Event::Truncated { .. }
            | Event::SnapshotInstalled { .. }
            | Event::VoterAdmitted { .. } => Some(Timer::RareEvent(id)),
            _ => None,
        });
        let renamed = output.truncated.then_some(Timer::Renamed(id));
        for timer in timer.into_iter().chain(renamed) {
            self.schedule(at_us, Happening::Outside(Outside::Timer(timer)));
        }
        if self.ends_here(id) {
            return;
        }
        let Some(server) = self.servers.get_mut(usize::from(id.0)) else { return };
        let process_number = server.process_number;
        if let Some(after_us) = server.disk.flush(&mut self.random) {
            let due_us = at_us + after_us;
            server.disk_due_us = Some(due_us);
            self.schedule(due_us, Happening::Disk { node: id, process: process_number });
        }
        for (to, messages) in output.frames {
            if self.ends_here(id) {
                return;
            }
            let entry_bytes = output.entry_bytes.get(&to).copied().unwrap_or(0);
            self.send_frame(id, to, &messages, entry_bytes, at_us);
        }
        for (request, reply) in output.replies {
            if self.ends_here(id) {
                return;
            }
            self.put_in_order(id, request, reply, at_us);
        }
        self.plan_tick(id, at_us);
    }

    fn narrate(&mut self, id: NodeId, output: &Output, at_us: u64) {
        if !self.trace.is_on() {
            return;
        }
        let name = self.name(id).to_string();
        for event in &output.events {
            self.trace.line(at_us, || format!("{name} EVENT {event:?}"));
        }
        for (to, frame) in &output.frames {
            let peer = self.name(*to).to_string();
            self.trace.line(at_us, || format!("{name} -> {peer} {} bytes", frame.len()));
        }
        for (request, reply) in &output.replies {
            let (client, sequence) = (request.client.0, request.sequence);
            self.trace.line(at_us, || {
                let text = format!("{name} -> client {client} #{sequence} {reply:?}");
                crate::trace::shorten(text)
            });
        }
    }

    fn send_frame(
        &mut self,
        from: NodeId,
        to: NodeId,
        messages: &[u8],
        entry_bytes: u64,
        at_us: u64,
    ) {
        let Some(incarnation) = self.server(from).and_then(|s| s.node()).map(|n| n.incarnation())
        else {
            return;
        };
        let streams = self.network.streams.as_ref();
        let Some(connection) = streams.map_or(Some(0), |streams| streams.speaks_over(from, to))
        else {
            return self.observations.count("frame to a broken connection");
        };
        let mut bytes = Vec::new();
        frame::begin(&mut bytes, self.cluster_digest, from, incarnation);
        bytes.extend_from_slice(messages);
        frame::finish(&mut bytes, 0);
        let frame = Rc::new(bytes);
        self.network.keep_back(from, to, &frame, &mut self.random);
        let sets_out_us = self.network.sets_out(from, to, at_us);
        if sets_out_us > at_us {
            self.observations.count("swizzle-clog");
        }
        let ways = self.network.ways(from, to, &mut self.random);
        self.note_way(from, to, ways.len());
        if ways.is_empty() && self.network.streams.is_some() {
            return self.break_connection(from, to, at_us);
        }
        let number = self.network.number(from, to);
        let read_us = self.network.read_at(from, to, frame.len(), sets_out_us);
        if read_us.is_some() && !ways.is_empty() {
            self.observations.count("slow reader");
        }
        if let Some(streams) = &mut self.network.streams {
            streams.set_out(from, to, entry_bytes);
        }
        for way in ways {
            let damaged = self.network.damage(&frame, &mut self.random);
            if let Some(damaged) = &damaged {
                let whole = damaged.len() == frame.len();
                self.observations.count(if whole { "frame flipped" } else { "frame cut short" });
            }
            let frame = damaged.map_or_else(|| Rc::clone(&frame), Rc::new);
            let mut arrives_us = read_us.unwrap_or(sets_out_us) + way.delay_us;
            if let Some(streams) = &mut self.network.streams {
                arrives_us = streams.in_order(from, to, arrives_us);
            }
            let number = Some(number).filter(|_| !way.again);
            let trip = Trip { number, held_up: way.held_up, entry_bytes };
            self.schedule(arrives_us, Happening::Frame { from, to, frame, connection, trip });
        }
    }

    /// What was kept back on its way arrives now: bytes of an older epoch, or of a process that is
    /// long gone.
    pub fn release_kept_back(&mut self) {
        for (from, to, frame) in self.network.take_kept_back() {
            self.observations.count("old frame");
            let at_us = self.now_us + self.random.range(0, KEPT_BACK_SPREAD_US);
            let trip = Trip::default();
            self.schedule(at_us, Happening::Frame { from, to, frame, connection: 0, trip });
        }
    }

    /// Replies reach a client in the order of its commands.
    fn put_in_order(&mut self, id: NodeId, request: RequestId, reply: Reply<'static>, at_us: u64) {
        let delay = self.random.range(super::CLIENT_DELAY_US.0, super::CLIENT_DELAY_US.1);
        let connection = request.client;
        let Some(server) = self.servers.get_mut(usize::from(id.0)) else { return };
        let Some(process) = &mut server.process else { return };
        let replies = process.replies.entry(connection).or_default();
        replies.early.insert(request.sequence, reply);
        let mut ready = Vec::new();
        while let Some(reply) = replies.early.remove(&replies.next) {
            ready.push((replies.next, reply));
            replies.next += 1;
        }
        for (sequence, reply) in ready {
            let Some(wire) = self.connections.get_mut(&connection) else { return };
            wire.replies_us = wire.replies_us.max(at_us + delay);
            let at_us = wire.replies_us;
            let outside = Outside::Reply { connection, sequence, reply };
            self.schedule(at_us, Happening::Outside(outside));
        }
    }

    /// Ticks the node exactly when it wants to be.
    fn plan_tick(&mut self, id: NodeId, at_us: u64) {
        let Some(server) = self.servers.get_mut(usize::from(id.0)) else { return };
        let process_number = server.process_number;
        let Some(process) = &mut server.process else { return };
        let deadline = process.node.next_deadline();
        if deadline == u64::MAX {
            process.tick_at = None;
            return;
        }
        // Never at the same moment again: a deadline that does not move must not stop the world.
        let tick_at = server.clock.when(deadline).max(at_us + 1);
        if process.tick_at != Some(tick_at) {
            process.tick_at = Some(tick_at);
            self.schedule(tick_at, Happening::Tick { node: id, process: process_number });
        }
    }
}

impl Process {
    /// Takes note of every entry that the node has come to take for committed, as its log has it:
    /// the event tells only of the newest.
    fn note_commits(&mut self, id: NodeId, observations: &mut Observations) {
        if self.is_installing() {
            observations.count("slots ahead of their group");
        }
        if self.node.groups().any(Group::is_freeing) {
            observations.count("state freed over several turns");
        }
        if self.node.groups().any(Group::is_parting) {
            observations.count("old state searched over several turns");
        }
        for group in self.node.groups() {
            observations.copies.applied(id, group.id, group.commit());
            let seen = self.commits_seen.entry(group.id).or_default();
            if group.commit() <= *seen {
                continue;
            }
            let from = (*seen).max(group.log_start());
            *seen = group.commit();
            for (index, body) in group.committed_after(from).into_iter().flatten() {
                let Some(entry) = group.id_at(index) else { continue };
                observations.commit(Commit::of(id, group.id, entry, body));
            }
        }
    }
}

impl Arrival {
    /// The node that it comes from, if it is a frame.
    fn peer(&self) -> Option<NodeId> {
        match self {
            Arrival::Frame { from, .. } => Some(*from),
            _ => None,
        }
    }

    /// The inputs that it stands for, in order.
    ///
    /// # Errors
    /// It is a frame of this node, and damaged; what is whole before the damage has been stepped.
    fn each_input(&self, cluster: u64, step: &mut dyn FnMut(Input<'_>)) -> Result<(), NodeId> {
        match self {
            Arrival::Frame { from: sender, frame } => {
                let whole = frame::split(frame, cluster, FRAME_BYTES_MAX);
                let Ok(Some((mut frame, _))) = whole else { return Err(*sender) };
                let (from, incarnation) = (frame.from, frame.incarnation);
                while let Some(message) = frame.message() {
                    let message = message.map_err(|_| *sender)?;
                    step(Input::Message { from, incarnation, message });
                }
            }
            Arrival::Request { connection, sequence, words } => {
                let (bytes, spans) = join(words);
                let ends = [spans.len() as u32];
                let label = format!("c{}", connection.0);
                step(Input::Requests(Requests {
                    client: *connection,
                    label: label.as_bytes(),
                    first_sequence: *sequence,
                    bytes: &bytes,
                    spans: &spans,
                    ends: &ends,
                }));
            }
            Arrival::Hangup(connection) => step(Input::Disconnected(*connection)),
            Arrival::PeerLost(peer) => step(Input::PeerLost(*peer)),
            Arrival::Durable { written, synced } => {
                step(Input::Durable { written: *written, synced: *synced });
            }
            Arrival::Tick => step(Input::Tick),
        }
        Ok(())
    }
}

/// Words one after another, and where each of them lies.
fn join(words: &[String]) -> (Vec<u8>, Vec<Span>) {
    let mut bytes = Vec::new();
    let mut spans = Vec::new();
    for word in words {
        spans.push(Span { start: bytes.len() as u32, length: word.len() as u32 });
        bytes.extend_from_slice(word.as_bytes());
    }
    (bytes, spans)
}
