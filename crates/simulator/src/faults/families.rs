//! Which families of faults a seed has: each seed leaves some of them out, for a fault that is
//! always there hides what only its absence shows.

use crate::options::ModelName;
use replication::random::Random;
use std::fmt;

/// Which families of faults a seed has.
#[derive(Clone, Copy, Debug, Default)]
pub struct Families {
    /// Single nodes crash and restart.
    pub crashes: bool,
    /// All nodes lose power at once.
    pub crash_of_all: bool,
    /// Processes end exactly between two of their steps: a batch handed over, a frame sent, a reply
    /// given, a write or a sync finished.
    pub crash_points: bool,
    /// Processes crash again and again, each time soon after their start.
    pub storms: bool,
    /// Nodes stand still for longer than their peers wait.
    pub pauses: bool,
    /// Nodes stand still within a turn: between a look at the clock and what is said then.
    pub stalled_turns: bool,
    /// Faults aim at whoever has just begun to lead.
    pub leader_hunt: bool,
    /// Crashes may take the machine's power, and with it what was not synced. Not where leaderless
    /// copies count before they are synced: there, processes may die but machines must not.
    pub power: bool,
    /// The network splits.
    pub partitions: bool,
    /// The network is whole for nobody and split for nobody: a bridge, a ring, a single link.
    pub partial: bool,
    /// Links are cut in one direction.
    pub one_way: bool,
    /// Links come and go.
    pub flapping: bool,
    /// Nodes are clogged one by one, and come free in another order.
    pub clogs: bool,
    /// Nodes read slowly what others send them.
    pub slow_readers: bool,
    /// Frames arrive long after their time.
    pub old_frames: bool,
    /// Frames are damaged on their way.
    pub damage: bool,
    /// Wall clocks jump.
    pub clocks: bool,
    /// Wall clocks jump by seconds and minutes.
    pub far_clocks: bool,
    /// And then by days: only where a group's time may stay ahead of every clock.
    pub days_off: bool,
    /// Monotonic clocks run too fast or too slow, within the bound.
    pub drift: bool,
    /// Disks become slow for a while.
    pub slow_disks: bool,
    /// Disks do nothing for a second or more.
    pub stalled_disks: bool,
    /// A write or a sync fails, once.
    pub disk_errors: bool,
    /// Disks are full for a while.
    pub full_disks: bool,
    /// A disk is replaced by an empty one.
    pub wipes: bool,
    /// A disk goes back to what it held before: it lied about its syncs, or was restored from a
    /// backup.
    pub lying_disks: bool,
    /// A bit of what was synced is flipped.
    pub flipped_bits: bool,
    /// An administrator orders another leader.
    pub switchovers: bool,
    /// Monotonic clocks run faster or slower than the bound allows: no lease is worth anything.
    pub drift_beyond: bool,
    /// Machines are suspended, and their monotonic clocks stand still meanwhile: the same.
    pub stopped_clocks: bool,
    /// Wall clocks are wrong from the beginning, each by another constant.
    pub skewed_clocks: bool,
    /// Processes are stopped as an operator does it: what they have written is on disk.
    pub clean_stops: bool,
    /// A process that starts cannot read its disk, once.
    pub read_errors: bool,
    /// Of what a disk said to be synced, some writes never reached it.
    pub lost_disk_writes: bool,
    /// Writes go to another place of the disk.
    pub misdirected_writes: bool,
    /// Files end too early.
    pub truncated_files: bool,
    /// Files are not there any more.
    pub missing_files: bool,
    /// A disk is restored from a backup that an earlier process made.
    pub old_backups: bool,
    /// More disks are lost at once than a group can do without, and an operator says which one is
    /// to go on.
    pub lost_majorities: bool,
}

/// Keeps what was added later apart from all other draws of a seed.
const LATER_SEED: u64 = 0xFA17_5000;

impl Families {
    /// The families of a seed.
    pub fn of(model: ModelName, seed: u64, random: &mut Random) -> Families {
        let leads = model != ModelName::Leaderless;
        Families {
            crashes: random.chance(70),
            crash_of_all: random.chance(30),
            partitions: random.chance(60),
            one_way: random.chance(40),
            slow_disks: random.chance(30),
            clocks: random.chance(50),
            wipes: random.chance(25),
            pauses: random.chance(50),
            leader_hunt: leads && random.chance(40),
            power: true,
            crash_points: random.chance(40),
            storms: random.chance(15),
            stalled_turns: random.chance(30),
            partial: random.chance(40),
            flapping: random.chance(20),
            clogs: random.chance(20),
            old_frames: random.chance(30),
            damage: random.chance(30),
            far_clocks: random.chance(20),
            drift: random.chance(50),
            stalled_disks: random.chance(20),
            disk_errors: random.chance(20),
            full_disks: random.chance(15),
            lying_disks: leads && random.chance(20),
            flipped_bits: random.chance(15),
            switchovers: leads && random.chance(40),
            ..Families::later(model, seed)
        }
    }

    /// Those that were added later: so the seeds without them stay what they were.
    fn later(model: ModelName, seed: u64) -> Families {
        let mut random = Random::new(seed ^ LATER_SEED);
        let mut chance = |percent| random.chance(percent);
        let mut families = Families {
            drift_beyond: chance(10),
            stopped_clocks: chance(10),
            skewed_clocks: chance(20),
            clean_stops: chance(25),
            read_errors: chance(15),
            lost_disk_writes: chance(12),
            misdirected_writes: chance(12),
            truncated_files: chance(12),
            missing_files: chance(12),
            old_backups: chance(30),
            slow_readers: chance(15),
            days_off: chance(50),
            lost_majorities: chance(10),
            ..Families::default()
        };
        families.keep_to(model);
        families
    }

    /// Switches off what befalls leaders only, or what only the leader-follower model has an answer
    /// to, where the model is another one.
    pub fn keep_to(&mut self, model: ModelName) {
        let leads = model != ModelName::Leaderless;
        let of_leaders = [
            &mut self.leader_hunt,
            &mut self.lying_disks,
            &mut self.switchovers,
            &mut self.drift_beyond,
            &mut self.stopped_clocks,
            &mut self.old_backups,
        ];
        of_leaders.into_iter().for_each(|family| *family &= leads);
        let follows = model == ModelName::LeaderFollower;
        for family in [&mut self.days_off, &mut self.lost_majorities] {
            *family &= follows;
        }
    }

    /// Whether clocks keep to no bound, so that a lease proves nothing.
    pub fn breaks_leases(&self) -> bool {
        self.drift_beyond || self.stopped_clocks
    }

    /// Whether wall clocks are wrong.
    pub fn has_wrong_walls(&self) -> bool {
        self.clocks || self.far_clocks || self.skewed_clocks
    }

    /// Whether a node may lose its disk, or have it damaged so that it comes back as a new one.
    pub fn loses_disks(&self) -> bool {
        self.wipes
            || self.flipped_bits
            || self.lost_disk_writes
            || self.misdirected_writes
            || self.truncated_files
            || self.missing_files
    }

    /// Disks are neither lost nor damaged.
    pub fn spare_disks(&mut self) {
        (self.wipes, self.flipped_bits, self.lost_disk_writes) = (false, false, false);
        (self.misdirected_writes, self.truncated_files, self.missing_files) = (false, false, false);
    }

    /// Switches a family on by its name, which is the field's with hyphens; says whether there is
    /// such a family.
    pub fn switch_on(&mut self, name: &str) -> bool {
        let found = self.list().into_iter().find(|(known, _)| *known == name);
        found.map(|(_, on)| *on = true).is_some()
    }

    fn list(&mut self) -> [(&'static str, &mut bool); 39] {
        [
            ("crashes", &mut self.crashes),
            ("crash-of-all", &mut self.crash_of_all),
            ("crash-points", &mut self.crash_points),
            ("storms", &mut self.storms),
            ("pauses", &mut self.pauses),
            ("stalled-turns", &mut self.stalled_turns),
            ("leader-hunt", &mut self.leader_hunt),
            ("power", &mut self.power),
            ("partitions", &mut self.partitions),
            ("partial", &mut self.partial),
            ("one-way", &mut self.one_way),
            ("flapping", &mut self.flapping),
            ("clogs", &mut self.clogs),
            ("slow-readers", &mut self.slow_readers),
            ("old-frames", &mut self.old_frames),
            ("damage", &mut self.damage),
            ("clocks", &mut self.clocks),
            ("far-clocks", &mut self.far_clocks),
            ("days-off", &mut self.days_off),
            ("drift", &mut self.drift),
            ("slow-disks", &mut self.slow_disks),
            ("stalled-disks", &mut self.stalled_disks),
            ("disk-errors", &mut self.disk_errors),
            ("full-disks", &mut self.full_disks),
            ("wipes", &mut self.wipes),
            ("lying-disks", &mut self.lying_disks),
            ("flipped-bits", &mut self.flipped_bits),
            ("switchovers", &mut self.switchovers),
            ("drift-beyond", &mut self.drift_beyond),
            ("stopped-clocks", &mut self.stopped_clocks),
            ("skewed-clocks", &mut self.skewed_clocks),
            ("clean-stops", &mut self.clean_stops),
            ("read-errors", &mut self.read_errors),
            ("lost-disk-writes", &mut self.lost_disk_writes),
            ("misdirected-writes", &mut self.misdirected_writes),
            ("truncated-files", &mut self.truncated_files),
            ("missing-files", &mut self.missing_files),
            ("old-backups", &mut self.old_backups),
            ("lost-majorities", &mut self.lost_majorities),
        ]
    }
}

/// The families that there are, by their names.
impl fmt::Display for Families {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("faults:")?;
        let mut families = *self;
        for (name, _) in families.list().into_iter().filter(|(_, on)| **on) {
            write!(f, " {name}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_family_is_among_the_first_seeds_and_left_out_by_some() {
        let draw = |seed| Families::of(ModelName::LeaderFollower, seed, &mut Random::new(seed));
        let has = |seed, name: &str| draw(seed).to_string().split(' ').any(|word| word == name);
        for (name, _) in Families::default().list() {
            let seeds = (1..=100).filter(|seed| has(*seed, name)).count();
            match name {
                "power" => assert_eq!(seeds, 100),
                _ => assert!((1..100).contains(&seeds), "{name}: {seeds}"),
            }
        }
    }

    #[test]
    fn families_are_switched_on_by_name() {
        let mut families = Families::default();
        assert!(families.switch_on("drift-beyond"));
        assert!(!families.switch_on("earthquakes"));
        assert_eq!(families.to_string(), "faults: drift-beyond");
    }
}
