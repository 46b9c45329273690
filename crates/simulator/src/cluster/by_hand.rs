//! A cluster that is played by hand, as a test of a single story does: in calm weather, so that
//! only what is done to it goes wrong, and with words for what is done and looked at in between.

use super::{Cluster, Outside, Plan, Server};
use crate::disk::Pace;
use crate::leases::DRIFT_APART_PPM;
use crate::network::Weather;
use crate::options::cluster_of;
use crate::trace::Trace;
use replication::keyspace::{self, GroupOptions, LeaderFollower, Model};
use replication::leader_follower::Group;
use replication::leader_follower::message::VoterSet;
use replication::mutant::Mutants;
use replication::node::{Limits, Timing};
use replication::{ClientId, DatacenterId, NodeId, Reply};

/// A millisecond, in microseconds.
pub const MS: u64 = 1_000;
/// How long a story waits for what must come: time for many elections.
pub const PATIENCE_US: u64 = 20_000 * MS;
/// From one look to the next. Some moments are hardly longer.
const LOOK_US: u64 = 100;

/// Timeouts that keep stories short.
pub const SHORT_TIMING: Timing = Timing {
    heartbeat_interval_us: 30 * MS,
    election_timeout_us: 200 * MS,
    lease_us: 150 * MS,
    clock_drift_ppm: DRIFT_APART_PPM,
    leader_wait_us: 2_000 * MS,
    forward_timeout_us: 2_000 * MS,
    gaps_interval_us: 1_000 * MS,
};

impl Plan {
    /// A cluster in which nothing goes wrong by itself.
    pub fn calm(cluster: keyspace::Cluster) -> Plan {
        Plan {
            cluster,
            timing: SHORT_TIMING,
            limits: Limits::default(),
            mutants: Mutants::default(),
            weather: Weather::calm(),
            pace: Pace::quick(),
        }
    }

    /// The usual one: three nodes that hold one leader-follower group.
    pub fn of_three(group: GroupOptions) -> Plan {
        let (home, partitions) = (DatacenterId(0), 1);
        let model = Model::LeaderFollower(LeaderFollower { home, partitions, group });
        Plan::calm(cluster_of(&["eu"], 3, model, 1))
    }

    /// The cluster itself, which nobody traces.
    pub fn build(self, seed: u64) -> Cluster {
        Cluster::new(self, seed, Trace::new(false))
    }
}

/// What is done.
impl Cluster {
    /// Lets time pass.
    pub fn pass(&mut self, for_us: u64) {
        let until_us = self.now_us + for_us;
        while self.next(until_us).is_some() {}
    }

    /// Lets time pass until something is seen, but no longer than so; returns that.
    pub fn within<T>(&mut self, limit_us: u64, look: impl Fn(&Cluster) -> Option<T>) -> Option<T> {
        let limit_us = self.now_us + limit_us;
        loop {
            let seen = look(self);
            if seen.is_some() || self.now_us >= limit_us {
                return seen;
            }
            self.pass(LOOK_US.min(limit_us - self.now_us));
        }
    }

    /// Lets time pass until something is so; whether it came to be within [`PATIENCE_US`].
    pub fn until(&mut self, is_so: impl Fn(&Cluster) -> bool) -> bool {
        self.within(PATIENCE_US, |cluster| is_so(cluster).then_some(())).is_some()
    }

    /// A client sends a command and does not wait; returns its number on the connection.
    pub fn send(&mut self, connection: ClientId, words: &[impl AsRef<str>]) -> u64 {
        self.request(connection, words.iter().map(|word| word.as_ref().to_string()).collect())
    }

    /// A client sends a command and waits; `None` where its connection breaks, or no reply comes
    /// within [`PATIENCE_US`].
    pub fn ask_over(
        &mut self,
        connection: ClientId,
        words: &[impl AsRef<str>],
    ) -> Option<Reply<'static>> {
        let asked = self.send(connection, words);
        let limit_us = self.now_us + PATIENCE_US;
        while let Some(outside) = self.next(limit_us) {
            match outside {
                Outside::Reply { connection: on, sequence, reply }
                    if (on, sequence) == (connection, asked) =>
                {
                    return Some(reply);
                }
                Outside::Broken(on) if on == connection => return None,
                _ => {}
            }
        }
        None
    }

    /// The same over a new connection to a node.
    pub fn ask(&mut self, node: NodeId, words: &[impl AsRef<str>]) -> Option<Reply<'static>> {
        let connection = self.connect(node);
        self.ask_over(connection, words)
    }

    /// Cuts a node off from all others, or mends its links.
    pub fn cut(&mut self, node: NodeId, cut: bool) {
        self.cut_ways(node, cut, cut);
    }

    /// Cuts, or mends, what a node sends (`out`) and what it gets (`inwards`).
    pub fn cut_ways(&mut self, node: NodeId, out: bool, inwards: bool) {
        for other in self.others(node) {
            self.network.set_cut(node, other, out);
            self.network.set_cut(other, node, inwards);
        }
    }

    /// Cuts, or mends, what two nodes send each other.
    pub fn cut_between(&mut self, one: NodeId, other: NodeId, cut: bool) {
        self.network.set_cut(one, other, cut);
        self.network.set_cut(other, one, cut);
    }
}

/// What is looked at.
impl Cluster {
    /// All nodes but one.
    pub fn others(&self, than: NodeId) -> Vec<NodeId> {
        self.nodes().into_iter().filter(|node| *node != than).collect()
    }

    /// The first group that a node holds, while it is up.
    pub fn group(&self, node: NodeId) -> Option<&Group> {
        self.server(node).and_then(Server::node)?.groups().next()
    }

    /// The first node whose group is as asked for.
    pub fn node_where(&self, is_so: impl Fn(&Group) -> bool) -> Option<NodeId> {
        self.nodes().into_iter().find(|node| self.group(*node).is_some_and(&is_so))
    }

    /// Who leads, and may answer.
    pub fn leader(&self) -> Option<NodeId> {
        self.node_where(Group::is_serving)
    }

    /// The same where it leads in a later epoch than this one.
    pub fn leader_above(&self, epoch: u64) -> Option<NodeId> {
        self.node_where(|group| group.is_serving() && group.epoch() > epoch)
    }

    /// Each node's disk; nothing where one of them is down.
    pub fn disks(&self) -> Option<VoterSet> {
        let disk = |node| Some((node, self.server(node)?.node()?.incarnation()));
        self.nodes().into_iter().map(disk).collect()
    }

    /// Whether all nodes are up, and know each other's disks for those of voters.
    pub fn all_disks_count(&self) -> bool {
        let Some(disks) = self.disks() else { return false };
        let knows = |node| self.group(node).is_some_and(|group| group.voters() == disks);
        self.nodes().into_iter().all(knows)
    }

    /// The epoch that a node is in; 0 while it is down.
    pub fn epoch(&self, node: NodeId) -> u64 {
        self.group(node).map_or(0, Group::epoch)
    }

    /// Up to where a node knows its group's log to be committed; 0 while it is down.
    pub fn commit(&self, node: NodeId) -> u64 {
        self.group(node).map_or(0, Group::commit)
    }

    /// Where the log of a node's group ends; 0 while it is down.
    pub fn last_index(&self, node: NodeId) -> u64 {
        self.group(node).map_or(0, |group| group.last().index)
    }
}
