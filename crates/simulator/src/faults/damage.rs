//! Disks on which what was synced is damaged, and disks that are restored from a backup.
//!
//! The atlas of `disk.rs` bounds them. What recovery can see may be anywhere in the log of a node
//! that the others can do without. What it cannot see, the loss of the log's end, looks like a lie:
//! all other members must hold durably all that the node held. And the end that is lost must not
//! reach back behind the start of the node's process, or it would forget what is only its own; but
//! for a restored backup, which does: a node whose log goes back behind its own start must not be
//! taken for the process that it was (its number is never given twice, DESIGN §3).

use super::disk::{all_hold_all, leader_groups, server};
use super::{Faults, Later};
use crate::cluster::Cluster;
use crate::disk::Damage;
use replication::NodeId;

/// How often it is tried to damage a disk, or to restore it, at a moment that allows it.
pub(super) const ATTEMPTS: u32 = 40;
/// From one attempt to the next.
const AGAIN_US: (u64, u64) = (5_000, 60_000);
/// How old a backup is when it is restored, at the least.
const AGE_US: (u64, u64) = (50_000, 800_000);

impl Faults {
    /// A process ends, and its disk is damaged, if the atlas allows that now.
    pub(super) fn damage(
        &mut self,
        node: NodeId,
        damage: Damage,
        more: u32,
        cluster: &mut Cluster,
    ) {
        if !self.may_lose(node, cluster) {
            return self.again(Later::Damage(node, damage, more.saturating_sub(1)), more, cluster);
        }
        let silent = leader_groups(cluster, node) > 0 && all_hold_all(cluster);
        let opened_at = cluster.server(node).and_then(|server| server.opened_at());
        cluster.crash(node, false);
        self.restart_later(node, cluster);
        let Some(server) = cluster.servers.get_mut(usize::from(node.0)) else { return };
        let mut disk = server.disk.clone();
        let Some(harm) = disk.damage(damage, &mut cluster.random) else { return };
        let may_be_missed = silent && Some(harm.kept) >= opened_at;
        if !(harm.can_be_seen || may_be_missed) {
            return;
        }
        server.disk = disk;
        cluster.observations.count(damage.name());
        cluster
            .trace
            .line(cluster.now_us, || format!("{node}'s disk: {}: {harm:?}", damage.name()));
        self.flipped.insert(node);
        cluster.observations.flipped.insert(node);
        if !harm.can_be_seen {
            cluster.observations.count("end of the log lost unseen");
            cluster.observations.wipes.push((node, cluster.now_us));
        }
    }

    fn again(&mut self, later: Later, more: u32, cluster: &mut Cluster) {
        if more > 0 {
            self.later(later, AGAIN_US, cluster);
        }
    }

    /// A disk is backed up, as it is, and restored later.
    pub(super) fn back_up(&mut self, node: NodeId, cluster: &mut Cluster) {
        let Some(server) = server(node, cluster) else { return };
        if self.backups.contains_key(&node) || server.node().is_none() || !server.disk.is_idle() {
            return;
        }
        self.backups.insert(node, server.disk.clone());
        self.later(Later::Restore(node, ATTEMPTS), AGE_US, cluster);
    }

    /// A node is restored from its backup, if the atlas allows that now.
    pub(super) fn restore(&mut self, node: NodeId, more: u32, cluster: &mut Cluster) {
        if !all_hold_all(cluster) || !self.flipped.is_empty() {
            return self.again(Later::Restore(node, more.saturating_sub(1)), more, cluster);
        }
        let Some(backup) = self.backups.remove(&node) else { return };
        cluster.crash(node, false);
        self.restart_later(node, cluster);
        let now_us = cluster.now_us;
        let Some(server) = server(node, cluster) else { return };
        server.disk = backup;
        let _ = server.disk.crash(false, &mut replication::random::Random::new(now_us));
        cluster.observations.count("old backup restored");
        cluster.observations.wipes.push((node, now_us));
        cluster.trace.line(now_us, || format!("{node}'s disk is restored from an old backup"));
    }
}
