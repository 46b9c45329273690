//! What follows from a keyspace's options, in plain words: what `trefoil explain` and `TF.EXPLAIN`
//! print.
//!
//! Every sentence names the rule or the numbers that it follows from, and the checker of the
//! simulator (a file of `crates/simulator/src/checkers`) that holds the models to it. What has none
//! is no claim: a warning, what a word means, what is refused. Where in doubt it promises less.

mod claim;
mod group;
mod leaderless;

pub use claim::CHECKERS;

use super::{Cluster, Keyspace, Model, MultiLeader};
use crate::DatacenterId;
use crate::quorum::Quorum;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use claim::{ARITHMETIC, Claims};
use group::{LEADER_FOLLOWER, MULTI_LEADER, explain_group};
use leaderless::explain_leaderless;

/// What a keyspace guarantees and what it does not: a headline, then one statement a line, with
/// headings in between, which end with a colon.
pub fn explain(cluster: &Cluster, keyspace: &Keyspace) -> Vec<String> {
    let mut claims = Claims::default();
    let prefix = match keyspace.prefix.escape_ascii().to_string() {
        empty if empty.is_empty() => "keys of no other keyspace".to_string(),
        prefix => format!("keys that start with \"{prefix}\""),
    };
    let dealt = match keyspace.partitions() {
        1 => "1 partition".to_string(),
        partitions => format!("{partitions} partitions"),
    };
    claims.plain(format!("{}: {prefix}, in {dealt}.", keyspace.model.name()));
    match &keyspace.model {
        Model::LeaderFollower(options) => {
            let home = cluster.datacenter_name(options.home);
            explain_group(&options.group, &home, &LEADER_FOLLOWER, &mut claims);
            claims.heading("Datacenters");
            claims.add(
                ARITHMETIC,
                format!(
                    "All replicas are in {home}: while it is down or cut off, these keys can be \
                     neither read nor written from elsewhere."
                ),
            );
        }
        Model::MultiLeader(options) => explain_multi_leader(cluster, options, &mut claims),
        Model::Leaderless(options) => {
            explain_leaderless(cluster, keyspace, options, &mut claims);
        }
    }
    claims.lines
}

fn explain_multi_leader(cluster: &Cluster, options: &MultiLeader, claims: &mut Claims) {
    let names: Vec<String> =
        options.datacenters.iter().map(|number| cluster.datacenter_name(*number)).collect();
    let names = names.join(", ");
    let commit = Quorum::of(&options.group).commit;
    claims.plain(format!(
        "One leader in each of {names}: a write is acknowledged in the datacenter it came to, \
         without waiting for another; all that follows about nodes holds inside each."
    ));
    for number in &options.datacenters {
        explain_group_once(options, *number, cluster, claims);
    }
    claims.heading("Between the datacenters");
    claims.add(
        &["leadership"],
        format!(
            "Once committed (C = {commit}), a write is sent to the other datacenters, exactly once \
             and in order; one that was away catches up."
        ),
    );
    claims.add(
        ARITHMETIC,
        "With any number of other datacenters down or cut off, a datacenter goes on with reads and \
         writes. Reads see the others' writes later, by the replication lag between them; nothing \
         is linearizable across datacenters.",
    );
    claims.plain(
        "If a datacenter is destroyed, the acknowledged writes that it had not yet sent ARE LOST; \
         if it is only down, they come when it is back.",
    );
    claims.add(
        &["superseded", "counters"],
        "conflicts = last-write-wins: of two writes of one key, neither of which had seen the \
         other, the one with the larger stamp stays in all datacenters and the other IS DROPPED, \
         though it was acknowledged. A write that had seen the other always wins over it, whatever \
         the clocks say. Increments (INCR and its family) on the same base add up instead.",
    );
    claims.plain(
        "What claims or compares (SET NX, GETSET, GETDEL, ...) is refused with -NEEDCOORD: two \
         datacenters could both succeed.",
    );
}

/// The group of the first datacenter in full; the others have the same numbers.
fn explain_group_once(
    options: &MultiLeader,
    datacenter: DatacenterId,
    cluster: &Cluster,
    claims: &mut Claims,
) {
    let name = cluster.datacenter_name(datacenter);
    match options.datacenters.first() {
        Some(first) if *first != datacenter => {
            let first = cluster.datacenter_name(*first);
            claims.plain(format!("In {name}: the same numbers as in {first}."));
        }
        _ => explain_group(&options.group, &name, &MULTI_LEADER, claims),
    }
}

fn nodes(count: usize) -> &'static str {
    if count == 1 { "node" } else { "nodes" }
}

fn votes(count: usize) -> &'static str {
    if count == 1 { "vote" } else { "votes" }
}

#[cfg(test)]
mod tests;
