//! Tests of what a start makes of a log that cannot be trusted.
#![allow(clippy::unwrap_used, clippy::panic)]

use super::*;
use crate::disk::{Log, LogOptions};
use replication::DatacenterId;
use replication::keyspace::{Durability, GroupOptions, Keyspace, LeaderFollower, Member, Model};
use std::time::{Duration, Instant};

/// The first record of a log says whose it is; here only its kind matters.
const IDENTITY: &[u8] = &[0, 1, 2, 3];

fn cluster(nodes: u8) -> Cluster {
    let group = GroupOptions::defaults(nodes);
    let home = DatacenterId(0);
    let model = Model::LeaderFollower(LeaderFollower { home, partitions: 1, group });
    let member = |number| Member { name: format!("n{number}"), datacenter: home };
    Cluster {
        name: "c".into(),
        secret: 1,
        datacenters: vec!["d".into()],
        members: (0..nodes).map(member).collect(),
        keyspaces: vec![Keyspace { id: replication::KeyspaceId(1), prefix: Vec::new(), model }],
    }
}

type Started = (Vec<Vec<u8>>, Trust, Log, Directory);

/// Opens the log as the server does; the records, and what is known of them.
fn start(path: &Path, nodes: u8) -> Result<Started, DiskError> {
    let directory = Directory::open(path)?;
    let (segments, recovered, trust) = directory.prepare(&cluster(nodes), NodeId(0))?;
    let (records, tail) = crate::disk::tests::read(&segments, &recovered)?;
    let records = records.into_iter().map(|(_, record)| record).collect();
    let options = LogOptions { segment_bytes_max: 1 << 16, direct: true };
    let log = Log::start(&directory, &segments, &recovered, &tail, options, || {})?;
    Ok((records, trust, log, directory))
}

fn append(log: &mut Log, record: &[u8]) {
    log.append_parts(record, &[], Durability::Fsync);
    let deadline = Instant::now() + Duration::from_secs(20);
    while log.kept().1 < log.last() {
        assert!(Instant::now() < deadline, "the log thread does not report");
        log.hand_over(Instant::now(), false).unwrap();
        log.progress().unwrap();
        std::thread::yield_now();
    }
}

/// A directory with records, in use and without a process.
fn filled(path: &Path, records: &[&[u8]]) {
    let (_, _, mut log, directory) = start(path, 3).unwrap();
    for record in records {
        append(&mut log, record);
    }
    log.close().unwrap();
    directory.confirm().unwrap();
}

fn segment(path: &Path) -> PathBuf {
    path.join("log/00000000000000000001.log")
}

fn aside(path: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(path.join("log")).unwrap().map(|entry| entry.unwrap().path());
    entries.filter(|p| p.file_name().unwrap().to_str().unwrap().starts_with("damaged-")).collect()
}

#[test]
fn a_flipped_bit_in_any_record_but_the_first_and_last_is_repaired() {
    let directory = tempfile::tempdir().unwrap();
    let records: [&[u8]; 4] = [IDENTITY, b"two", b"three", b"four"];
    filled(directory.path(), &records);
    let whole = fs::read(segment(directory.path())).unwrap();
    let starts: Vec<usize> =
        (0..whole.len() - 4).filter(|at| whole.get(*at..at + 4) == Some(b"TFLB")).collect();
    assert_eq!(starts, [0, 512, 1024, 1536]);
    let used = whole.iter().rposition(|byte| *byte != 0).unwrap() + 1;
    for damaged in 1..3 {
        let mut bytes = whole[starts[damaged]..starts[damaged + 1]].iter();
        let length = bytes.rposition(|byte| *byte != 0).unwrap() + 1;
        for at in (starts[damaged]..starts[damaged] + length).step_by(3) {
            fs::write(segment(directory.path()), &whole).unwrap();
            let mut bytes = whole.clone();
            *bytes.get_mut(at).unwrap() ^= 1 << (at % 8);
            fs::write(segment(directory.path()), &bytes).unwrap();
            let (found, trust, mut log, place) = start(directory.path(), 3).unwrap();
            assert_eq!(found, records[..damaged], "byte {at}");
            assert!(trust.damaged && !trust.lost_unsynced, "{trust:?}");
            let kept = aside(directory.path());
            assert_eq!(kept.len(), 1);
            assert_eq!(fs::read(&kept[0]).unwrap(), bytes[starts[damaged]..used]);
            // Until the node has durably taken note, every start sees the damage.
            log.close().unwrap();
            drop((log, place));
            let (_, trust, mut log, place) = start(directory.path(), 3).unwrap();
            assert!(trust.damaged, "the first start has not confirmed it");
            place.confirm().unwrap();
            append(&mut log, b"new");
            log.close().unwrap();
            drop((log, place));
            let (found, trust, mut log, _place) = start(directory.path(), 3).unwrap();
            assert_eq!((found.len(), trust), (damaged + 1, Trust::default()));
            log.close().unwrap();
            fs::remove_file(&kept[0]).unwrap();
        }
    }
}

#[test]
fn damage_that_nobody_could_repair_is_refused_and_nothing_is_changed() {
    let directory = tempfile::tempdir().unwrap();
    filled(directory.path(), &[IDENTITY, b"two", b"three"]);
    let whole = fs::read(segment(directory.path())).unwrap();
    let refused = |at: usize, nodes: u8| {
        let mut bytes = whole.clone();
        *bytes.get_mut(at).unwrap() ^= 1;
        fs::write(segment(directory.path()), &bytes).unwrap();
        let Err(error) = start(directory.path(), nodes) else { panic!("byte {at} was not seen") };
        assert_eq!(fs::read(segment(directory.path())).unwrap(), bytes);
        assert!(aside(directory.path()).is_empty());
        error.to_string()
    };
    let second = whole.windows(4).skip(1).position(|four| four == b"TFLB").unwrap() + 1;
    assert!(refused(50, 3).contains("damaged"), "the first record says whose the log is");
    assert!(refused(second + 50, 1).contains("only this node holds keyspace"));
}

#[test]
fn a_disk_that_is_damaged_again_and_again_is_looked_at() {
    let directory = tempfile::tempdir().unwrap();
    filled(directory.path(), &[IDENTITY, b"two", b"three"]);
    for number in 0..REPAIRS_MAX {
        fs::write(directory.path().join(format!("log/damaged-{number}-x.log")), b"x").unwrap();
    }
    let mut bytes = fs::read(segment(directory.path())).unwrap();
    let second = bytes.windows(4).skip(1).position(|four| four == b"TFLB").unwrap() + 1;
    *bytes.get_mut(second + 50).unwrap() ^= 1;
    fs::write(segment(directory.path()), &bytes).unwrap();
    let Err(error) = start(directory.path(), 3) else { panic!("one repair too many") };
    assert!(error.to_string().contains("look at the disk"), "{error}");
}

#[test]
fn behind_a_failed_sync_nothing_is_believed() {
    let directory = tempfile::tempdir().unwrap();
    filled(directory.path(), &[IDENTITY, b"synced", b"only in the page cache"]);
    Directory::open(directory.path()).unwrap().distrust_behind(Position(2));
    let (found, trust, mut log, _place) = start(directory.path(), 3).unwrap();
    assert_eq!(found, [IDENTITY, b"synced"]);
    assert_eq!(trust, Trust { lost_unsynced: true, damaged: false });
    assert_eq!(aside(directory.path()).len(), 1);
    log.close().unwrap();
}

#[test]
fn a_restart_of_the_machine_is_told_from_one_of_the_process() {
    let directory = tempfile::tempdir().unwrap();
    filled(directory.path(), &[IDENTITY]);
    let lost = |path: &Path| {
        let (_, trust, mut log, place) = start(path, 3).unwrap();
        log.close().unwrap();
        (trust.lost_unsynced, place)
    };
    assert!(!lost(directory.path()).0, "only the process has ended");
    fs::write(directory.path().join(BOOT_NAME), "another boot").unwrap();
    assert!(lost(directory.path()).0);
    let (again, place) = lost(directory.path());
    assert!(again, "the node has not taken note of it");
    place.confirm().unwrap();
    drop(place);
    let (after, place) = lost(directory.path());
    assert!(!after);
    fs::write(directory.path().join(BOOT_NAME), "another boot").unwrap();
    place.stop_clean().unwrap();
    drop(place);
    assert!(!lost(directory.path()).0, "everything was synced");
}
