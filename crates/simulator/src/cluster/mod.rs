//! A cluster of real nodes in virtual time.
//!
//! Everything that will happen lies in one queue, ordered by (virtual microsecond, sequence
//! number). A node handles its inputs in *turns*: what has arrived since the last one, then
//! `TurnEnd`; time passes between the inputs of a turn. The cluster knows nothing of clients'
//! intentions, faults' plans or checkers: it hands what concerns them to its caller ([`Outside`]).

pub mod by_hand;
mod server;
mod sink;
mod suffer;
mod turn;
mod vigil;

pub use server::{OVERLOOKED, Server, State};
pub use sink::GARBLED;

use crate::disk::Pace;
use crate::leases::Terms;
use crate::network::{Network, Weather};
use crate::observe::Observations;
use crate::trace::Trace;
use replication::keyspace;
use replication::mutant::Mutants;
use replication::node::{Limits, Timing};
use replication::random::Random;
use replication::{ClientId, Input, NodeId, Reply};
use std::collections::BTreeMap;
use std::rc::Rc;

/// How long a client's bytes are on their way, each direction.
const CLIENT_DELAY_US: (u64, u64) = (50, 400);

/// What a simulated cluster is made of.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The description that all nodes have.
    pub cluster: keyspace::Cluster,
    /// Intervals and timeouts of the nodes.
    pub timing: Timing,
    /// Bounds of the nodes.
    pub limits: Limits,
    /// A planted bug, if any.
    pub mutants: Mutants,
    /// How bad the network is at first.
    pub weather: Weather,
    /// How slow the disks are at first.
    pub pace: Pace,
}

/// Something that concerns the cluster's user.
#[derive(Debug)]
pub enum Outside {
    /// A timer of the user's has come.
    Timer(Timer),
    /// A client has a reply.
    Reply {
        /// Its connection.
        connection: ClientId,
        /// The number of the command on the connection.
        sequence: u64,
        /// The reply.
        reply: Reply<'static>,
    },
    /// A client's connection broke: its node crashed, or was down.
    Broken(ClientId),
    /// A node's process ended by itself: where the user wanted it to, or because its disk failed.
    Stopped(NodeId),
    /// A node cannot start from its log: never the user's fault.
    CannotStart(NodeId, String),
}

/// A timer of the cluster's user.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Timer {
    /// The next fault, or the end of one.
    Fault(u64),
    /// A client wants to call, or gives up waiting; the second number tells stale timers.
    Client(usize, u64),
    /// A client that names its commands makes its next call.
    OnceClient(usize),
    /// A call may be due to be sent again; the second number tells stale timers.
    OnceCall(usize, u64),
    /// A node has just begun to lead: a good moment for a fault.
    NewLeader(NodeId),
    /// A node's log was cut, it has installed a snapshot, or learnt of a new voter: another one.
    RareEvent(NodeId),
    /// Files of a node's log were given new names, which are not on disk yet: another one.
    Renamed(NodeId),
    /// The user's own.
    Phase(u64),
}

/// What will happen.
enum Happening {
    Frame { from: NodeId, to: NodeId, frame: Rc<Vec<u8>>, connection: u64, trip: Trip },
    PeerLost { at: NodeId, peer: NodeId },
    Request { node: NodeId, connection: ClientId, sequence: u64, words: Vec<String> },
    Hangup { node: NodeId, connection: ClientId },
    Disk { node: NodeId, process: u64 },
    Turn { node: NodeId, process: u64 },
    Tick { node: NodeId, process: u64 },
    Outside(Outside),
}

/// What there is to be told of a frame that arrives.
#[derive(Clone, Copy, Default)]
struct Trip {
    /// Its number on its link; `None` for one that has gone before.
    number: Option<u64>,
    /// It has taken far longer than others.
    held_up: bool,
    /// Its bytes of entries and of snapshots.
    entry_bytes: u64,
}

/// The whole world.
pub struct Cluster {
    /// Virtual time.
    pub now_us: u64,
    /// What nodes say to each other goes through here.
    pub network: Network,
    /// The nodes, in the order of their numbers.
    pub servers: Vec<Server>,
    /// What the harness has seen.
    pub observations: Observations,
    /// The human-readable story.
    pub trace: Trace,
    /// All chance.
    pub random: Random,
    /// How many things have happened.
    pub steps: u64,
    plan: Plan,
    terms: Terms,
    /// Stands in every frame.
    cluster_digest: u64,
    queue: BTreeMap<(u64, u64), Happening>,
    sequence: u64,
    connections: BTreeMap<ClientId, Wire>,
    /// Connections are numbered, and no number is used twice.
    last_connection: ClientId,
}

/// A client's connection, as the client sees it.
struct Wire {
    node: NodeId,
    next_sequence: u64,
    /// When the last bytes arrive at the node, and at the client: a connection keeps its order.
    arrives_us: u64,
    replies_us: u64,
}

impl Cluster {
    /// A cluster whose nodes start at once, on empty disks.
    pub fn new(plan: Plan, seed: u64, trace: Trace) -> Cluster {
        Cluster::with_terms(plan, seed, trace, Terms::default())
    }

    /// The same where nodes need not promise alike.
    pub fn with_terms(plan: Plan, seed: u64, trace: Trace, terms: Terms) -> Cluster {
        let mut random = Random::new(seed);
        let nodes = plan.cluster.members.len();
        let servers = (0..nodes).map(|n| Server::new(NodeId(n as u16), &plan, &mut random));
        let servers = servers.collect();
        let network = Network::new(nodes, plan.weather.clone());
        let mut cluster = Cluster {
            now_us: 0,
            network,
            servers,
            observations: Observations::default(),
            trace,
            random,
            steps: 0,
            cluster_digest: replication::frame::cluster_digest(&plan.cluster.name),
            plan,
            terms,
            queue: BTreeMap::new(),
            sequence: 0,
            connections: BTreeMap::new(),
            last_connection: ClientId(0),
        };
        for node in cluster.nodes() {
            cluster.start(node);
        }
        cluster
    }

    /// All nodes' numbers, in order.
    pub fn nodes(&self) -> Vec<NodeId> {
        (0..self.servers.len()).map(|n| NodeId(n as u16)).collect()
    }

    /// What it is made of.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// A node by its name.
    pub fn node(&self, name: &str) -> Option<NodeId> {
        self.plan.cluster.node(name)
    }

    /// A node's name.
    pub fn name(&self, node: NodeId) -> &str {
        self.plan.cluster.member(node).map_or("?", |member| member.name.as_str())
    }

    /// A node.
    pub fn server(&self, node: NodeId) -> Option<&Server> {
        self.servers.get(usize::from(node.0))
    }

    /// Whether a node's process runs.
    pub fn is_up(&self, node: NodeId) -> bool {
        self.server(node).is_some_and(|server| server.state() == State::Up)
    }

    /// Lets things happen until one concerns the user, or `until_us` is reached (`None`).
    pub fn next(&mut self, until_us: u64) -> Option<Outside> {
        loop {
            let entry = self.queue.first_entry().filter(|entry| entry.key().0 <= until_us);
            let Some(entry) = entry else {
                self.now_us = self.now_us.max(until_us);
                return None;
            };
            let ((at_us, _), happening) = entry.remove_entry();
            self.now_us = at_us;
            self.steps += 1;
            if let Some(outside) = self.happen(happening) {
                return Some(outside);
            }
        }
    }

    /// Sets a timer of the user's.
    pub fn set_timer(&mut self, after_us: u64, timer: Timer) {
        self.schedule(self.now_us + after_us, Happening::Outside(Outside::Timer(timer)));
    }

    /// A new connection of a client to a node.
    pub fn connect(&mut self, node: NodeId) -> ClientId {
        self.last_connection.0 += 1;
        let connection = self.last_connection;
        let wire =
            Wire { node, next_sequence: 0, arrives_us: self.now_us, replies_us: self.now_us };
        self.connections.insert(connection, wire);
        connection
    }

    /// The client sends a command; returns its number on the connection.
    pub fn request(&mut self, connection: ClientId, words: Vec<String>) -> u64 {
        let delay = self.random.range(CLIENT_DELAY_US.0, CLIENT_DELAY_US.1);
        let arrives = self.now_us + delay;
        let Some(wire) = self.connections.get_mut(&connection) else { return 0 };
        wire.arrives_us = wire.arrives_us.max(arrives);
        let (node, sequence, at_us) = (wire.node, wire.next_sequence, wire.arrives_us);
        wire.next_sequence += 1;
        self.schedule(at_us, Happening::Request { node, connection, sequence, words });
        sequence
    }

    /// The client closes its connection: it will hear nothing more.
    pub fn hang_up(&mut self, connection: ClientId) {
        let Some(wire) = self.connections.get(&connection) else { return };
        let (node, at_us) = (wire.node, wire.arrives_us.max(self.now_us) + CLIENT_DELAY_US.1);
        self.schedule(at_us, Happening::Hangup { node, connection });
    }

    fn schedule(&mut self, at_us: u64, happening: Happening) {
        self.sequence += 1;
        self.queue.insert((at_us.max(self.now_us), self.sequence), happening);
    }

    fn happen(&mut self, happening: Happening) -> Option<Outside> {
        match happening {
            Happening::Frame { from, to, frame, connection, trip } => {
                if self.hears_over(to, from, connection) {
                    self.note_trip(from, to, trip);
                    self.deliver(to, turn::Arrival::Frame { from, frame });
                }
            }
            Happening::PeerLost { at, peer } => {
                if self.network.streams.as_mut().is_none_or(|streams| streams.learns(at, peer)) {
                    self.deliver(at, turn::Arrival::PeerLost(peer));
                }
            }
            Happening::Request { node, connection, sequence, words } => {
                // The connection may have been to an earlier process.
                if !self.is_up(node) || !self.connections.contains_key(&connection) {
                    return Some(Outside::Broken(connection));
                }
                self.deliver(node, turn::Arrival::Request { connection, sequence, words });
            }
            Happening::Hangup { node, connection } => {
                self.deliver(node, turn::Arrival::Hangup(connection));
            }
            Happening::Disk { node, process } => self.disk_done(node, process),
            Happening::Turn { node, process } => self.turn(node, process),
            Happening::Tick { node, process } => self.tick(node, process),
            Happening::Outside(outside) => return Some(outside),
        }
        None
    }

    /// Whether a frame arrives that was sent over a connection. The first one over a new connection
    /// tells that the old one is broken.
    fn hears_over(&mut self, at: NodeId, peer: NodeId, connection: u64) -> bool {
        let Some(streams) = &mut self.network.streams else { return true };
        let whole = streams.is_whole(at, peer, connection);
        if whole && streams.learns(at, peer) {
            self.deliver(at, turn::Arrival::PeerLost(peer));
        }
        whole
    }

    /// A frame arrives so many times.
    fn note_way(&mut self, from: NodeId, to: NodeId, times: usize) {
        let cut_by = self.network.cut_by(from, to);
        self.observations.count(match times {
            0 if cut_by.is_some() => "frame cut off",
            0 => "frame lost",
            1 => "frame sent",
            _ => "frame repeated",
        });
        if let Some(by) = cut_by {
            self.observations.count(by);
        }
    }

    fn note_trip(&mut self, from: NodeId, to: NodeId, trip: Trip) {
        if let Some(streams) = &mut self.network.streams {
            streams.arrived(from, to, trip.entry_bytes);
        }
        let overtaken =
            trip.number.is_some_and(|number| self.network.is_overtaken(from, to, number));
        let is_heard = self.is_up(to);
        for (what, struck) in [("frame overtaken", overtaken), ("frame held up", trip.held_up)] {
            if struck && is_heard {
                self.observations.count(what);
            }
        }
    }
}

/// The input of a single step, for the trace.
fn describe(input: &Input<'_>, members: &[keyspace::Member]) -> String {
    let name =
        |node: &NodeId| members.get(usize::from(node.0)).map_or("?", |member| member.name.as_str());
    let text = match input {
        Input::Message { from, message, .. } => format!("<- {} {message:?}", name(from)),
        Input::Requests(requests) => requests
            .iter()
            .map(|(request, arguments)| {
                let words: Vec<_> = arguments.iter().map(String::from_utf8_lossy).collect();
                format!("<- client {} #{} {}", request.client.0, request.sequence, words.join(" "))
            })
            .collect(),
        Input::Disconnected(client) => format!("client {} has gone", client.0),
        Input::PeerLost(peer) => format!("connection to {} lost", name(peer)),
        Input::Durable { written, synced } => {
            format!("log written to {}, synced to {}", written.0, synced.0)
        }
        Input::Tick => String::from("tick"),
        Input::TurnEnd => String::from("end of turn"),
        Input::Stop => String::from("stop"),
    };
    crate::trace::shorten(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::{ModelName, Options};

    fn cluster() -> Cluster {
        let options = Options::of(3, ModelName::LeaderFollower, Mutants::default());
        Cluster::new(options.plan, 3, Trace::new(true))
    }

    /// Everything that concerns the user until a moment.
    fn pass(cluster: &mut Cluster, until_us: u64) -> Vec<Outside> {
        std::iter::from_fn(|| cluster.next(until_us)).collect()
    }

    #[test]
    fn time_stops_where_it_is_told_to_and_timers_come_in_order() {
        let mut cluster = cluster();
        cluster.set_timer(20_000, Timer::Phase(2));
        cluster.set_timer(10_000, Timer::Phase(1));
        let seen: Vec<String> =
            pass(&mut cluster, 15_000).iter().map(|outside| format!("{outside:?}")).collect();
        assert_eq!(seen, ["Timer(Phase(1))"]);
        assert_eq!(cluster.now_us, 15_000);
    }

    #[test]
    fn a_crash_breaks_the_connections_to_the_node_and_no_others() {
        let mut cluster = cluster();
        let (first, second) = (cluster.connect(NodeId(0)), cluster.connect(NodeId(1)));
        assert_ne!(first, second);
        cluster.crash(NodeId(0), true);
        assert_ne!(cluster.connect(NodeId(1)), second, "no number is used twice");
        let broken: Vec<ClientId> = pass(&mut cluster, 10)
            .into_iter()
            .filter_map(|outside| match outside {
                Outside::Broken(connection) => Some(connection),
                _ => None,
            })
            .collect();
        assert_eq!(broken, [first]);
    }

    #[test]
    fn a_command_to_a_node_that_is_down_breaks_its_connection() {
        let mut cluster = cluster();
        cluster.crash(NodeId(0), true);
        let connection = cluster.connect(NodeId(0));
        cluster.request(connection, vec![String::from("PING")]);
        let outside = pass(&mut cluster, 10_000);
        assert!(outside.iter().any(|o| matches!(o, Outside::Broken(c) if *c == connection)));
    }

    #[test]
    fn a_wiped_disk_is_another_incarnation() {
        let mut cluster = cluster();
        pass(&mut cluster, 50_000);
        let incarnation = |cluster: &Cluster| {
            cluster.server(NodeId(0)).and_then(Server::node).map(|node| node.incarnation())
        };
        let before = incarnation(&cluster);
        assert!(before.is_some());
        cluster.crash(NodeId(0), true);
        cluster.wipe(NodeId(0));
        cluster.start(NodeId(0));
        assert_ne!(incarnation(&cluster), before);
    }
}
