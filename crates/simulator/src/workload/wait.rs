//! Clients that wait until followers have their last write: WAIT and WAITAOF.

use super::{Waiting, Workload};
use crate::cluster::Cluster;
use crate::options::{ModelName, Options};
use crate::outcomes;
use crate::waits::Waited;
use replication::random::Random;
use replication::{ClientId, Reply};

/// One leader-follower seed in so many has such clients.
const WAIT_SEEDS: u64 = 3;
/// How many in a hundred steps of a client whose last write was acknowledged wait for followers.
const WAIT_PERCENT: u64 = 30;
/// How many of these want to know what is on disk.
const ON_DISK_PERCENT: u64 = 40;
/// How long they wait at most, in milliseconds.
const WAIT_MS_MAX: u64 = 300;
/// Keeps these draws apart from all others of a seed.
const WAIT_SEED: u64 = 0x3A17_0000;

/// A WAIT, or a WAITAOF, that is not answered.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wait {
    /// The write's operation.
    operation: usize,
    /// The number of the write's command on the connection.
    sequence: u64,
    on_disk: bool,
}

/// The chance by which clients wait, where they do.
pub(super) fn of_seed(options: &Options) -> Option<Random> {
    let waits = options.model == ModelName::LeaderFollower
        && options.seed.is_multiple_of(WAIT_SEEDS)
        && !options.flushes;
    waits.then(|| Random::new(options.seed ^ WAIT_SEED))
}

impl Workload {
    /// Sometimes a client waits for followers instead of giving its next command.
    pub(super) fn wait(&mut self, number: usize, cluster: &mut Cluster) -> bool {
        let Some(random) = &mut self.waits else { return false };
        let last = self.clients.get(number).and_then(|client| client.last_write);
        let Some((operation, write)) = last.filter(|_| random.chance(WAIT_PERCENT)) else {
            return false;
        };
        let followers = random.range(0, cluster.servers.len() as u64).to_string();
        let timeout = random.range(1, WAIT_MS_MAX).to_string();
        let on_disk = random.chance(ON_DISK_PERCENT);
        let words = match on_disk {
            true => {
                vec![String::from("WAITAOF"), random.range(0, 2).to_string(), followers, timeout]
            }
            false => vec![String::from("WAIT"), followers, timeout],
        };
        let Some((_, sequence)) = self.send(number, words, cluster) else { return false };
        let Some(client) = self.clients.get_mut(number) else { return false };
        let wait = Wait { operation, sequence: write, on_disk };
        client.waiting.insert(sequence, Waiting::Wait(wait));
        true
    }

    /// A WAIT or a WAITAOF was answered.
    pub(super) fn waited(
        &mut self,
        wait: &Wait,
        connection: ClientId,
        reply: &Reply<'_>,
        cluster: &mut Cluster,
    ) {
        let (own, followers) = match (reply, wait.on_disk) {
            (Reply::Integer(followers), false) => (None, *followers),
            (Reply::Array(parts), true) => match parts.as_slice() {
                [Reply::Integer(own), Reply::Integer(followers)] => (Some(*own), *followers),
                _ => return,
            },
            _ => return,
        };
        let Some(operation) = self.history.operations.get(wait.operation) else { return };
        let request = (connection.0, wait.sequence);
        let entries = outcomes::entries_of(operation, request, cluster);
        let seen = &mut cluster.observations;
        seen.count(if wait.on_disk { "WAITAOF answered" } else { "WAIT answered" });
        if entries.len() > 1 {
            seen.count("WAIT for several parts");
        }
        for (group, id) in entries {
            let seen = &mut cluster.observations;
            let holders = seen.copies.holders(group, id);
            let mut leaders = seen.leaderships.iter().filter(|start| start.group == group);
            let waited = Waited {
                operation: wait.operation,
                own: own.and_then(|own| u64::try_from(own).ok()),
                followers: u64::try_from(followers).unwrap_or(0),
                holders: holders.len() as u64,
                leader_holds: leaders.all(|start| holders.contains(&start.node)),
                at_us: cluster.now_us,
            };
            cluster.trace.line(cluster.now_us, || format!("{waited:?}"));
            self.history.waits.push(waited);
        }
    }
}
