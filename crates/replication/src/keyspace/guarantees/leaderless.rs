//! What a leaderless keyspace guarantees.

use super::claim::{ARITHMETIC, Claims};
use super::group::explain_durability;
use crate::DatacenterId;
use crate::keyspace::{Cluster, Keyspace, Leaderless};
use crate::quorum::reads_see_writes;
use crate::replicas::of_partition;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

/// A leaderless keyspace.
pub(super) fn explain_leaderless(
    cluster: &Cluster,
    keyspace: &Keyspace,
    options: &Leaderless,
    claims: &mut Claims,
) {
    let (n, w, r) = (usize::from(options.n), usize::from(options.w), usize::from(options.r));
    claims.plain(format!(
        "N = {n} replicas of each key, on different nodes, spread over the datacenters; any of \
         them takes reads and writes. There is no leader: nothing is elected, no failover is \
         needed."
    ));
    claims.plain(format!(
        "W = {w}: a writer is told OK when {w} of {n} replicas have the write. R = {r}: a read \
         waits for the answers of {r} of {n} and returns the newest."
    ));
    let (writes, reads) = (n.saturating_sub(w), n.saturating_sub(r));
    claims.add(ARITHMETIC, format!(
        "Writes go on with {writes} of a key's replicas down (N - W), reads with {reads} (N - R)."
    ));
    for number in 0..cluster.datacenters.len() {
        let datacenter = DatacenterId(u8::try_from(number).unwrap_or(u8::MAX));
        claims.add(ARITHMETIC, datacenter_down(cluster, keyspace, options, datacenter));
    }
    explain_overlap(n, w, r, claims);
    explain_durability(options.durability, w, &["quorum_reads", "counters"], claims);
    let timeout_ms = options.timeout_ms;
    claims.plain(format!(
        "A write with fewer than {w} acks after {timeout_ms} ms is answered -PARTIAL with how many \
         it has: it is not undone, may be seen, and may spread later."
    ));
    claims.add(
        &["quorum_reads", "counters"],
        "Last write wins: of two concurrent writes of one key the one with the larger stamp stays \
         and the other IS DROPPED, though it was acknowledged. Increments on the same base add up \
         instead."
            .to_string(),
    );
    claims.plain(
        "What must read to write, claims or compares (SET NX, GETSET, APPEND, ...) is refused with \
         -NEEDCOORD."
            .to_string(),
    );
}

/// What a read sees.
fn explain_overlap(n: usize, w: usize, r: usize, claims: &mut Claims) {
    let sum = w + r;
    if reads_see_writes(n, w, r) {
        claims.add(
            &["quorum_reads"],
            format!(
                "W + R = {sum} > N = {n}: every read meets at least {} that has the newest \
             acknowledged write. It is NOT linearizable even so: a write that is under way or has \
             failed may be seen by one read and unseen by the next, until it is repaired.",
                match sum - n {
                    1 => "1 replica".to_string(),
                    replicas => format!("{replicas} replicas"),
                }
            ),
        );
    } else {
        claims.add(
            ARITHMETIC,
            format!(
                "W + R = {sum} is not more than N = {n}: a read MAY BE STALE, it can miss every \
             replica that has the newest acknowledged write, until that is repaired."
            ),
        );
    }
    if 2 * w <= n {
        claims.add(ARITHMETIC, format!(
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
