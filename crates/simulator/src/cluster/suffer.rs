//! What a machine can be made to suffer while its process runs.
//!
//! A process ends exactly between two of its steps outwards: a batch handed to the disk, a frame
//! to a peer, a reply to a client, a write or a sync that is finished. What it has done up to there
//! has happened, the rest never does, as in the server, which hands over to the disk first, then
//! to its peers, then to its clients. (What a turn does before its first step outwards is in
//! memory only: a crash there is a crash before it.)

use super::sink::Sink;
use super::turn::Arrival;
use super::{Cluster, Happening, Outside};
use crate::disk::Disk;
use replication::keyspace::Durability;
use replication::node::idle_mark::IDLE_MARK;
use replication::random::Random;
use replication::{Input, NodeId, Position};

/// So many pauses in a hundred come between a look at the clock and the inputs of that turn.
const STALE_CLOCK_PERCENT: u64 = 50;

impl Cluster {
    /// The node's process ends after so many more steps outwards.
    pub fn end_after(&mut self, id: NodeId, steps: u32, power: bool) {
        if let Some(server) = self.servers.get_mut(usize::from(id.0)) {
            server.ends_after = Some((steps, power));
        }
    }

    /// The node stands still in the middle of its next turn: time passes between what it read of
    /// its clock and what it says.
    pub fn stall_in_turn(&mut self, id: NodeId, stall_us: u64) {
        if let Some(server) = self.servers.get_mut(usize::from(id.0)) {
            server.stall_us = stall_us;
        }
    }

    /// Whether a failed write or sync may take with it what was not synced before.
    pub fn let_failures_drop(&mut self, may: bool) {
        for server in &mut self.servers {
            server.failure_drops = may;
        }
    }

    /// The node's disk takes so many times longer from now on.
    pub fn slow_disk(&mut self, id: NodeId, factor: u64) {
        if let Some(server) = self.servers.get_mut(usize::from(id.0)) {
            server.disk.slow_factor = factor;
        }
    }

    /// All of this is over.
    pub fn spare(&mut self, id: NodeId) {
        let Some(server) = self.servers.get_mut(usize::from(id.0)) else { return };
        (server.ends_after, server.stall_us) = (None, 0);
        server.disk.slow_factor = 1;
        (server.disk.stall_us, server.disk.fails_once, server.disk.full) = (0, false, false);
        server.disk.unreadable_once = false;
    }

    /// One step outwards; says whether the process ends instead.
    pub(super) fn ends_here(&mut self, id: NodeId) -> bool {
        let Some(server) = self.servers.get_mut(usize::from(id.0)) else { return true };
        match &mut server.ends_after {
            None => return false,
            Some((0, power)) => {
                let power = *power;
                server.ends_after = None;
                self.observations.count("crash between two steps");
                self.stop(id, power);
                return true;
            }
            Some((steps, _)) => *steps -= 1,
        }
        false
    }

    /// The process ends by itself, and its user hears of it.
    pub(super) fn stop(&mut self, id: NodeId, power: bool) {
        self.crash(id, power);
        self.schedule(self.now_us, Happening::Outside(Outside::Stopped(id)));
    }

    /// A node stands still for a while, as a process that is stopped, or a machine that swaps: what
    /// arrives waits, and is then handled in one turn, in the order in which it came.
    pub fn pause(&mut self, id: NodeId, duration_us: u64) {
        let (now_us, name) = (self.now_us, self.name(id).to_string());
        let Some(server) = self.servers.get_mut(usize::from(id.0)) else { return };
        let process_number = server.process_number;
        let Some(process) = &mut server.process else { return };
        let until_us = process.busy_until.max(now_us + duration_us);
        if self.random.chance(STALE_CLOCK_PERCENT) {
            // Just after it had looked at its clock, and before it read its sockets.
            let read_at = process.busy_until.max(now_us);
            process.clock_read_at = process.clock_read_at.or(Some(read_at));
        }
        process.busy_until = until_us;
        self.trace.line(now_us, || format!("{name} stands still for {duration_us} us"));
        self.observations.count("pause");
        if process.turn_at.is_some() {
            process.turn_at = Some(until_us);
            self.schedule(until_us, Happening::Turn { node: id, process: process_number });
        }
    }

    /// A machine is suspended: its process stands still, and so does its monotonic clock.
    pub fn suspend(&mut self, id: NodeId, duration_us: u64) {
        let now_us = self.now_us;
        self.pause(id, duration_us);
        let Some(server) = self.servers.get_mut(usize::from(id.0)) else { return };
        let Some(process) = &mut server.process else { return };
        let for_us = process.busy_until.saturating_sub(now_us);
        process.vigil.slept(for_us);
        server.clock.stop(now_us, for_us);
        self.observations.count("clock stopped while suspended");
    }

    /// A process is told that it is to stop soon: it hands over what it leads.
    pub fn leave(&mut self, id: NodeId) {
        let Some(process) =
            self.servers.get_mut(usize::from(id.0)).and_then(|s| s.process.as_mut())
        else {
            return;
        };
        process.is_leaving = true;
        self.deliver(id, Arrival::Leave);
    }

    /// Whether a process is to stop soon.
    pub fn is_leaving(&self, id: NodeId) -> bool {
        self.server(id).and_then(|server| server.process.as_ref()).is_some_and(|p| p.is_leaving)
    }

    /// Whether nobody would miss a node: it is down, or leads nothing that another could take over.
    pub fn is_spared(&self, id: NodeId) -> bool {
        let Some(server) = self.server(id) else { return true };
        let now = server.clock.time(self.now_us);
        server.node().is_none_or(|node| node.is_spared(now))
    }

    /// A process ends as it is asked to: all that it has written is on disk. Its disk may refuse
    /// that; then it ends all the same.
    pub fn stop_clean(&mut self, id: NodeId) {
        let (now_us, name) = (self.now_us, self.name(id).to_string());
        let Some(server) = self.servers.get_mut(usize::from(id.0)) else { return };
        let Some(process) = &mut server.process else { return };
        let at_us = process.busy_until.max(now_us);
        let mut sink = Sink::new(&mut server.disk, &mut self.observations, at_us, id);
        process.node.step(server.clock.time(at_us), Input::Stop, &mut sink);
        // What it would still say is told to nobody, as the server writes to no socket any more.
        drop(sink.finish());
        let is_kept = server.disk.close() && {
            server.disk.append(IDLE_MARK, Durability::Fsync);
            server.disk.close()
        };
        if !is_kept {
            return self.crash(id, false);
        }
        server.process = None;
        server.lost_power = false;
        let (_, synced) = server.disk.kept();
        self.observations.copies.kept(id, synced);
        self.observations.count("clean stop");
        self.trace.line(now_us, || format!("{name} is stopped; its log is on disk"));
        self.ended(id);
    }

    /// A machine without a process loses its power, too.
    pub fn cut_power(&mut self, id: NodeId) {
        if let Some(server) = self.servers.get_mut(usize::from(id.0)) {
            let torn = server.disk.crash(true, &mut self.random);
            self.observations.torn(true, &torn);
        }
    }

    /// Empties a crashed node's disk.
    pub fn wipe(&mut self, id: NodeId) {
        let (now_us, name) = (self.now_us, self.name(id).to_string());
        if let Some(server) = self.servers.get_mut(usize::from(id.0)) {
            server.disk.wipe();
            server.lost_power = false;
            self.trace.line(now_us, || format!("{name} loses its disk"));
            self.observations.count("wiped disk");
            self.observations.wipes.push((id, now_us));
        }
    }

    /// Flips a bit on a crashed node's disk.
    pub fn flip_bit(&mut self, id: NodeId) -> bool {
        self.flip(id, Disk::flip_bit)
    }

    /// The same in the batch that holds a record.
    pub fn flip_bit_of(&mut self, id: NodeId, position: Position) -> bool {
        self.flip(id, |disk, random| disk.flip_bit_of(position, random))
    }

    fn flip(&mut self, id: NodeId, flip: impl FnOnce(&mut Disk, &mut Random) -> bool) -> bool {
        let (now_us, name) = (self.now_us, self.name(id).to_string());
        let Some(server) = self.servers.get_mut(usize::from(id.0)) else { return false };
        let flipped = flip(&mut server.disk, &mut self.random);
        if flipped {
            self.trace.line(now_us, || format!("{name}'s disk has a bit flipped"));
            self.observations.count("flipped bit");
            self.observations.flipped.insert(id);
        }
        flipped
    }
}
