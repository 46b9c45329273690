//! The bounds of a seed's nodes: each is tiny in some seeds, so that what happens at its edge
//! happens often. The same for all nodes and processes of a run.

use crate::faults::Families;
use replication::node::Limits;
use replication::random::Random;

/// Seeds that keep less of the log have snapshots of many pieces, in bytes.
const LOG_BYTES_FOR_MANY_PIECES: usize = 2_000;
/// Of a hundred seeds, those in which a queue is tiny: for each of them apart.
const TINY_PERCENT: u64 = 12;
/// The same where the seed has a fault that aims at just that.
const AIMED_PERCENT: u64 = 60;
/// Keeps the later draws apart from all others of a seed.
const QUEUES_SEED: u64 = 0xB0D5_0000;

/// The bounds of a seed.
pub fn draw(seed: u64, families: &Families, random: &mut Random) -> Limits {
    let mut limits = of_batches(random);
    shrink_queues(seed, families, &mut limits);
    limits
}

/// What travels or is kept together.
fn of_batches(random: &mut Random) -> Limits {
    let tiny = |random: &mut Random| random.chance(50);
    let mut limits = Limits::default();
    if tiny(random) {
        limits.append_bytes_max = random.range(100, 600) as usize;
    }
    if tiny(random) {
        limits.image_bytes_max = random.range(200, 1000) as usize;
    }
    if tiny(random) {
        limits.log_bytes_max = random.range(500, 4000) as usize;
    }
    if random.chance(60) {
        limits.checkpoint_bytes = random.range(4_000, 30_000);
    }
    limits.once_sessions_max = 4;
    // Whatever goes over all records takes several turns, however few they are.
    limits.records_at_once_max = 3;
    if limits.log_bytes_max < LOG_BYTES_FOR_MANY_PIECES {
        // So many pieces that faults come between them.
        limits.image_bytes_max = limits.image_bytes_max.min(60);
    }
    if random.chance(20) {
        limits.uncommitted_entries_max = random.range(4, 20) as usize;
    }
    limits
}

/// What waits.
fn shrink_queues(seed: u64, families: &Families, limits: &mut Limits) {
    let mut random = Random::new(seed ^ QUEUES_SEED);
    let mut tiny_in = |percent, least, most| {
        let drawn = random.range(least, most);
        random.chance(percent).then_some(drawn)
    };
    let often = |is_meant| if is_meant { AIMED_PERCENT } else { TINY_PERCENT };
    let window = tiny_in(often(families.slow_readers), 150, 1_500);
    // A file of the log is used again, under a new name, after a checkpoint.
    let checkpoint = tiny_in(often(families.missing_files), 800, 4_000);
    let mut tiny = |least, most| tiny_in(TINY_PERCENT, least, most);
    if let Some(bytes) = window {
        limits.window_bytes_max = bytes as usize;
    }
    limits.checkpoint_bytes = checkpoint.unwrap_or(limits.checkpoint_bytes);
    if let Some(bytes) = tiny(200, 1_500) {
        limits.uncommitted_bytes_max = bytes;
    }
    if let Some(commands) = tiny(1, 6) {
        limits.waiting_commands_max = commands as usize;
    }
    if let Some(bytes) = tiny(300, 1_500) {
        limits.once_bytes_max = bytes as usize;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_queue_is_tiny_in_some_seeds_and_large_in_others() {
        let usual = Limits::default();
        let all = (0..200).map(|seed| draw(seed, &Families::default(), &mut Random::new(seed)));
        let mut tiny = [0; 5];
        for limits in all {
            let is_tiny = [
                limits.window_bytes_max < usual.window_bytes_max,
                limits.uncommitted_bytes_max < usual.uncommitted_bytes_max,
                limits.uncommitted_entries_max < usual.uncommitted_entries_max,
                limits.waiting_commands_max < usual.waiting_commands_max,
                limits.once_bytes_max < usual.once_bytes_max,
            ];
            tiny.iter_mut().zip(is_tiny).for_each(|(count, tiny)| *count += u32::from(tiny));
        }
        assert!(tiny.iter().all(|count| (10..60).contains(count)), "{tiny:?}");
    }
}
