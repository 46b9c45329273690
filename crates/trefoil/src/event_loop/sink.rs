//! Where the core's effects go: the log batch, the peers' frames, the clients' buffers. Nothing is
//! sent here; the event loop sends at the end of the turn.

use crate::clients::Clients;
use crate::disk::Log;
use crate::operator_log;
use crate::peers::Peers;
use replication::keyspace::Cluster;
use replication::keyspace::Durability;
use replication::leader_follower::lost_writes::Counts as LostCounts;
use replication::version::EntryId;
use replication::{Effects, Event, GroupId, Message, NodeId, Position, Reply, RequestId};
use std::sync::Arc;

/// Where the core's effects go.
pub struct Sink {
    /// The clients.
    pub clients: Clients,
    /// The other nodes.
    pub peers: Peers,
    /// The log.
    pub log: Log,
    /// For the names in the operator's lines.
    pub cluster: Arc<Cluster>,
    /// Events that are counted, not told.
    pub counts: Counts,
}

/// Events that come too often for a line each.
#[derive(Clone, Copy, Default, Debug)]
pub struct Counts {
    /// Entries committed here.
    pub committed: u64,
    /// Messages of an older epoch refused.
    pub epochs_refused: u64,
    /// Conflicts of concurrent writes resolved here.
    pub conflicts: u64,
    /// Commands of `TF.ONCE` that were sent again and not carried out again.
    pub deduplicated: u64,
    /// Stale replicas written over after a read.
    pub read_repairs: u64,
    /// Leaderships won.
    pub leaderships: u64,
    /// Writes reported as lost.
    pub lost_writes: u64,
    /// Writes acknowledged with fewer acks than declared.
    pub degraded_writes: u64,
    /// Reads answered under a lease, without asking a follower.
    pub lease_reads: u64,
    /// How often reads had to ask again because a lease was over.
    pub leases_lost: u64,
}

impl Effects for Sink {
    fn append_parts(&mut self, head: &[u8], rest: &[u8], durability: Durability) -> Position {
        self.log.append_parts(head, rest, durability)
    }

    fn truncate(&mut self, before: Position) {
        self.log.truncate(before);
    }

    fn send(&mut self, to: NodeId, message: &Message<'_>) {
        self.peers.send(to, message);
    }

    fn reply(&mut self, request: RequestId, reply: &Reply<'_>) {
        self.clients.reply(request, reply);
    }

    fn event(&mut self, event: &Event) {
        match event {
            Event::BecameLeader { group, epoch } => {
                self.counts.leaderships += 1;
                let group = self.group(*group);
                operator_log::line(format_args!("leader of {group} in epoch {epoch}"));
            }
            Event::SteppedDown { group, epoch, reason } => {
                let group = self.group(*group);
                operator_log::line(format_args!(
                    "no longer leader of {group} in epoch {epoch}: {reason}"
                ));
            }
            Event::PossibleLoss { group, epoch, last, why } => {
                self.tell_loss(*group, *epoch, *last, why);
            }
            Event::EpochRefused { .. } => self.counts.epochs_refused += 1,
            Event::HandedOver { group, epoch, to, pause_ms } => {
                let group = self.group(*group);
                let to = self.cluster.member(*to).map_or("?", |member| &member.name);
                operator_log::line(format_args!(
                    "{to} leads {group} in epoch {epoch}; no commands were taken for {pause_ms} ms"
                ));
            }
            Event::LeaseReads { reads, .. } => self.counts.lease_reads += reads,
            Event::LeaseLost { .. } => self.counts.leases_lost += 1,
            Event::Committed { .. } => self.counts.committed += 1,
            Event::Truncated { group, last_kept, cut } => {
                let group = self.group(*group);
                operator_log::line(format_args!(
                    "{cut} entries of {group} cut behind epoch {} index {}: a newer leader's log \
                     differs; what clients wrote is kept aside",
                    last_kept.epoch, last_kept.index
                ));
            }
            Event::LostWrites { group, counts } => {
                self.counts.lost_writes += counts.all();
                self.tell_lost(*group, counts);
            }
            Event::AcknowledgedBelow { .. } => self.counts.degraded_writes += 1,
            Event::DegradeOpened { group, first } => {
                let group = self.group(*group);
                operator_log::line(format_args!(
                    "DEGRADED: acks of {group} are missing; writes from epoch {} index {} on may \
                     be acknowledged with fewer than declared",
                    first.epoch, first.index
                ));
            }
            Event::DegradeClosed { group, last, writes } => {
                let group = self.group(*group);
                operator_log::line(format_args!(
                    "acks of {group} are as declared again; {writes} writes up to epoch {} index \
                     {} may have had fewer",
                    last.epoch, last.index
                ));
            }
            Event::SnapshotInstalled { .. }
            | Event::VoterAdmitted { .. }
            | Event::SnapshotResumed { .. } => self.tell_of_follower(event),
            Event::Deduplicated { .. } => self.counts.deduplicated += 1,
            Event::ConflictResolved { .. } => self.counts.conflicts += 1,
            Event::ReadRepaired { .. } => self.counts.read_repairs += 1,
            Event::Alarm(text) => operator_log::line(format_args!("ALARM: {text}")),
        }
    }
}

impl Sink {
    /// A follower has been brought up, or is being.
    fn tell_of_follower(&self, event: &Event) {
        match event {
            Event::SnapshotInstalled { group, up_to } => {
                let group = self.group(*group);
                operator_log::line(format_args!("snapshot of {group} installed up to {up_to}"));
            }
            Event::VoterAdmitted { group, node, incarnation } => {
                let group = self.group(*group);
                let node = self.cluster.member(*node).map_or("?", |member| &member.name);
                operator_log::line(format_args!(
                    "{node} counts again in {group} with its new disk {:016x}",
                    incarnation.0
                ));
            }
            Event::SnapshotResumed { group, node, next_slot } => {
                let group = self.group(*group);
                let node = self.cluster.member(*node).map_or("?", |member| &member.name);
                operator_log::line(format_args!(
                    "the snapshot of {group} for {node} goes on at slot {next_slot}"
                ));
            }
            _ => {}
        }
    }

    fn tell_loss(&self, group: GroupId, epoch: u64, last: EntryId, why: &str) {
        let group = self.group(group);
        operator_log::line(format_args!(
            "ALARM: POSSIBLE LOSS: leader of {group} in epoch {epoch}, behind epoch {} index {}, \
             which is all that is left: {why}",
            last.epoch, last.index
        ));
    }

    fn tell_lost(&self, group: GroupId, counts: &LostCounts) {
        let group = self.group(group);
        operator_log::line(format_args!(
            "{} writes of {group} are lost by a failover: {} were acknowledged, {} were not, of {} \
             nobody knows; TF.LOST LIST shows them",
            counts.all(),
            counts.acknowledged,
            counts.not_acknowledged,
            counts.maybe
        ));
    }

    /// A group in an operator's words.
    fn group(&self, group: GroupId) -> String {
        let prefix = self
            .cluster
            .keyspace(group.keyspace)
            .map_or("?".into(), |keyspace| keyspace.prefix.escape_ascii().to_string());
        let place = usize::from(group.datacenter.0);
        let datacenter = self.cluster.datacenters.get(place);
        let place = datacenter.map_or(String::new(), |name| format!(" in {name}"));
        format!("keyspace \"{prefix}\" partition {}{place}", group.partition)
    }
}
