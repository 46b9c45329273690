//! A core is healed, and the rest stays dead or cut off for ever (invariant G5): what `explain`
//! says of nodes that may be down must hold after any history of faults.
//!
//! How many may stay away follows from the numbers of each group: no more than N - E, so that the
//! core elects, and no more than N - max(A, C), so that it acknowledges and commits (with degraded
//! acks N - C; none where a writer may have asked for the acks of all, and waits for them). Which
//! ones, from what their disks say at this moment: the rules rightly refuse an election among
//! members that may have lost what they acknowledged, or whose disks nobody has admitted yet. So a
//! core must hold a candidate, and E members that count each other, that vote for its log and that
//! have lost nothing (where failover goes before safety, any E). Where no core does, everything is
//! healed at once, as in the other seeds.

use super::Faults;
use crate::cluster::Cluster;
use crate::options::Options;
use replication::keyspace::{Failover, GroupOptions, MissingAcks, Model};
use replication::leader_follower::Group;
use replication::quorum::Quorum;
use replication::random::Random;
use replication::{GroupId, Node, NodeId, replicas};
use std::collections::BTreeSet;

/// So many seeds in a hundred heal a core first.
const CORE_PERCENT: u64 = 40;
/// Keeps this apart from all other draws of a seed.
const CORE_SEED: u64 = 0xC0DE_0000_0000;
/// How many nodes of a rest in a hundred are dead, and not only cut off.
const DEAD_PERCENT: u64 = 50;
/// How often the leader is left out on purpose, in a hundred.
const WITHOUT_LEADER_PERCENT: u64 = 50;
/// So many cores are tried.
const DRAWS: usize = 20;

impl Faults {
    /// Heals a core, in a share of the seeds; returns the nodes that stay dead or cut off, none if
    /// everything is healed.
    pub fn heal_core(&mut self, options: &Options, cluster: &mut Cluster) -> BTreeSet<NodeId> {
        // All processes run, so that it shows what is on their disks; no time has passed.
        self.heal(cluster);
        let mut random = Random::new(options.seed ^ CORE_SEED);
        if !random.chance(CORE_PERCENT) {
            return BTreeSet::new();
        }
        let rests = (0..DRAWS).map(|_| draw(options, cluster, &mut random));
        let rests: Vec<BTreeSet<NodeId>> = rests.collect();
        let serves = |rest: &BTreeSet<NodeId>| !rest.is_empty() && core_serves(cluster, rest);
        let Some(rest) = rests.into_iter().find(serves) else { return BTreeSet::new() };
        cluster.observations.count("core healed");
        let leader = cluster.observations.leaderships.last().map(|start| start.node);
        if leader.is_some_and(|leader| rest.contains(&leader)) {
            cluster.observations.count("core without the leader");
        }
        for node in &rest {
            if random.chance(DEAD_PERCENT) {
                cluster.observations.count("dead for ever");
                cluster.trace.line(cluster.now_us, || format!("{node} is dead for ever"));
                let power = random.chance(50) && self.families.power;
                cluster.crash(*node, power);
                self.dead.insert(*node);
            } else {
                cluster.observations.count("cut off for ever");
                cluster.trace.line(cluster.now_us, || format!("{node} is cut off for ever"));
                for other in cluster.nodes().into_iter().filter(|other| other != node) {
                    cluster.network.set_cut(*node, other, true);
                    cluster.network.set_cut(other, *node, true);
                }
            }
        }
        rest
    }
}

/// How many members of a group may be missing, by the arithmetic of its numbers.
fn may_be_missing(group: &GroupOptions) -> usize {
    let quorum = Quorum::of(group);
    let writes = quorum.replicas - copies_needed(group);
    quorum.failover_tolerates().min(writes)
}

/// How many members a write needs to be acknowledged.
fn copies_needed(group: &GroupOptions) -> usize {
    let quorum = Quorum::of(group);
    match group.missing_acks {
        // Acks are lowered to C copies.
        MissingAcks::Degrade => quorum.commit,
        MissingAcks::Error | MissingAcks::Block => quorum.acks.max(quorum.commit),
    }
}

/// Whether some writers say for themselves what they wait for, and do so until they have it.
fn some_wait_for_all(options: &Options) -> bool {
    options.ways.own && options.ways.block
}

/// Some nodes, no more of any group than may be missing; fewer, or none, where they do not fit.
fn draw(options: &Options, cluster: &Cluster, random: &mut Random) -> BTreeSet<NodeId> {
    let mut nodes = cluster.nodes();
    for place in (1..nodes.len()).rev() {
        nodes.swap(place, random.range(0, place as u64 + 1) as usize);
    }
    let leader = cluster.observations.leaderships.last().map(|start| start.node);
    if let Some(leader) = leader.filter(|_| random.chance(WITHOUT_LEADER_PERCENT)) {
        nodes.insert(0, leader);
    }
    let most = random.range(1, nodes.len() as u64) as usize;
    let mut rest = BTreeSet::new();
    for node in nodes {
        rest.insert(node);
        if !numbers_allow(options, &rest) {
            rest.remove(&node);
        }
        if rest.len() == most {
            break;
        }
    }
    rest
}

/// Whether every group could do without these nodes, were all others well.
fn numbers_allow(options: &Options, rest: &BTreeSet<NodeId>) -> bool {
    let cluster = &options.plan.cluster;
    replicas::all_groups(cluster).into_iter().all(|(id, members)| {
        let missing = members.iter().filter(|member| rest.contains(member)).count();
        let most = match cluster.keyspace(id.keyspace).map(|keyspace| &keyspace.model) {
            Some(Model::Leaderless(model)) => usize::from(model.n - model.w.max(model.r)),
            Some(_) if some_wait_for_all(options) => 0,
            Some(model) => model.group().map_or(0, may_be_missing),
            None => 0,
        };
        missing <= most
    })
}

/// Whether the disks of all others allow it, too.
fn core_serves(cluster: &Cluster, rest: &BTreeSet<NodeId>) -> bool {
    let plan = &cluster.plan().cluster;
    replicas::all_groups(plan).into_iter().all(|(id, members)| {
        let keyspace = plan.keyspace(id.keyspace);
        let Some(group) = keyspace.and_then(|keyspace| keyspace.model.group()) else {
            // A lost disk of a leaderless keyspace tells nobody when it is made good.
            return cluster.observations.wipes.is_empty();
        };
        let core = members.iter().filter(|member| !rest.contains(member));
        let core: Vec<Member<'_>> =
            core.filter_map(|member| member_of(cluster, *member, id)).collect();
        core.len() >= copies_needed(group) && elects(&core, group)
    })
}

/// A member that is there, as its disk has it.
struct Member<'a> {
    node: &'a Node,
    group: &'a Group,
}

fn member_of(cluster: &Cluster, member: NodeId, id: GroupId) -> Option<Member<'_>> {
    let node = cluster.server(member)?.node()?;
    let group = node.groups().find(|group| group.id == id)?;
    Some(Member { node, group })
}

impl Member<'_> {
    fn counts(&self, other: &Member<'_>) -> bool {
        self.group.voters().contains(&(other.node.id(), other.node.incarnation()))
    }
}

/// Whether one of them can be elected, and can commit what it writes.
fn elects(core: &[Member<'_>], options: &GroupOptions) -> bool {
    let quorum = Quorum::of(options);
    let voters: Vec<&Member<'_>> = core.iter().filter(|member| member.counts(member)).collect();
    let all_count = |member: &&&Member<'_>| voters.iter().all(|other| other.counts(member));
    let known: Vec<&Member<'_>> = voters.iter().filter(all_count).copied().collect();
    let may_stand = |candidate: &&Member<'_>| {
        let votes = known.iter().filter(|voter| voter.group.last() <= candidate.group.last());
        let sound = votes.clone().filter(|voter| !voter.group.is_suspect()).count();
        let any = options.failover == Failover::Available && votes.count() >= quorum.election;
        !candidate.group.is_ahead_of_its_log() && (sound >= quorum.election || any)
    };
    known.len() >= quorum.commit && known.iter().any(may_stand)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::group;
    use replication::keyspace::Acks;

    #[test]
    fn no_more_stay_away_than_elections_and_acks_can_do_without() {
        let missing = |replicas, acks, failover| may_be_missing(&group(replicas, acks, failover));
        assert_eq!(missing(3, Acks::Majority, Failover::Safe), 1);
        assert_eq!(missing(5, Acks::Majority, Failover::Safe), 2);
        assert_eq!(missing(5, Acks::SemiSync, Failover::Safe), 1, "E = 4");
        assert_eq!(missing(3, Acks::Async, Failover::Safe), 0, "E = 3");
        assert_eq!(missing(3, Acks::Async, Failover::Available), 1);
        assert_eq!(missing(3, Acks::Sync, Failover::Safe), 0, "A = 3");
        let degrades = GroupOptions {
            missing_acks: MissingAcks::Degrade,
            ..group(3, Acks::Sync, Failover::Safe)
        };
        assert_eq!(may_be_missing(&degrades), 1, "A is lowered to C = 2");
    }
}
