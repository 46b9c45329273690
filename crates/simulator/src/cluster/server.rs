//! One simulated machine: its disk and clocks stay, its process comes and goes.

use super::turn::Arrival;
use super::vigil::Vigil;
use super::{Cluster, Happening, Outside, Plan, sink::Sink};
use crate::checkers::bounds::Watch;
use crate::clock::Clock;
use crate::disk::{Disk, Opened};
use replication::node::open::check_repairable;
use replication::random::Random;
use replication::{ClientId, GroupId, Incarnation, Node, NodeId, Position, Reply, Setup};
use std::collections::BTreeMap;

/// Drifts are up to so many millionths either way.
const DRIFT_PPM: u64 = 100;
/// Within how long the ends of a broken connection find out.
const BREAK_US: u64 = 100_000;

/// Counts damage that recovery could see and did not: a finding.
pub const OVERLOOKED: &str = "damage overlooked";

/// Whether a machine's process runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    /// It runs.
    Up,
    /// It does not.
    Down,
}

/// One machine.
pub struct Server {
    /// Its number.
    pub id: NodeId,
    /// Its clocks.
    pub clock: Clock,
    /// Its disk.
    pub disk: Disk,
    /// Counts the processes that ran here; tells what was meant for an earlier one.
    pub process_number: u64,
    /// Whether the machine has lost its power since a process on it last said, durably, that it
    /// had started: what was written and not synced may be gone.
    pub lost_power: bool,
    /// After how many more of its steps outwards its process ends, if it shall, and whether the
    /// machine goes down with it.
    pub(super) ends_after: Option<(u32, bool)>,
    /// For how long it stands still in the middle of its next turn.
    pub(super) stall_us: u64,
    /// Whether a failed write or sync may take what was not synced before.
    pub(super) failure_drops: bool,
    /// When what the disk is doing is finished.
    pub(super) disk_due_us: Option<u64>,
    pub(super) process: Option<Process>,
}

/// A running process.
pub(super) struct Process {
    pub node: Node,
    pub inbox: Vec<Arrival>,
    /// When the next turn is.
    pub turn_at: Option<u64>,
    /// When the node is ticked next.
    pub tick_at: Option<u64>,
    /// When the clock was read for inputs that have waited since: the process stood still after
    /// it had looked at it.
    pub clock_read_at: Option<u64>,
    /// Until when the last turn lasts.
    pub busy_until: u64,
    /// Replies that wait for those before them.
    pub replies: BTreeMap<ClientId, Replies>,
    /// The last record that the node has written at its start.
    pub opened_at: Position,
    /// What it must have noticed.
    pub vigil: Vigil,
    /// What was seen of its bounds.
    pub watch: Watch,
    /// Up to where each group's commits are noted.
    pub commits_seen: BTreeMap<GroupId, u64>,
}

/// A connection's replies, put in order.
#[derive(Default)]
pub(super) struct Replies {
    pub next: u64,
    pub early: BTreeMap<u64, Reply<'static>>,
}

impl Process {
    fn new(node: Node, now_us: u64, opened_at: Position) -> Process {
        Process {
            node,
            inbox: Vec::new(),
            turn_at: None,
            clock_read_at: None,
            tick_at: None,
            busy_until: now_us,
            replies: BTreeMap::new(),
            commits_seen: BTreeMap::new(),
            vigil: Vigil::default(),
            watch: Watch::default(),
            opened_at,
        }
    }

    /// Whether it has taken over only a part of a group's state so far.
    pub(super) fn is_installing(&self) -> bool {
        self.node.groups().any(|group| group.state.ahead_of(group.commit()).is_some())
    }
}

impl Server {
    /// A machine that is switched off, with an empty disk.
    pub(super) fn new(id: NodeId, plan: &Plan, random: &mut Random) -> Server {
        let drift = random.range(0, 2 * DRIFT_PPM) as i64 - DRIFT_PPM as i64;
        Server {
            id,
            clock: Clock::new(drift, 0),
            disk: Disk::new(plan.pace.clone()),
            process_number: 0,
            lost_power: false,
            ends_after: None,
            stall_us: 0,
            failure_drops: true,
            disk_due_us: None,
            process: None,
        }
    }

    /// Whether its process runs.
    pub fn state(&self) -> State {
        if self.process.is_some() { State::Up } else { State::Down }
    }

    /// The last record that the running process wrote at its start: none before it is its own.
    pub fn opened_at(&self) -> Option<Position> {
        self.process.as_ref().map(|process| process.opened_at)
    }

    /// The running node, for a look at its state.
    pub fn node(&self) -> Option<&Node> {
        self.process.as_ref().map(|process| &process.node)
    }
}

impl Cluster {
    /// Starts a node's process from what its disk holds.
    pub fn start(&mut self, id: NodeId) {
        if self.is_up(id) {
            return;
        }
        let processes = self.server(id).map_or(0, |server| server.process_number);
        let setup = Setup {
            cluster: self.plan.cluster.clone(),
            me: id,
            new_incarnation: Incarnation(self.random.next_u64()),
            seed: self.random.next_u64(),
            timing: self.terms.of(self.plan.timing, id, processes),
            limits: self.plan.limits,
            mutants: self.plan.mutants,
            may_have_lost_unsynced: false,
            damaged: false,
        };
        let now_us = self.now_us;
        let name = self.name(id).to_string();
        let members = self.servers.len() as u16;
        let Some(server) = self.servers.get_mut(usize::from(id.0)) else { return };
        let setup = Setup { may_have_lost_unsynced: server.lost_power, ..setup };
        server.clock.restart(now_us);
        server.process_number += 1;
        if let Some(streams) = &mut self.network.streams {
            // A new process has no connection to lose.
            (0..members).for_each(|other| _ = streams.learns(id, NodeId(other)));
        }
        if std::mem::take(&mut server.disk.unreadable_once) {
            return self.cannot_read(id);
        }
        let cluster = &self.plan.cluster;
        let may_repair = |records: &[(Position, &[u8])]| {
            check_repairable(cluster, id, records.iter().map(|(_, record)| *record))
        };
        let Opened { records, damaged, overlooked } = match server.disk.open(may_repair) {
            Ok(opened) => opened,
            Err(why) => {
                self.schedule(now_us, Happening::Outside(Outside::CannotStart(id, why)));
                return;
            }
        };
        self.observations.copies.restarted(id, &records);
        self.trace.line(now_us, || {
            let first = records.first().map_or(0, |(position, _)| position.0);
            format!("{name} starts from {} records, from {first} on", records.len())
        });
        let setup = Setup { damaged, ..setup };
        if damaged {
            self.observations.note_damaged(id, &name, now_us);
        }
        let time = server.clock.time(now_us);
        let mut sink = Sink::new(&mut server.disk, &mut self.observations, now_us, id);
        let log = records.iter().map(|(position, record)| (*position, record.as_slice()));
        let node = Node::open(setup, log, time, &mut sink);
        let output = sink.finish();
        let opened = server.disk.last();
        match node {
            Ok(node) => {
                if overlooked {
                    self.observations.count(OVERLOOKED);
                }
                server.process = Some(Process::new(node, now_us, opened));
                self.carry_out(id, output, now_us);
            }
            Err(why) => {
                let outside = Outside::CannotStart(id, format!("{why:?}"));
                self.schedule(now_us, Happening::Outside(outside));
            }
        }
    }

    /// A process ends at once, because it cannot read its disk.
    fn cannot_read(&mut self, id: NodeId) {
        let (now_us, name) = (self.now_us, self.name(id).to_string());
        self.observations.count("disk read error");
        self.trace.line(now_us, || format!("{name} cannot read its disk, and ends"));
        self.schedule(now_us, Happening::Outside(Outside::Stopped(id)));
    }

    /// Ends a node's process. With `power` the machine goes down, too: what was not synced is
    /// lost in part; without, what was written stays.
    pub fn crash(&mut self, id: NodeId, power: bool) {
        let now_us = self.now_us;
        let name = self.name(id).to_string();
        let Some(server) = self.servers.get_mut(usize::from(id.0)) else { return };
        let Some(process) = server.process.take() else { return };
        if server.disk.kept().1 < process.opened_at {
            self.observations.count("crash during recovery");
        }
        if process.is_installing() {
            self.observations.count("crash during a snapshot");
        }
        let torn = server.disk.crash(power, &mut self.random);
        server.lost_power |= power;
        self.observations.torn(power, &torn);
        if power {
            self.observations.power_cuts.push((now_us, id));
        }
        self.observations.count("crash");
        self.observations.crashes.push((id, now_us));
        self.trace.line(now_us, || {
            let what = if power { "loses power" } else { "is killed" };
            format!("{name} {what}; {} bytes of its log are damaged or gone", torn.lost)
        });
        self.ended(id);
    }

    /// A process has ended: its connections break.
    pub(super) fn ended(&mut self, id: NodeId) {
        let now_us = self.now_us;
        let broken: Vec<ClientId> = self
            .connections
            .iter()
            .filter(|(_, wire)| wire.node == id)
            .map(|(connection, _)| *connection)
            .collect();
        for connection in broken {
            self.connections.remove(&connection);
            self.schedule(now_us, Happening::Outside(Outside::Broken(connection)));
        }
        if self.network.streams.is_some() {
            for other in self.nodes().into_iter().filter(|other| *other != id) {
                self.break_connection(id, other, now_us);
            }
        }
    }

    /// The connection of two nodes breaks, and both ends find that out.
    pub(super) fn break_connection(&mut self, one: NodeId, other: NodeId, at_us: u64) {
        let Some(streams) = &mut self.network.streams else { return };
        streams.break_off(one, other);
        self.observations.count("connection broken");
        for (at, peer) in [(one, other), (other, one)] {
            let found_us = at_us + self.random.range(0, BREAK_US);
            self.schedule(found_us, Happening::PeerLost { at, peer });
        }
    }

    /// A node notices that its connection to a peer broke.
    pub fn lose_peer(&mut self, at: NodeId, peer: NodeId, after_us: u64) {
        if let Some(streams) = &mut self.network.streams {
            streams.break_off(at, peer);
            self.schedule(self.now_us + BREAK_US, Happening::PeerLost { at: peer, peer: at });
        }
        self.schedule(self.now_us + after_us, Happening::PeerLost { at, peer });
    }
}
