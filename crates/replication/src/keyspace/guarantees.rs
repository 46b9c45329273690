//! What follows from a keyspace's options, in plain words: what `trefoil explain` prints.
//!
//! Every sentence names the rule or the numbers that it follows from. Where in doubt it promises
//! less: what is said here, the simulator's checkers hold the models to.

use super::{
    Cluster, Durability, Failover, GroupOptions, Keyspace, Leaderless, MissingAcks, Model,
    MultiLeader, Reads,
};
use crate::DatacenterId;
use crate::quorum::{Quorum, reads_see_writes};
use crate::replicas::of_partition;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

/// What a keyspace guarantees and what it does not: a headline, then one statement a line.
pub fn explain(cluster: &Cluster, keyspace: &Keyspace) -> Vec<String> {
    let mut lines = Vec::new();
    let prefix = match keyspace.prefix.escape_ascii().to_string() {
        empty if empty.is_empty() => "keys of no other keyspace".to_string(),
        prefix => format!("keys that start with \"{prefix}\""),
    };
    let dealt = match keyspace.partitions() {
        1 => "1 partition".to_string(),
        partitions => format!("{partitions} partitions"),
    };
    lines.push(format!("{}: {prefix}, in {dealt}.", keyspace.model.name()));
    match &keyspace.model {
        Model::LeaderFollower(options) => {
            let home = cluster.datacenter_name(options.home);
            explain_group(&options.group, &home, &mut lines);
            lines.push(format!(
                "All replicas are in {home}: while it is down or cut off, these keys can be \
                 neither read nor written from elsewhere."
            ));
        }
        Model::MultiLeader(options) => explain_multi_leader(cluster, options, &mut lines),
        Model::Leaderless(options) => explain_leaderless(cluster, keyspace, options, &mut lines),
    }
    lines
}

/// A leader-follower group: of the home, or of each datacenter.
fn explain_group(options: &GroupOptions, place: &str, lines: &mut Vec<String>) {
    let quorum = Quorum::of(options);
    let Quorum { replicas: n, acks: a, election: e, commit: c } = quorum;
    lines.push(format!(
        "In {place}: N = {n} replicas; one of them leads and orders the writes, the others copy \
         its log."
    ));
    let acks = options.acks;
    lines.push(format!(
        "A = {a} (acks = {acks}): a writer is told OK when {a} of {n} replicas have the write, the \
         leader included."
    ));
    let majority = n / 2 + 1;
    let election = match options.failover {
        Failover::Safe => format!("failover = safe: the larger of N - A + 1 and {majority}"),
        Failover::Available => format!("failover = available: a majority of {n}"),
    };
    lines.push(format!("E = {e} ({election}): a new leader needs {e} {}.", votes(e)));
    lines.push(format!(
        "C = {c} (N - E + 1): a write that {c} of {n} replicas have is committed; no failover \
         loses it, because C + E > N."
    ));
    explain_nodes_down(options, &quorum, lines);
    explain_failover(&quorum, lines);
    explain_durability(options.durability, a, lines);
    explain_missing_acks(options, &quorum, lines);
    explain_reads(options.reads, &quorum, lines);
}

fn explain_nodes_down(options: &GroupOptions, quorum: &Quorum, lines: &mut Vec<String>) {
    let (writes, failover) = (quorum.writes_tolerate(), quorum.failover_tolerates());
    let reads = match options.reads {
        // A leader shows that it leads by a round that C replicas answer, itself included.
        Reads::Leader => quorum.replicas - quorum.commit,
        Reads::Follower => quorum.replicas - 1,
    };
    lines.push(format!(
        "While the leader is up, writes go on with {writes} other {} down, reads with {reads}.",
        nodes(writes)
    ));
    let text = match failover {
        0 => "If the leader is down, nobody can take over until it is back.".to_string(),
        _ => format!(
            "If the leader is down, another one takes over by itself with {failover} {} down, the \
             old leader included; then writes go on with {} down in all.",
            nodes(failover),
            failover.min(writes)
        ),
    };
    lines.push(text);
}

fn explain_failover(quorum: &Quorum, lines: &mut Vec<String>) {
    let Quorum { replicas: n, acks: a, election: e, commit: c } = *quorum;
    if quorum.acknowledged_survives() {
        lines
            .push(format!("No failover loses an acknowledged write: A + E = {} > N = {n}.", a + e));
        return;
    }
    lines.push(format!(
        "A failover CAN LOSE acknowledged writes: A + E = {} is not more than N = {n}. Lost are \
         the newest ones, those that fewer than C = {c} replicas had when the leader failed; what \
         an old leader must cut when it returns is kept aside.",
        a + e
    ));
}

/// What becomes of copies when power fails or disks are lost; `copies` had counted.
fn explain_durability(durability: Durability, copies: usize, lines: &mut Vec<String>) {
    lines.push(match durability {
        Durability::Fsync => {
            "durability = fsync: a copy counts when it is on disk. Neither a crash \
                              of processes nor a power cut takes a copy that counted, be it on \
                              all nodes at once."
                .to_string()
        }
        Durability::Interval => {
            "durability = interval-1s: a copy counts when the operating system \
                                 has it, and is on disk within a second. A crash of processes \
                                 takes nothing; a power cut CAN LOSE writes acknowledged in \
                                 the last second, even if it hits one node only."
                .to_string()
        }
    });
    lines.push(match copies {
        0 | 1 => {
            "At the moment of OK one copy may be all there is: if its disk is destroyed before \
                  others have copied it, the write is lost."
                .to_string()
        }
        _ => format!(
            "At the moment of OK there are {copies} copies or more: with {} of their disks \
             destroyed there is still one.",
            copies - 1
        ),
    });
}

fn explain_missing_acks(options: &GroupOptions, quorum: &Quorum, lines: &mut Vec<String>) {
    let needed = quorum.acks;
    let timeout_ms = options.ack_timeout_ms;
    lines.push(match options.missing_acks {
        MissingAcks::Error => format!(
            "when-acks-are-missing = error: a write that does not have {needed} of {} copies \
             within {timeout_ms} ms is answered -UNKNOWN; it may survive or not.",
            quorum.replicas
        ),
        MissingAcks::Degrade if quorum.degraded() < needed => format!(
            "when-acks-are-missing = degrade: a write that does not have {needed} of {} copies \
             within {timeout_ms} ms is acknowledged when it is committed, with {} copies or more; \
             TF.DEGRADED LIST says from which write to which that happened. With fewer it is \
             answered -UNKNOWN.",
            quorum.replicas,
            quorum.degraded()
        ),
        MissingAcks::Degrade => format!(
            "when-acks-are-missing = degrade can do nothing here: acks are lowered to the C = {} \
             copies of a committed write at most, and A = {needed} is not more. A write that does \
             not have them within {timeout_ms} ms is answered -UNKNOWN.",
            quorum.commit
        ),
        MissingAcks::Block => format!(
            "when-acks-are-missing = block: a write that does not have {needed} of {} copies waits \
             until it has them, or until its leader no longer leads (-UNKNOWN).",
            quorum.replicas
        ),
    });
}

fn explain_reads(reads: Reads, quorum: &Quorum, lines: &mut Vec<String>) {
    let round = quorum.commit;
    lines.push(match reads {
        Reads::Leader if quorum.acknowledged_survives() => format!(
            "reads = leader: linearizable, every read sees every write acknowledged before it; the \
             leader answers after a round in which {round} of {} replicas, itself included, \
             confirm that it leads.",
            quorum.replicas
        ),
        Reads::Leader => "reads = leader: every read sees every write acknowledged before it, \
                          until a failover loses some; what was read can then be gone, too."
            .to_string(),
        Reads::Follower => "reads = follower: any replica answers from what it knows to be \
                            committed. A read may be STALE by the replication lag, may miss one's \
                            own write, and may be older than the read before it."
            .to_string(),
    });
}

fn explain_multi_leader(cluster: &Cluster, options: &MultiLeader, lines: &mut Vec<String>) {
    let names: Vec<String> =
        options.datacenters.iter().map(|number| cluster.datacenter_name(*number)).collect();
    let names = names.join(", ");
    let commit = Quorum::of(&options.group).commit;
    lines.push(format!(
        "One leader in each of {names}: a write is acknowledged in the datacenter it came to, \
         without waiting for another; all that follows about nodes holds inside each."
    ));
    for number in &options.datacenters {
        explain_group_once(options, *number, cluster, lines);
    }
    lines.push(format!(
        "Once committed (C = {commit}), a write is sent to the other datacenters, exactly once and \
         in order; one that was away catches up."
    ));
    lines.push(
        "With any number of other datacenters down or cut off, a datacenter goes on with reads and \
         writes. Reads see the others' writes later, by the replication lag between them; nothing \
         is linearizable across datacenters."
            .to_string(),
    );
    lines.push(
        "If a datacenter is destroyed, the acknowledged writes that it had not yet sent ARE LOST; \
         if it is only down, they come when it is back."
            .to_string(),
    );
    lines.push(
        "conflicts = last-write-wins: of two writes of one key, neither of which had seen the \
         other, the one with the larger stamp stays in all datacenters and the other IS DROPPED, \
         though it was acknowledged. A write that had seen the other always wins over it, whatever \
         the clocks say. Increments (INCR and its family) on the same base add up instead."
            .to_string(),
    );
    lines.push(
        "What claims or compares (SET NX, GETSET, GETDEL, ...) is refused with -NEEDCOORD: two \
         datacenters could both succeed."
            .to_string(),
    );
}

/// The group of the first datacenter in full; the others have the same numbers.
fn explain_group_once(
    options: &MultiLeader,
    datacenter: DatacenterId,
    cluster: &Cluster,
    lines: &mut Vec<String>,
) {
    let name = cluster.datacenter_name(datacenter);
    match options.datacenters.first() {
        Some(first) if *first != datacenter => {
            let first = cluster.datacenter_name(*first);
            lines.push(format!("In {name}: the same numbers as in {first}."));
        }
        _ => explain_group(&options.group, &name, lines),
    }
}

fn explain_leaderless(
    cluster: &Cluster,
    keyspace: &Keyspace,
    options: &Leaderless,
    lines: &mut Vec<String>,
) {
    let (n, w, r) = (usize::from(options.n), usize::from(options.w), usize::from(options.r));
    lines.push(format!(
        "N = {n} replicas of each key, on different nodes, spread over the datacenters; any of \
         them takes reads and writes. There is no leader: nothing is elected, no failover is \
         needed."
    ));
    lines.push(format!(
        "W = {w}: a writer is told OK when {w} of {n} replicas have the write. R = {r}: a read \
         waits for the answers of {r} of {n} and returns the newest."
    ));
    let (writes, reads) = (n.saturating_sub(w), n.saturating_sub(r));
    lines.push(format!(
        "Writes go on with {writes} of a key's replicas down (N - W), reads with {reads} (N - R)."
    ));
    for number in 0..cluster.datacenters.len() {
        let datacenter = DatacenterId(u8::try_from(number).unwrap_or(u8::MAX));
        lines.push(datacenter_down(cluster, keyspace, options, datacenter));
    }
    explain_overlap(n, w, r, lines);
    explain_durability(options.durability, w, lines);
    let timeout_ms = options.timeout_ms;
    lines.push(format!(
        "A write with fewer than {w} acks after {timeout_ms} ms is answered -PARTIAL with how many \
         it has: it is not undone, may be seen, and may spread later."
    ));
    lines.push(
        "Last write wins: of two concurrent writes of one key the one with the larger stamp stays \
         and the other IS DROPPED, though it was acknowledged. Increments on the same base add up \
         instead."
            .to_string(),
    );
    lines.push(
        "What must read to write, claims or compares (SET NX, GETSET, APPEND, ...) is refused with \
         -NEEDCOORD."
            .to_string(),
    );
}

/// What a read sees.
fn explain_overlap(n: usize, w: usize, r: usize, lines: &mut Vec<String>) {
    let sum = w + r;
    if reads_see_writes(n, w, r) {
        lines.push(format!(
            "W + R = {sum} > N = {n}: every read meets at least {} that has the newest \
             acknowledged write. It is NOT linearizable even so: a write that is under way or has \
             failed may be seen by one read and unseen by the next, until it is repaired.",
            match sum - n {
                1 => "1 replica".to_string(),
                replicas => format!("{replicas} replicas"),
            }
        ));
    } else {
        lines.push(format!(
            "W + R = {sum} is not more than N = {n}: a read MAY BE STALE, it can miss every \
             replica that has the newest acknowledged write, until that is repaired."
        ));
    }
    if 2 * w <= n {
        lines.push(format!(
            "2W = {} is not more than N = {n}: two writes may share no replica. Where the nodes' \
             clocks differ, a later write can then lose to an earlier one.",
            2 * w
        ));
    }
}

/// What remains of a leaderless keyspace without one of the datacenters.
fn datacenter_down(
    cluster: &Cluster,
    keyspace: &Keyspace,
    options: &Leaderless,
    datacenter: DatacenterId,
) -> String {
    let is_there = |node: &crate::NodeId| {
        cluster.member(*node).is_some_and(|member| member.datacenter == datacenter)
    };
    let lost_in = |partition| {
        let nodes = of_partition(cluster, keyspace, partition, None);
        nodes.iter().filter(|node| is_there(node)).count()
    };
    let lost: Vec<usize> = (0..keyspace.partitions()).map(lost_in).collect();
    let (least, most) = (lost.iter().min().copied(), lost.iter().max().copied());
    let (least, most) = (least.unwrap_or(0), most.unwrap_or(0));
    let n = usize::from(options.n);
    let fate = |needed: u8| {
        let needed = usize::from(needed);
        match (n.saturating_sub(least) >= needed, n.saturating_sub(most) >= needed) {
            (_, true) => "go on",
            (true, false) => "go on for some keys only",
            (false, false) => "stop",
        }
    };
    let counts = if least == most { format!("{most}") } else { format!("{least} to {most}") };
    format!(
        "With {} down ({counts} of a key's {n} replicas): writes {}, reads {}.",
        cluster.datacenter_name(datacenter),
        fate(options.w),
        fate(options.r)
    )
}

fn nodes(count: usize) -> &'static str {
    if count == 1 { "node" } else { "nodes" }
}

fn votes(count: usize) -> &'static str {
    if count == 1 { "vote" } else { "votes" }
}

#[cfg(test)]
#[path = "guarantees_tests.rs"]
mod tests;
