//! What a data directory may have lost, and what is done about it before the log is opened.
//!
//! - `BOOT` holds the boot number of the machine on which the directory is in use; a clean stop
//!   removes it. If it names another boot, the machine went down with records that were written and
//!   not synced: they may be gone. It is written anew only when the node has durably taken note.
//! - `UNTRUSTED` says up to which record the log can be trusted. A failed sync leaves it: what the
//!   operating system still shows of the records behind may never reach the disk. And a repair
//!   leaves it, until the node has durably become another incarnation.
//! - `log/damaged-...` is what a repair has set aside. Nothing ever reads or removes it: once the
//!   node has caught up with its peers, its operator may move it away or delete it.
//!
//! Damage is a bad record in front of one that proves it had been synced. What is in front of it is
//! kept; the peers have the rest (`replication::node::open::check_repairable` says when they do).

use super::DiskError;
use super::directory::{Directory, sync_directory};
use super::segments::{SegmentFile, Segments};
use crate::operator_log;
use replication::keyspace::Cluster;
use replication::node::open::{check_repairable, says_whose_log};
use replication::storage::log::{Corruption, End, Recovered};
use replication::{NodeId, Position};
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Write;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

const BOOT_NAME: &str = "BOOT";
const BOOT_SOURCE: &str = "/proc/sys/kernel/random/boot_id";
/// What `BOOT` holds when records are known to be gone.
const BOOT_LOST: &str = "lost";
const UNTRUSTED_NAME: &str = "UNTRUSTED";
const ASIDE_PREFIX: &str = "damaged-";
/// Repairs whose damaged parts may lie in the directory; with more, somebody should look at the
/// disk.
const REPAIRS_MAX: usize = 4;

/// What is known of a log before it is opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Trust {
    /// Records that were written and not synced may be gone.
    pub lost_unsynced: bool,
    /// Records that were synced are gone.
    pub damaged: bool,
}

/// Why a log is not trusted behind a record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Untrusted {
    /// A sync failed: nothing behind the record was ever said to be durable.
    Unsynced(Position),
    /// What was behind the record had been durable.
    Damaged(Position),
}

impl Untrusted {
    fn position(self) -> Position {
        match self {
            Untrusted::Unsynced(position) | Untrusted::Damaged(position) => position,
        }
    }

    fn text(self) -> String {
        match self {
            Untrusted::Unsynced(position) => format!("unsynced behind {}\n", position.0),
            Untrusted::Damaged(position) => format!("damaged behind {}\n", position.0),
        }
    }

    fn parse(text: &str) -> Option<Untrusted> {
        let (why, position) = text.trim_end().split_once(" behind ")?;
        let position = Position(position.parse().ok()?);
        match why {
            "unsynced" => Some(Untrusted::Unsynced(position)),
            "damaged" => Some(Untrusted::Damaged(position)),
            _ => None,
        }
    }
}

impl Directory {
    /// Finds out where the log ends, and repairs what must be repaired before anything is written:
    /// afterwards the segments end where the log can be trusted.
    pub fn prepare(
        &self,
        cluster: &Cluster,
        me: NodeId,
    ) -> Result<(Segments, Recovered, Trust), DiskError> {
        let mark = self.untrusted()?;
        let segments = self.segments()?;
        let (recovered, damage) = segments.recover_trusted(mark.map(Untrusted::position))?;
        let mut trust = Trust { lost_unsynced: self.begin_boot()?, damaged: false };
        trust.damaged = damage.is_some() || matches!(mark, Some(Untrusted::Damaged(_)));
        if !trust.damaged && mark.is_none() {
            segments.check_first(&recovered)?;
            return Ok((segments, recovered, trust));
        }
        if let Some(corruption) = &damage {
            let mut is_known = false;
            segments.replay(&recovered, |_, record| {
                is_known |= says_whose_log(record);
                Ok::<(), DiskError>(())
            })?;
            check_repairable(cluster, me, is_known)
                .map_err(|why| segments.refuse(corruption, Some(&why)))?;
            self.check_repairs(&segments, corruption)?;
            operator_log::line(format_args!(
                "ALARM: {}. The records up to {} are kept, what is behind them is set aside as \
                 {ASIDE_PREFIX}... in the log's directory; this node counts as one with a new disk \
                 until the others have repaired it",
                segments.describe(corruption),
                recovered.next.0 - 1
            ));
            // Before anything is moved: a log that ends in front of the damage looks whole.
            let kept = Position(recovered.next.0 - 1);
            self.write(UNTRUSTED_NAME, &Untrusted::Damaged(kept).text())?;
        }
        self.set_aside(&segments, &recovered)?;
        if !trust.damaged {
            operator_log::line(format_args!(
                "ALARM: a sync of the log had failed: what was written behind record {} is set \
                 aside, and nobody was told that it is durable",
                recovered.next.0 - 1
            ));
            self.write(BOOT_NAME, BOOT_LOST)?;
            self.remove(UNTRUSTED_NAME)?;
            trust.lost_unsynced = true;
        }
        let segments = self.segments()?;
        let recovered = segments.recover()?;
        Ok((segments, recovered, trust))
    }

    /// The node has durably taken note of what may be lost: from now on, only a restart of the
    /// machine can lose more. Nothing may be said to anybody before this.
    pub fn confirm(&self) -> Result<(), DiskError> {
        let boot = boot();
        if self.read_small(BOOT_NAME)?.as_deref() != Some(&boot) {
            self.write(BOOT_NAME, &boot)?;
        }
        self.remove(UNTRUSTED_NAME)
    }

    /// Everything is synced, and nothing more will be written.
    pub fn stop_clean(&self) -> Result<(), DiskError> {
        self.remove(BOOT_NAME)
    }

    /// A sync has failed: behind a record, the log is not what it seems. As good as it goes, for
    /// the disk may refuse this, too.
    pub(super) fn distrust_behind(&self, synced: Position) {
        if let Err(error) = self.write(UNTRUSTED_NAME, &Untrusted::Unsynced(synced).text()) {
            operator_log::line(format_args!("the failed sync cannot be noted: {error}"));
        }
    }

    /// Whether the machine was restarted since the directory was in use. Notes that it is in use.
    fn begin_boot(&self) -> Result<bool, DiskError> {
        match self.read_small(BOOT_NAME)? {
            Some(before) => Ok(before != boot()),
            None => self.write(BOOT_NAME, &boot()).map(|()| false),
        }
    }

    fn untrusted(&self) -> Result<Option<Untrusted>, DiskError> {
        let Some(text) = self.read_small(UNTRUSTED_NAME)? else { return Ok(None) };
        // A mark that was torn when it was written is one all the same, but says too little.
        match Untrusted::parse(&text) {
            Some(mark) => Ok(Some(mark)),
            None => Err(DiskError::Corrupt {
                directory: self.path().to_path_buf(),
                text: format!(
                    "the file {UNTRUSTED_NAME} says that the log cannot be trusted, and cannot be \
                     read itself: move the data directory away and start the node with an empty \
                     one, then it is filled from its peers"
                ),
            }),
        }
    }

    /// Moves what is behind the good log out of its way.
    fn set_aside(&self, segments: &Segments, recovered: &Recovered) -> Result<(), DiskError> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let aside = |path: &Path| {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or("?");
            path.with_file_name(format!("{ASIDE_PREFIX}{now}-{name}"))
        };
        let End { segment: last, offset } = recovered.end;
        // From the last one on backwards: a crash in between must not leave a gap. Those that hold
        // nothing of this log, or of its past only, are spare.
        for (number, file) in segments.files().iter().enumerate().skip(last + 1).rev() {
            let path = &file.path;
            if recovered.leftovers.iter().any(|left| left.segment == number) {
                fs::rename(path, aside(path)).map_err(DiskError::io("set aside", path))?;
            } else {
                fs::remove_file(path).map_err(DiskError::io("remove", path))?;
            }
        }
        if let Some(file) = segments.files().get(last) {
            let used = file.used_behind(offset)?;
            if used > offset {
                copy_synced(file, offset..used, &aside(&file.path))?;
                let cut = fs::OpenOptions::new().write(true).open(&file.path);
                cut.and_then(|cut| {
                    cut.set_len(offset as u64)?;
                    cut.set_len(file.bytes as u64)?;
                    cut.sync_all()
                })
                .map_err(DiskError::io("cut", &file.path))?;
            }
        }
        sync_directory(self.log_path())
    }

    /// A disk that is damaged again and again is not repaired for ever.
    fn check_repairs(&self, segments: &Segments, corruption: &Corruption) -> Result<(), DiskError> {
        let path = self.log_path();
        let mut moments = BTreeSet::new();
        for entry in fs::read_dir(path).map_err(DiskError::io("list", path))? {
            let name = entry.map_err(DiskError::io("list", path))?.file_name();
            let name = name.to_string_lossy().into_owned();
            if let Some(rest) = name.strip_prefix(ASIDE_PREFIX) {
                moments.insert(rest.split('-').next().unwrap_or("").to_string());
            }
        }
        if moments.len() < REPAIRS_MAX {
            return Ok(());
        }
        let why = format!(
            "it has been repaired {} times already: look at the disk, then remove the files \
             {ASIDE_PREFIX}... from the log's directory",
            moments.len()
        );
        Err(segments.refuse(corruption, Some(&why)))
    }

    fn small(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    fn read_small(&self, name: &str) -> Result<Option<String>, DiskError> {
        let path = self.small(name);
        match fs::read(&path) {
            Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(DiskError::io("read", &path)(error)),
        }
    }

    /// Replaces a small file: a crash leaves the old one or the new one.
    fn write(&self, name: &str, text: &str) -> Result<(), DiskError> {
        let (path, new) = (self.small(name), self.small(&format!("{name}.new")));
        write_synced(&new, text.as_bytes())?;
        fs::rename(&new, &path).map_err(DiskError::io("replace", &path))?;
        sync_directory(self.path())
    }

    fn remove(&self, name: &str) -> Result<(), DiskError> {
        let path = self.small(name);
        match fs::remove_file(&path) {
            Ok(()) => sync_directory(self.path()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(DiskError::io("remove", &path)(error)),
        }
    }
}

fn write_synced(path: &Path, bytes: &[u8]) -> Result<(), DiskError> {
    let written = File::create(path).and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()
    });
    written.map_err(DiskError::io("write", path))
}

/// Copies a part of a segment to a file of its own, a chunk at a time.
fn copy_synced(file: &SegmentFile, part: Range<usize>, to: &Path) -> Result<(), DiskError> {
    let mut copy = File::create(to).map_err(DiskError::io("write", to))?;
    file.read_behind(part.start, |at, bytes| {
        let length = bytes.len().min(part.end.saturating_sub(at));
        copy.write_all(bytes.get(..length).unwrap_or(bytes)).map_err(DiskError::io("write", to))
    })?;
    copy.sync_all().map_err(DiskError::io("write", to))
}

/// The number of the machine's present boot. Where the system does not tell, every process is taken
/// for one: that is the safe side.
fn boot() -> String {
    match fs::read_to_string(BOOT_SOURCE) {
        Ok(boot) => boot.trim().to_string(),
        Err(_) => format!("process {} since an unknown boot", std::process::id()),
    }
}

#[cfg(test)]
#[path = "trust_tests.rs"]
mod tests;
