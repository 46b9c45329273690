//! A node's turn: its inputs one after another, `TurnEnd`, then what it had to say.

use super::server::Process;
use super::sink::{Output, Sink, messages};
use super::{Cluster, Happening, Outside, Timer, describe};
use crate::observe::{Commit, Observations};
use replication::{
    ClientId, Event, Incarnation, Input, NodeId, Position, Reply, RequestId, Requests, Span,
};
use std::rc::Rc;

/// How long a node takes from an arrival to the turn that handles it.
const WAKE_US: (u64, u64) = (5, 60);
/// How long one input takes.
const INPUT_US: (u64, u64) = (1, 8);

/// How many arrivals one turn takes at most, as one wait for ready sockets returns only so many.
const TURN_ARRIVALS_MAX: u64 = 8;

/// What waits for a node's next turn.
pub(super) enum Arrival {
    Frame { from: NodeId, incarnation: Incarnation, frame: Rc<Vec<u8>> },
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
        let (written, synced, next) = server.disk.done(&mut self.random);
        if server.process.as_ref().is_some_and(|process| synced >= process.opened_at) {
            server.lost_power = false;
            server.disk.trust();
        }
        if let Some(after_us) = next {
            self.schedule(now_us + after_us, Happening::Disk { node: id, process });
        }
        self.deliver(id, Arrival::Durable { written, synced });
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
        let mut at_us = start_us;
        let mut sink = Sink::new(&mut server.disk, &mut self.observations, start_us, id);
        let most = self.random.range(1, TURN_ARRIVALS_MAX + 1) as usize;
        let later = process.inbox.split_off(most.min(process.inbox.len()));
        for arrival in std::mem::replace(&mut process.inbox, later) {
            arrival.each_input(&mut |input| {
                self.trace.line(at_us, || format!("{name} {}", describe(&input, members)));
                process.node.step(server.clock.time(at_us), input, &mut sink);
                at_us += self.random.range(INPUT_US.0, INPUT_US.1);
            });
        }
        process.node.step(server.clock.time(at_us), Input::TurnEnd, &mut sink);
        process.busy_until = at_us;
        process.note_commits(id, sink.observations());
        let more = !process.inbox.is_empty();
        if more {
            process.turn_at = Some(at_us);
        }
        let output = sink.finish();
        if more {
            self.schedule(at_us, Happening::Turn { node: id, process: process_number });
        }
        self.carry_out(id, output, at_us);
    }

    /// Carries out what a turn has brought forth, at its end.
    pub(super) fn carry_out(&mut self, id: NodeId, output: Output, at_us: u64) {
        self.narrate(id, &output, at_us);
        if output.events.iter().any(|event| matches!(event, Event::BecameLeader { .. })) {
            let outside = Outside::Timer(Timer::NewLeader(id));
            self.schedule(at_us, Happening::Outside(outside));
        }
        for (to, frame) in output.frames {
            self.send_frame(id, to, frame, at_us);
        }
        for (request, reply) in output.replies {
            self.put_in_order(id, request, reply, at_us);
        }
        let Some(server) = self.servers.get_mut(usize::from(id.0)) else { return };
        let process_number = server.process_number;
        if let Some(after_us) = server.disk.flush(&mut self.random) {
            self.schedule(at_us + after_us, Happening::Disk { node: id, process: process_number });
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

    fn send_frame(&mut self, from: NodeId, to: NodeId, frame: Vec<u8>, at_us: u64) {
        let Some(incarnation) = self.server(from).and_then(|s| s.node()).map(|n| n.incarnation())
        else {
            return;
        };
        let frame = Rc::new(frame);
        for delay in self.network.delays(from, to, &mut self.random) {
            let frame = Rc::clone(&frame);
            self.schedule(at_us + delay, Happening::Frame { from, to, incarnation, frame });
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
        for group in self.node.groups() {
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
    /// The inputs that it stands for, in order.
    fn each_input(&self, step: &mut dyn FnMut(Input<'_>)) {
        match self {
            Arrival::Frame { from, incarnation, frame } => {
                for message in messages(frame) {
                    step(Input::Message { from: *from, incarnation: *incarnation, message });
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
