//! What the metrics say: a snapshot of the node and of its loop, by the conventions of Prometheus
//! (`trefoil_..._total`, `_bytes`, `_seconds`). `docs/metrics.md` describes each; a test keeps the
//! two in step.

use crate::event_loop::Sink;
use crate::session::ServerState;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::{Registry, Unit};
use replication::keyspace::Keyspace;
use replication::node::status::{GroupStatus, MemberStatus};
use replication::{GroupId, Node, NodeId, Time};
use std::fmt;
use std::time::Instant;

/// Names and values.
type Labels = Vec<(&'static str, String)>;

/// Figures under one name.
#[derive(Debug)]
struct Family {
    name: &'static str,
    help: &'static str,
    unit: Option<Unit>,
    kind: MetricType,
    samples: Vec<(Labels, u64)>,
}

/// All of them.
#[derive(Debug, Default)]
struct Snapshot(Vec<Family>);

impl Collector for Snapshot {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        for Family { name, help, unit, kind, samples } in &self.0 {
            let mut metric = encoder.encode_descriptor(name, help, unit.as_ref(), *kind)?;
            for (labels, value) in samples {
                match labels.is_empty() {
                    true => encode(&mut metric, *kind, *value)?,
                    false => encode(&mut metric.encode_family(labels)?, *kind, *value)?,
                }
            }
        }
        Ok(())
    }
}

fn encode(metric: &mut MetricEncoder<'_>, kind: MetricType, value: u64) -> fmt::Result {
    match kind {
        MetricType::Counter => metric.encode_counter::<NoLabelSet, _, u64>(&value, None),
        _ => metric.encode_gauge(&value),
    }
}

impl Snapshot {
    fn add(
        &mut self,
        kind: MetricType,
        (name, unit): (&'static str, Option<Unit>),
        help: &'static str,
        samples: Vec<(Labels, u64)>,
    ) {
        self.0.push(Family { name, help, unit, kind, samples });
    }

    fn counter(&mut self, name: &'static str, help: &'static str, value: u64) {
        self.add(MetricType::Counter, (name, None), help, vec![(Vec::new(), value)]);
    }

    fn gauge(&mut self, name: &'static str, help: &'static str, value: u64) {
        self.add(MetricType::Gauge, (name, None), help, vec![(Vec::new(), value)]);
    }

    /// Bytes: a counter or a gauge.
    fn bytes(&mut self, kind: MetricType, name: &'static str, help: &'static str, value: u64) {
        self.add(kind, (name, Some(Unit::Bytes)), help, vec![(Vec::new(), value)]);
    }
}

/// The figures as text.
pub fn snapshot(
    node: &Node,
    sink: &Sink,
    state: &ServerState,
    (now, time): (Instant, Time),
) -> String {
    let mut all = Snapshot::default();
    server(&mut all, state, now);
    clients_and_loop(&mut all, sink, state);
    log_and_events(&mut all, sink);
    peers(&mut all, node, sink, state, time);
    keyspaces(&mut all, node, state, time);
    let mut registry = Registry::with_prefix("trefoil");
    registry.register_collector(Box::new(all));
    let mut text = String::new();
    // A text takes whatever is written to it.
    let _ = text::encode(&mut text, &registry);
    text
}

fn server(all: &mut Snapshot, state: &ServerState, now: Instant) {
    let name = state.cluster.member(state.me).map_or("", |member| &member.name);
    let labels = vec![
        ("version", String::from(env!("CARGO_PKG_VERSION"))),
        ("cluster", state.cluster.name.clone()),
        ("node", name.to_owned()),
    ];
    let help = "1, with the version and names of this node";
    all.add(MetricType::Gauge, ("node_info", None), help, vec![(labels, 1)]);
    let uptime = now.saturating_duration_since(state.started).as_secs();
    let help = "Since when the process runs, as an age";
    all.add(MetricType::Gauge, ("uptime", Some(Unit::Seconds)), help, vec![(Vec::new(), uptime)]);
}

fn clients_and_loop(all: &mut Snapshot, sink: &Sink, state: &ServerState) {
    let (counters, clients) = (&state.counters, &sink.clients);
    all.counter("commands", "Commands received from clients", counters.commands);
    all.gauge("client_connections", "Clients connected now", clients.len() as u64);
    all.counter("client_connections_accepted", "Connections of clients", clients.accepted());
    let help = "Connections refused because there were too many";
    all.counter("client_connections_rejected", help, clients.rejected);
    let help = "Connections closed because of what they sent";
    all.counter("client_protocol_errors", help, counters.protocol_errors);
    let counter = MetricType::Counter;
    all.bytes(counter, "client_received", "Bytes read from clients", counters.bytes_in);
    all.bytes(counter, "client_sent", "Bytes written to clients", clients.bytes_out);
    all.counter("loop_turns", "Turns of the event loop", counters.turns);
    all.counter("loop_reads", "Reads of sockets", counters.reads);
    all.counter("loop_writes_to_clients", "Writes to clients' sockets", clients.writes);
    all.counter("loop_writes_to_peers", "Writes to other nodes' sockets", sink.peers.writes());
}

fn log_and_events(all: &mut Snapshot, sink: &Sink) {
    let (counts, log) = (&sink.counts, &sink.log);
    all.counter("log_records", "Records of the node's log", log.last().0);
    let help = "Batches of the log written past the page cache; each is on disk at once";
    all.counter("log_direct_batches", help, log.counts.direct);
    let help = "Batches of the log written to the page cache; syncs make them durable";
    all.counter("log_page_cache_batches", help, log.counts.plain);
    let help = "Syncs of what the page cache holds of the log";
    all.counter("log_syncs", help, log.counts.syncs);
    all.bytes(MetricType::Gauge, "log_disk", "The log's files", log.bytes_on_disk());
    all.counter("committed_entries", "Entries committed here", counts.committed);
    all.counter("leaderships_won", "Elections that this node has won", counts.leaderships);
    let help = "Writes reported as lost, whatever became of the report since";
    all.counter("lost_writes_reported", help, counts.lost_writes);
    let help = "Writes acknowledged with fewer acks than declared";
    all.counter("degraded_writes", help, counts.degraded_writes);
    all.counter("lease_reads", "Reads that a lease has answered", counts.lease_reads);
    all.counter("leases_lost", "Leases that ended before there was another", counts.leases_lost);
    let help = "Commands of TF.ONCE that were not carried out again";
    all.counter("retries_deduplicated", help, counts.deduplicated);
    let help = "Conflicts of concurrent writes resolved here";
    all.counter("conflicts_resolved", help, counts.conflicts);
    all.counter("read_repairs", "Stale replicas written over after a read", counts.read_repairs);
}

fn peers(all: &mut Snapshot, node: &Node, sink: &Sink, state: &ServerState, time: Time) {
    let help =
        "Connections of other nodes closed because of a frame: foreign, malformed or corrupt";
    all.counter("peer_frames_refused", help, sink.peers.refused);
    let help = "Connections to the peers' address closed before a frame: nobody said in time who \
        he is, or too many were waiting to";
    all.counter("peer_connections_without_word", help, sink.peers.without_word);
    let help = "Messages refused because of an older epoch, or one that cannot be";
    all.counter("peer_epochs_refused", help, sink.counts.epochs_refused);
    let others = (0u16..).map(NodeId).zip(&state.cluster.members);
    let others = others.filter(|(other, _)| *other != state.me);
    let up = others.map(|(other, member)| {
        (vec![("peer", member.name.clone())], u64::from(node.is_up(time, other)))
    });
    let help = "1 if the other node was heard lately";
    all.add(MetricType::Gauge, ("peer_up", None), help, up.collect());
}

/// One figure of a group.
type GroupFigure = (&'static str, Option<Unit>, &'static str, fn(&MemberStatus) -> u64);

/// What a member of a group with a leader knows of it.
const GROUP_FIGURES: [GroupFigure; 8] = [
    ("epoch", None, "The epoch of the group", |here| here.epoch),
    ("leader", None, "1 if this node leads the group", |here| u64::from(here.role == "leader")),
    ("last_index", None, "The newest entry of the group's log", |here| here.last_index),
    ("commit_index", None, "Up to where the log is known to be committed", |here| here.commit),
    ("log_kept", Some(Unit::Bytes), "Entries kept for followers", |here| here.retention.bytes),
    (
        "degrade_open",
        None,
        "1 while writes are acknowledged with fewer acks than declared",
        |here| u64::from(here.degraded.is_some()),
    ),
    ("suspect", None, "1 while this node may lack what it acknowledged", |here| {
        u64::from(here.suspect)
    }),
    ("once_sessions", None, "Sessions remembered for TF.ONCE", |here| here.once_sessions),
];

fn keyspaces(all: &mut Snapshot, node: &Node, state: &ServerState, time: Time) {
    let status: Vec<(&Keyspace, Vec<GroupStatus>)> =
        state.cluster.keyspaces.iter().map(|k| (k, node.status(time, k.id))).collect();
    let sum = |of: fn(&MemberStatus) -> u64| {
        let sums = status.iter().map(|(keyspace, groups)| {
            let here = groups.iter().filter_map(|group| group.here.as_ref());
            (vec![("keyspace", prefix(keyspace))], here.map(of).sum())
        });
        sums.collect::<Vec<_>>()
    };
    all.add(MetricType::Gauge, ("keys", None), "Keys held here", sum(|here| here.keys));
    let unit = Some(Unit::Bytes);
    all.add(MetricType::Gauge, ("records", unit), "Memory of the records", sum(|here| here.bytes));
    let led: Vec<(Labels, &GroupStatus, &MemberStatus)> = status
        .iter()
        .flat_map(|(keyspace, groups)| groups.iter().map(move |group| (keyspace, group)))
        .filter_map(|(keyspace, group)| {
            let here = group.here.as_ref()?;
            let is_led = group.group.datacenter != GroupId::EVERYWHERE;
            is_led.then(|| (labels(keyspace, group, state), group, here))
        })
        .collect();
    let has =
        led.iter().map(|(labels, group, _)| (labels.clone(), u64::from(group.leader.is_some())));
    let help = "1 if this node knows who leads the group";
    all.add(MetricType::Gauge, ("has_leader", None), help, has.collect());
    for (name, unit, help, of) in GROUP_FIGURES {
        let samples = led.iter().map(|(labels, _, here)| (labels.clone(), of(here))).collect();
        all.add(MetricType::Gauge, (name, unit), help, samples);
    }
    lags_and_losses(all, state, &led);
}

fn lags_and_losses(
    all: &mut Snapshot,
    state: &ServerState,
    led: &[(Labels, &GroupStatus, &MemberStatus)],
) {
    let name = |node: NodeId| state.cluster.member(node).map_or("", |member| &member.name).into();
    let with = |labels: &Labels, key, value| {
        let mut labels = labels.clone();
        labels.push((key, value));
        labels
    };
    let lags = |of: fn(&MemberStatus) -> &[(NodeId, u64)]| {
        let lags = led.iter().flat_map(|(labels, _, here)| {
            of(here).iter().map(|(node, lag)| (with(labels, "follower", name(*node)), *lag))
        });
        lags.collect::<Vec<_>>()
    };
    let help = "At the leader: entries that a follower lacks, while it is heard";
    all.add(MetricType::Gauge, ("follower_lag_entries", None), help, lags(|here| &here.lag));
    let help = "At the leader: bytes of entries that a follower is not known to have";
    let unit = Some(Unit::Bytes);
    all.add(MetricType::Gauge, ("follower_lag", unit), help, lags(|here| &here.lag_bytes));
    let lost = led.iter().flat_map(|(labels, _, here)| {
        let counts = &here.lost_writes;
        [
            ("acknowledged", counts.acknowledged),
            ("not_acknowledged", counts.not_acknowledged),
            ("maybe", counts.maybe),
            ("given_up", counts.given_up),
        ]
        .map(|(class, count)| (with(labels, "class", class.to_owned()), count))
    });
    let help = "Lost writes in this node's report, by what their clients were told";
    all.add(MetricType::Gauge, ("lost_writes", None), help, lost.collect());
    let at_leader = |of: fn(&MemberStatus) -> u64| {
        led.iter().map(|(labels, _, here)| (labels.clone(), of(here))).collect::<Vec<_>>()
    };
    let help = "At the leader: earlier leaders that have not told, or cannot, which acknowledged \
                writes a failover may have lost";
    let unheard = at_leader(|here| here.unheard_leaders);
    all.add(MetricType::Gauge, ("unheard_leaders", None), help, unheard);
    let help = "At the leader: entries that are gone with those leaders, at least";
    let unheard = at_leader(|here| here.unheard_at_least);
    all.add(MetricType::Gauge, ("unheard_entries_at_least", None), help, unheard);
}

fn prefix(keyspace: &Keyspace) -> String {
    keyspace.prefix.escape_ascii().to_string()
}

fn labels(keyspace: &Keyspace, group: &GroupStatus, state: &ServerState) -> Labels {
    let datacenter = state.cluster.datacenters.get(usize::from(group.group.datacenter.0));
    vec![
        ("keyspace", prefix(keyspace)),
        ("partition", group.group.partition.to_string()),
        ("datacenter", datacenter.cloned().unwrap_or_default()),
    ]
}
