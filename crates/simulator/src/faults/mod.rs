//! Which fault comes when: drawn from the seed, from the families that the seed has.
//! `docs/simulator.md` lists them all, with the count that proves of each that it struck.
//!
//! `network.rs`, `crash.rs`, `clock.rs` and `disk.rs` are the faults of one kind each; faults that
//! silently destroy what was acknowledged are in `disk.rs` and `damage.rs`, with the atlas that
//! bounds them.

mod administrator;
mod clock;
mod crash;
mod damage;
mod disk;
mod families;
mod healed_core;
mod network;

pub use families::Families;

use crate::cluster::{Cluster, Timer};
use crate::disk::{Damage, Disk};
use damage::ATTEMPTS;
use replication::NodeId;
use std::collections::{BTreeMap, BTreeSet};

/// From one fault to the next.
const PAUSE_US: (u64, u64) = (60_000, 600_000);
/// The same for faults that aim at a new leader.
const HUNT_PAUSE_US: (u64, u64) = (5_000, 120_000);
/// The timer of the next fault; later parts of faults count from 1.
const NEXT: u64 = 0;

/// A later part of a fault, mostly its end.
#[derive(Clone, Debug)]
enum Later {
    Restart(NodeId),
    /// A node crashes: a new leader, or one that is caught in a storm of so many more crashes.
    Fall(NodeId, u32),
    /// A node is cut off from all others.
    Isolate(NodeId),
    /// The same, at the very moment at which all others but the second one are started anew.
    Usurp(NodeId, NodeId),
    /// All links are whole again.
    Mend,
    /// A node's links come or go, so many times more.
    Flap(NodeId, u32),
    /// A node is clogged until a moment.
    Clog(NodeId, u64),
    /// A wall clock jumps to and fro, so many times more.
    Strobe(NodeId, u32),
    /// A node that was told so stops.
    Stop(NodeId),
    /// A disk is as quick, and has as much space, as before.
    DiskWell(NodeId),
    /// It shows that a disk has lied to a process.
    GoBack(NodeId, u64),
    /// A disk is damaged, if that may be now; else there are so many attempts more.
    Damage(NodeId, Damage, u32),
    /// A disk is restored from a backup, in the same way.
    Restore(NodeId, u32),
    /// While some nodes are down, all others lose their disks.
    LoseRest(Vec<NodeId>, Vec<NodeId>),
    /// An operator says that one of these is to go on, until one does.
    Recover(Vec<NodeId>),
}

/// What can be done to a cluster.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fault {
    Crash,
    CrashSome,
    CrashAll,
    CrashPoint,
    CrashPointOfAll,
    Storm,
    Pause,
    Doze,
    Usurp,
    StallTurn,
    Isolate,
    Split,
    Halve,
    Bridge,
    Ring,
    SingleLink,
    OneWay,
    Flap,
    Swizzle,
    SlowReader,
    OldFrames,
    Jump,
    JumpFar,
    Strobe,
    Drift,
    DriftBeyond,
    SlowDisk,
    StallDisk,
    DiskError,
    FullDisk,
    Wipe,
    Lie,
    FlipBit,
    Switchover,
    StopClean,
    Suspend,
    ReadError,
    Damage(Damage),
    BackUp,
    LoseMajority,
}

/// The faults of a run.
#[derive(Debug)]
pub struct Faults {
    families: Families,
    possible: Vec<Fault>,
    later: BTreeMap<u64, Later>,
    number: u64,
    over: bool,
    /// Nodes that nobody starts again.
    dead: BTreeSet<NodeId>,
    /// Whether a disk was wiped.
    wiped: bool,
    /// Nodes whose disk was damaged since they started last.
    flipped: BTreeSet<NodeId>,
    /// What disks held when they were backed up.
    backups: BTreeMap<NodeId, Disk>,
    /// Whether a majority of the disks is lost, or about to be.
    disaster: bool,
}

/// Every fault with the family that it belongs to; those that are named twice come twice as often.
fn possible(families: Families) -> Vec<Fault> {
    let table = [
        (families.crashes, Fault::Crash),
        (families.crashes, Fault::Crash),
        (families.crashes, Fault::CrashSome),
        (families.crash_of_all, Fault::CrashAll),
        (families.crash_points, Fault::CrashPoint),
        (families.crash_points, Fault::CrashPoint),
        (families.crash_points && families.crash_of_all, Fault::CrashPointOfAll),
        (families.storms, Fault::Storm),
        (families.pauses, Fault::Pause),
        (families.pauses, Fault::Pause),
        (families.pauses && families.partitions, Fault::Doze),
        (families.partial && families.crashes, Fault::Usurp),
        (families.partial && families.crashes, Fault::Usurp),
        (families.stalled_turns, Fault::StallTurn),
        (families.partitions, Fault::Isolate),
        (families.partitions, Fault::Split),
        (families.partitions, Fault::Halve),
        (families.partial, Fault::Bridge),
        (families.partial, Fault::Ring),
        (families.partial, Fault::SingleLink),
        (families.one_way, Fault::OneWay),
        (families.flapping, Fault::Flap),
        (families.clogs, Fault::Swizzle),
        (families.slow_readers, Fault::SlowReader),
        (families.slow_readers, Fault::SlowReader),
        (families.old_frames, Fault::OldFrames),
        (families.clocks, Fault::Jump),
        (families.clocks, Fault::Strobe),
        (families.far_clocks, Fault::JumpFar),
        (families.drift, Fault::Drift),
        (families.drift_beyond, Fault::DriftBeyond),
        (families.slow_disks, Fault::SlowDisk),
        (families.stalled_disks, Fault::StallDisk),
        (families.disk_errors, Fault::DiskError),
        (families.full_disks, Fault::FullDisk),
        (families.wipes, Fault::Wipe),
        (families.wipes, Fault::Wipe),
        (families.lying_disks, Fault::Lie),
        (families.lying_disks, Fault::Lie),
        (families.flipped_bits, Fault::FlipBit),
        (families.switchovers, Fault::Switchover),
        (families.switchovers, Fault::Switchover),
        (families.clean_stops, Fault::StopClean),
        (families.clean_stops, Fault::StopClean),
        (families.stopped_clocks, Fault::Suspend),
        (families.stopped_clocks, Fault::Suspend),
        (families.read_errors, Fault::ReadError),
        (families.lost_disk_writes, Fault::Damage(Damage::LostWrite)),
        (families.misdirected_writes, Fault::Damage(Damage::Misdirected)),
        (families.truncated_files, Fault::Damage(Damage::Truncated)),
        (families.missing_files, Fault::Damage(Damage::Missing)),
        (families.old_backups, Fault::BackUp),
        (families.old_backups, Fault::BackUp),
        (families.lost_majorities, Fault::LoseMajority),
        (families.lost_majorities, Fault::LoseMajority),
    ];
    table.into_iter().filter(|(on, _)| *on).map(|(_, fault)| fault).collect()
}

impl Faults {
    /// The first fault comes after a pause.
    pub fn new(families: Families, cluster: &mut Cluster) -> Faults {
        cluster.let_failures_drop(families.power);
        let faults = Faults {
            families,
            possible: possible(families),
            later: BTreeMap::new(),
            number: 0,
            over: false,
            dead: BTreeSet::new(),
            wiped: false,
            flipped: BTreeSet::new(),
            backups: BTreeMap::new(),
            disaster: false,
        };
        if families.skewed_clocks {
            clock::skew_all(cluster);
        }
        faults.plan_next(cluster);
        faults
    }

    /// A timer of these faults.
    pub fn timer(&mut self, number: u64, cluster: &mut Cluster) {
        let later = self.later.remove(&number);
        // What only an operator can mend is mended also when the faults are over.
        if self.over && !matches!(later, Some(Later::Recover(_))) {
            return;
        }
        match later {
            Some(Later::Restart(node)) => self.start(node, cluster),
            Some(Later::Fall(node, more)) => self.fall(node, more, cluster),
            Some(Later::Mend) => {
                cluster.trace.line(cluster.now_us, || String::from("the network is whole"));
                cluster.network.heal();
            }
            Some(Later::Usurp(leader, heir)) => self.cut_and_restart(leader, heir, cluster),
            Some(Later::Isolate(node)) => self.isolate(node, cluster),
            Some(Later::Flap(node, more)) => self.flap(node, more, cluster),
            Some(Later::Clog(node, until_us)) => self.clog(node, until_us, cluster),
            Some(Later::Strobe(node, more)) => self.strobe(node, more, cluster),
            Some(Later::Stop(node)) => self.stop_clean(node, cluster),
            Some(Later::DiskWell(node)) => disk::make_well(node, cluster),
            Some(Later::GoBack(node, process)) => self.go_back(node, process, cluster),
            Some(Later::Damage(node, damage, more)) => self.damage(node, damage, more, cluster),
            Some(Later::Restore(node, more)) => self.restore(node, more, cluster),
            Some(Later::LoseRest(left, lost)) => self.lose_rest(left, lost, cluster),
            Some(Later::Recover(left)) => self.recover(left, cluster),
            None if number == NEXT => {
                self.strike(cluster);
                self.plan_next(cluster);
            }
            None => {}
        }
    }

    /// Everything is made whole, and stays so.
    pub fn heal(&mut self, cluster: &mut Cluster) {
        self.over = true;
        self.dead.clear();
        cluster.trace.line(cluster.now_us, || String::from("everything is healed"));
        cluster.network.heal();
        cluster.network.weather = crate::network::Weather::calm();
        // The last of what is late comes now.
        cluster.release_kept_back();
        for node in cluster.nodes() {
            cluster.spare(node);
            let (now_us, beyond) = (cluster.now_us, self.families.drift_beyond);
            if let Some(server) = cluster.servers.get_mut(usize::from(node.0)) {
                server.clock.set_wall(0);
                if beyond {
                    server.clock.set_drift(now_us, 0);
                }
            }
            self.start(node, cluster);
        }
    }

    fn plan_next(&self, cluster: &mut Cluster) {
        let hunt = self.families.leader_hunt && cluster.random.chance(40);
        let pause = if hunt { HUNT_PAUSE_US } else { PAUSE_US };
        let after = cluster.random.range(pause.0, pause.1);
        cluster.set_timer(after, Timer::Fault(NEXT));
    }

    /// A later part of a fault comes after so long.
    fn later(&mut self, later: Later, after: (u64, u64), cluster: &mut Cluster) {
        self.number += 1;
        self.later.insert(self.number, later);
        let after_us = cluster.random.range(after.0, after.1);
        cluster.set_timer(after_us, Timer::Fault(self.number));
    }

    /// Whom the next fault hits: anybody, or whoever began to lead last.
    fn target(&self, cluster: &mut Cluster) -> NodeId {
        let last = cluster.observations.leaderships.last().map(|leadership| leadership.node);
        match last {
            Some(node) if self.families.leader_hunt && cluster.random.chance(60) => node,
            _ => anybody(cluster),
        }
    }

    /// One flat match: each fault is one call.
    fn strike(&mut self, cluster: &mut Cluster) {
        let place = cluster.random.range(0, self.possible.len() as u64) as usize;
        let Some(fault) = self.possible.get(place).copied() else { return };
        let node = self.target(cluster);
        match fault {
            Fault::Crash => self.crash(node, cluster),
            Fault::CrashSome => self.crash_some(cluster),
            Fault::CrashAll => self.crash_all(cluster),
            Fault::CrashPoint => self.crash_point(node, cluster),
            Fault::CrashPointOfAll => self.crash_point_of_all(cluster),
            Fault::Storm => self.storm(node, cluster),
            Fault::Pause => crash::pause(node, cluster),
            Fault::Doze => self.doze(node, cluster),
            Fault::Usurp => self.usurp(node, cluster),
            Fault::StallTurn => crash::stall_turn(node, cluster),
            Fault::Isolate => self.isolate(node, cluster),
            Fault::Split => self.split(cluster),
            Fault::Halve => self.halve(cluster),
            Fault::Bridge => self.bridge(node, cluster),
            Fault::Ring => self.ring(cluster),
            Fault::SingleLink => self.single_link(node, cluster),
            Fault::OneWay => {
                let inwards = cluster.random.chance(50);
                self.cut(&[node], (inwards, !inwards), network::by::ONE_WAY, cluster);
            }
            Fault::Flap => self.start_flapping(node, cluster),
            Fault::Swizzle => self.swizzle(cluster),
            Fault::SlowReader => self.slow_reader(node, cluster),
            Fault::OldFrames => cluster.release_kept_back(),
            Fault::Jump => clock::jump(node, clock::JUMP_MS_MAX, "clock jump", cluster),
            Fault::JumpFar => clock::jump_far(node, self.families.days_off, cluster),
            Fault::Strobe => self.strobe(node, clock::STROBES, cluster),
            Fault::Drift => clock::drift(node, crate::clock::DRIFT_PPM_MAX, cluster),
            Fault::DriftBeyond => clock::drift(node, clock::WILD_DRIFT_PPM, cluster),
            Fault::SlowDisk => self.slow_disk(node, cluster),
            Fault::StallDisk => disk::stall(node, cluster),
            Fault::DiskError => disk::fail_once(node, cluster),
            Fault::FullDisk => self.fill(node, cluster),
            Fault::Wipe => self.wipe(node, cluster),
            Fault::Lie => self.lie(node, cluster),
            Fault::FlipBit => self.flip_bit(node, cluster),
            Fault::Switchover => administrator::switch_over(node, cluster),
            Fault::StopClean if cluster.random.chance(50) => self.leave(node, cluster),
            Fault::StopClean => self.stop_clean(node, cluster),
            Fault::Suspend => crash::suspend(node, cluster),
            Fault::ReadError => self.read_error(node, cluster),
            Fault::Damage(damage) => self.damage(node, damage, ATTEMPTS, cluster),
            Fault::BackUp => self.back_up(node, cluster),
            Fault::LoseMajority => self.lose_majority(node, cluster),
        }
    }
}

/// Any node.
fn anybody(cluster: &mut Cluster) -> NodeId {
    NodeId(cluster.random.range(0, cluster.servers.len() as u64) as u16)
}
