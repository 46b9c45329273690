//! Tests of the simulated disk.
#![allow(clippy::unwrap_used)]
use super::*;

fn write(disk: &mut Disk, text: &str, random: &mut Random) -> Position {
    let position = disk.append(text.as_bytes(), Durability::Fsync);
    disk.flush(random);
    position
}

#[test]
fn what_was_synced_survives_every_crash() {
    for seed in 0..300 {
        let mut random = Random::new(seed);
        let mut disk = Disk::new(Pace::quick());
        assert!(disk.open(|_| Ok(())).unwrap().records.is_empty());
        let mut kept = 0;
        for number in 1..=10u64 {
            let text = "x".repeat(random.range(1, 900) as usize);
            assert_eq!(write(&mut disk, &text, &mut random), Position(number));
            if number < 10 {
                disk.done(&mut random).unwrap();
                kept = disk.done(&mut random).unwrap().1.0;
            }
        }
        disk.crash(seed % 2 == 0, &mut random);
        let records = disk.open(|_| Ok(())).unwrap().records;
        assert!(records.len() as u64 >= kept, "seed {seed}");
        let next = write(&mut disk, "next", &mut random);
        assert_eq!(next.0, records.len() as u64 + 1);
    }
}

fn filled(random: &mut Random) -> Disk {
    let mut disk = Disk::new(Pace::quick());
    for _ in 0..40 {
        write(&mut disk, &"z".repeat(500), random);
        disk.done(random).unwrap();
        disk.done(random).unwrap();
    }
    disk
}

#[test]
fn a_flipped_bit_is_never_taken_for_a_torn_end() {
    for seed in 0..300 {
        let mut random = Random::new(seed);
        let mut disk = filled(&mut random);
        assert!(disk.flip_bit(&mut random));
        assert!(disk.open(|_| Err(String::new())).is_err(), "seed {seed}");
    }
}

#[test]
fn a_failure_comes_once_and_a_full_disk_fails_until_there_is_space() {
    let mut random = Random::new(1);
    let mut disk = filled(&mut random);
    disk.fails_once = true;
    write(&mut disk, "lost", &mut random);
    assert_eq!(disk.done(&mut random), Err(DiskFailure::Error));
    disk.crash(true, &mut random);
    disk.full = true;
    for _ in 0..3 {
        disk.open(|_| Ok(())).unwrap();
        write(&mut disk, "no space", &mut random);
        assert_eq!(disk.done(&mut random), Err(DiskFailure::Full));
        disk.crash(false, &mut random);
    }
    disk.full = false;
    assert!(disk.open(|_| Ok(())).unwrap().records.len() >= 40);
    write(&mut disk, "space", &mut random);
    assert!(disk.done(&mut random).is_ok());
}

#[test]
fn a_disk_that_lied_holds_what_it_held_before() {
    let mut random = Random::new(1);
    let mut disk = filled(&mut random);
    disk.back_up();
    assert!(disk.is_idle());
    write(&mut disk, "synced, or so it says", &mut random);
    assert!(!disk.is_idle());
    disk.done(&mut random).unwrap();
    disk.done(&mut random).unwrap();
    assert!(disk.is_idle());
    let backup = disk.take_backup().unwrap();
    disk.crash(true, &mut random);
    assert!(disk.go_back(backup));
    assert_eq!(disk.open(|_| Ok(())).unwrap().records.len(), 40);
}

#[test]
fn a_truncated_log_opens_where_it_begins() {
    let mut random = Random::new(1);
    let mut disk = Disk::new(Pace::quick());
    for _ in 0..40 {
        write(&mut disk, &"y".repeat(500), &mut random);
        disk.done(&mut random).unwrap();
        disk.done(&mut random).unwrap();
    }
    assert!(disk.truncate(Position(30)));
    let records = disk.open(|_| Ok(())).unwrap().records;
    let first = records.first().unwrap().0;
    assert!(first > Position(1) && first <= Position(30), "{first:?}");
    assert_eq!(records.last().unwrap().0, Position(40));
}

#[test]
fn used_segments_lose_and_uncover_and_never_bring_anything_back() {
    let mut used_again = 0;
    for seed in 0..200 {
        let mut random = Random::new(seed);
        let mut disk = Disk::new(Pace::quick());
        let mut history: Vec<Vec<u8>> = Vec::new();
        for life in 0..30 {
            let synced = disk.kept().1;
            let records = disk.open(|_| Ok(())).unwrap().records;
            let last = records.last().map_or(0, |(position, _)| position.0);
            assert!(last >= synced.0, "seed {seed}, life {life}");
            history.truncate(last as usize);
            for (position, record) in &records {
                assert_eq!(*record, history[position.0 as usize - 1], "seed {seed}, life {life}");
            }
            // The same few records in every life.
            for _ in 0..random.range(0, 12) {
                let record =
                    vec![b'a' + random.range(0, 2) as u8; random.range(0, 3) as usize * 400];
                let fsync = random.chance(50);
                let durability = if fsync { Durability::Fsync } else { Durability::Interval };
                disk.append(&record, durability);
                history.push(record);
                if disk.write_early(&mut random).is_none() {
                    disk.flush(&mut random);
                }
                for _ in 0..random.range(0, 3) {
                    disk.done(&mut random).unwrap();
                }
                if random.chance(20) {
                    disk.truncate(disk.kept().1);
                }
            }
            disk.crash(random.chance(70), &mut random);
        }
        used_again += usize::from(!disk.spares.is_empty());
    }
    assert!(used_again > 100, "segments were hardly ever used again: {used_again}");
}
