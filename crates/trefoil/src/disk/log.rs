//! The event loop's side of the log: what gathers, where it goes, and how far it is kept.

use super::blocks::{BLOCK_BYTES, Blocks};
use super::directory::{Directory, Resumed};
use super::log_thread::{DiskHand, LogThread, Order, Report, Write};
use super::pace::Pace;
use super::segment::Segment;
use super::segments::{Segments, Tail};
use super::spares::{SpareOrder, SpareThread, nominal_bytes};
use super::{DiskError, SEGMENT_BYTES_MAX};
use crate::operator_log;
use replication::Position;
use replication::keyspace::Durability;
use replication::storage::log::{LogWriter, Recovered};
use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, Sender, SyncSender};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How long written records may stay unsynced.
const SYNC_INTERVAL: Duration = Duration::from_secs(1);
/// One order is in flight at a time; behind it there may be the one to stop.
const ORDERS_MAX: usize = 2;
/// The event loop writes a batch of at most so many bytes itself while the disk is quick: behind a
/// large one there are many replies to be sent meanwhile.
const OWN_WRITE_BYTES_MAX: usize = 64 << 10;

/// How the log is written.
#[derive(Clone, Copy, Debug)]
pub struct LogOptions {
    /// Bytes of a segment from which on the next batch starts a new one.
    pub segment_bytes_max: u64,
    /// Whether writes pass by the page cache where the file system takes that.
    pub direct: bool,
}

impl Default for LogOptions {
    fn default() -> LogOptions {
        LogOptions { segment_bytes_max: SEGMENT_BYTES_MAX, direct: true }
    }
}

/// What the log has had to do.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct LogCounts {
    /// Batches that the event loop has written to the page cache.
    pub plain: u64,
    /// Batches that were written to the disk, past the page cache.
    pub direct: u64,
    /// Those of them that the event loop was to write itself.
    pub own: u64,
    /// Syncs of the page cache by the log thread.
    pub syncs: u64,
    /// Segments begun.
    pub segments: u64,
}

/// What the log thread does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Work {
    Nothing,
    /// A batch up to here is on its way to the disk.
    Writing(Position),
    /// What was written up to here.
    Syncing(Position),
}

/// The event loop's side of the log.
pub struct Log {
    writer: LogWriter,
    /// The memory of a batch: lent to the writer, which gathers one there.
    blocks: Blocks,
    /// The memory of the batch before; away while the thread writes that.
    written_blocks: Blocks,
    /// The segments that are needed and their first records; the last one is written to.
    live: VecDeque<(Arc<Segment>, Position)>,
    /// Where in the last one the next batch goes.
    at: u64,
    work: Work,
    /// The batch on its way, if the event loop is to write it itself.
    own: Option<Write>,
    pace: Pace,
    /// A record of the open batch asks for a sync.
    sync_asked: bool,
    /// A record of the open batch counts as soon as it is written.
    counts_when_written: bool,
    /// A record that was written to the page cache asks for a sync.
    sync_owed: bool,
    /// Segments with something in the page cache that no sync has been ordered for.
    unsynced: Vec<Arc<Segment>>,
    /// Since when.
    unsynced_since: Option<Instant>,
    /// The memory of a list that has been synced.
    list: Vec<Arc<Segment>>,
    written: Position,
    synced: Position,
    /// What [`Log::progress`] has told last.
    told: (Position, Position),
    hand: Arc<DiskHand>,
    orders: SyncSender<Order>,
    reports: Receiver<Report>,
    thread: Option<JoinHandle<()>>,
    spares: Spares,
    /// What there was to do.
    pub counts: LogCounts,
}

/// The other side of [`SpareThread`].
struct Spares {
    orders: Option<Sender<SpareOrder>>,
    ready: Receiver<Arc<Segment>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Log {
    /// Goes on behind what was recovered, and cuts what is torn. `wake` is called, from other
    /// threads, when there is something to hear for [`Log::progress`].
    pub fn start(
        directory: &Directory,
        segments: &Segments,
        recovered: &Recovered,
        tail: &Tail,
        options: LogOptions,
        wake: impl Fn() + Send + Sync + 'static,
    ) -> Result<Log, DiskError> {
        let first_bytes = nominal_bytes(1, options.segment_bytes_max);
        let resumed = directory.resume(segments, recovered, tail, first_bytes, options.direct)?;
        let Resumed { live, at, mut blocks, spares } = resumed;
        let direct = live.back().is_some_and(|(segment, _)| segment.is_direct());
        if options.direct && !direct {
            operator_log::line(format_args!(
                "the file system of {} takes no direct writes: the log is written through the \
                 page cache and synced, which is slower",
                directory.path().display()
            ));
        }
        let spares = Spares::start(directory, direct, options.segment_bytes_max, spares)?;
        let (orders, order_receiver) = mpsc::sync_channel(ORDERS_MAX);
        let (report_sender, reports) = mpsc::sync_channel(ORDERS_MAX);
        let (shared, wake) = (directory.share(), Box::new(wake));
        let hand = Arc::new(DiskHand { directory: shared, reports: report_sender, wake });
        let thread = LogThread { hand: hand.clone(), orders: order_receiver };
        let thread = spawn(directory, "log", move || thread.run())?;
        let mut writer = LogWriter::new(recovered.next, recovered.chain);
        *writer.buffer() = blocks.lend();
        let last = writer.last();
        Ok(Log {
            writer,
            blocks,
            written_blocks: Blocks::default(),
            live,
            at,
            work: Work::Nothing,
            own: None,
            pace: Pace::default(),
            sync_asked: false,
            counts_when_written: false,
            sync_owed: false,
            unsynced: Vec::new(),
            unsynced_since: None,
            list: Vec::new(),
            written: last,
            synced: last,
            told: (last, last),
            hand,
            orders,
            reports,
            thread: Some(thread),
            spares,
            counts: LogCounts::default(),
        })
    }

    /// Adds a record to the open batch: it begins with `head` and goes on with `rest`.
    pub fn append_parts(&mut self, head: &[u8], rest: &[u8], durability: Durability) -> Position {
        match durability {
            Durability::Fsync => self.sync_asked = true,
            Durability::Interval => self.counts_when_written = true,
        }
        self.writer.append_parts(head, rest)
    }

    /// Records before this position may go: whole segments are used again.
    pub fn truncate(&mut self, before: Position) {
        let unneeded = self.live.iter().skip(1).take_while(|(_, first)| *first <= before).count();
        for (segment, _) in self.live.drain(..unneeded) {
            self.spares.order(SpareOrder::Recycle(segment, unneeded));
        }
    }

    /// The end of a turn: what has gathered is written, or goes to the thread if that is free.
    /// `own`: the caller would rather wait for the disk itself; then see [`Log::take_own`].
    pub fn hand_over(&mut self, now: Instant, own: bool) -> Result<(), DiskError> {
        if matches!(self.work, Work::Writing(_)) {
            return Ok(());
        }
        let is_free = self.work == Work::Nothing;
        if self.writer.pending() {
            let only_synced = !self.counts_when_written;
            if only_synced && is_free && self.unsynced.is_empty() && self.is_direct() {
                self.write_direct(own);
                return Ok(());
            }
            if !only_synced || is_free {
                self.write(now)?;
            }
        }
        let overdue = self.unsynced_since.is_some_and(|since| now >= since + SYNC_INTERVAL);
        if is_free && (overdue || self.sync_owed) {
            self.sync();
        }
        Ok(())
    }

    /// Whether fsync batches pass by the page cache.
    pub fn is_direct(&self) -> bool {
        self.live.back().is_some_and(|(segment, _)| segment.is_direct())
    }

    /// How much of the disk the log's segments take, without the spare ones.
    pub fn bytes_on_disk(&self) -> u64 {
        self.live.iter().map(|(segment, _)| segment.bytes()).sum()
    }

    /// The open batch, ready to be written; where, and up to which record.
    fn seal(&mut self) -> Option<(Arc<Segment>, u64, Position)> {
        let bytes = self.writer.pending_bytes();
        let full = self.at + bytes as u64 > self.live.back()?.0.bytes();
        if full
            && self.at > 0
            && let Some(spare) = self.spares.take()
        {
            // Everything before is written: there is one batch at a time.
            self.live.push_back((spare, Position(self.written.0 + 1)));
            self.writer.drop_in_front(self.blocks.start(), (self.at % BLOCK_BYTES as u64) as usize);
            self.at = 0;
            self.counts.segments += 1;
        }
        // The block that it starts in is written with it.
        let block_at = self.at - self.at % BLOCK_BYTES as u64;
        let sealed = self.writer.seal_here(self.synced)?;
        self.blocks.take_back(std::mem::take(self.writer.buffer()));
        self.at += bytes as u64;
        let segment = self.live.back()?.0.clone();
        (self.sync_asked, self.counts_when_written) = (false, false);
        Some((segment, block_at, sealed.last))
    }

    fn write_direct(&mut self, own: bool) {
        let is_small = self.writer.pending_bytes() <= OWN_WRITE_BYTES_MAX;
        let Some((segment, at, last)) = self.seal() else { return };
        self.blocks.reserve(0);
        let mut next = std::mem::take(&mut self.written_blocks);
        next.begin_with(self.blocks.tail());
        let blocks = std::mem::replace(&mut self.blocks, next);
        *self.writer.buffer() = self.blocks.lend();
        let write = Write { segment, at, blocks, synced: self.synced };
        self.work = Work::Writing(last);
        self.counts.direct += 1;
        if own && is_small && self.pace.is_quick() {
            self.counts.own += 1;
            self.own = Some(write);
        } else {
            self.order(Order::Write(write));
        }
    }

    /// The batch that the caller is to write itself, with [`Log::hand`], and then tells
    /// [`Log::hear_own`] of.
    pub fn take_own(&mut self) -> Option<Write> {
        self.own.take()
    }

    /// What carries out a write, on any thread.
    pub fn hand(&self) -> Arc<DiskHand> {
        self.hand.clone()
    }

    /// What came of the batch that the caller has written itself.
    pub fn hear_own(&mut self, report: Report) -> Result<(), DiskError> {
        self.hear(report)
    }

    fn write(&mut self, now: Instant) -> Result<(), DiskError> {
        self.sync_owed |= self.sync_asked;
        let Some((segment, at, last)) = self.seal() else { return Ok(()) };
        let written = self.blocks.write(|whole| segment.write(whole, at));
        *self.writer.buffer() = self.blocks.lend();
        written?;
        if !self.unsynced.last().is_some_and(|known| Arc::ptr_eq(known, &segment)) {
            self.unsynced.push(segment);
        }
        self.unsynced_since.get_or_insert(now);
        self.written = last;
        self.counts.plain += 1;
        Ok(())
    }

    /// Only when the thread has nothing to do.
    fn sync(&mut self) {
        let segments = std::mem::replace(&mut self.unsynced, std::mem::take(&mut self.list));
        (self.sync_owed, self.unsynced_since) = (false, None);
        self.work = Work::Syncing(self.written);
        self.counts.syncs += 1;
        self.order(Order::Sync { segments, synced: self.synced });
    }

    fn order(&self, order: Order) {
        // Fails only when the thread has ended, and then its last report says why.
        let _ = self.orders.send(order);
    }

    /// How far the log is kept now, if that has changed since the last call.
    pub fn progress(&mut self) -> Result<Option<(Position, Position)>, DiskError> {
        while self.work != Work::Nothing
            && let Ok(report) = self.reports.try_recv()
        {
            self.hear(report)?;
        }
        let now = (self.written, self.synced);
        Ok((std::mem::replace(&mut self.told, now) != now).then_some(now))
    }

    fn hear(&mut self, report: Report) -> Result<(), DiskError> {
        match (report, std::mem::replace(&mut self.work, Work::Nothing)) {
            (Report::Written(blocks, took), Work::Writing(last)) => {
                self.pace.note(took);
                self.written_blocks = blocks;
                (self.written, self.synced) = (last, last);
            }
            (Report::Synced(list), Work::Syncing(last)) => {
                self.list = list;
                self.synced = last;
            }
            (Report::Failed(error), _) => return Err(error),
            (Report::Written(..) | Report::Synced(_), _) => {}
        }
        Ok(())
    }

    /// Whether [`Log::progress`] has something to tell without waiting for the thread.
    pub fn has_progress(&self) -> bool {
        self.told != (self.written, self.synced)
    }

    /// When [`Log::hand_over`] must be called at the latest.
    pub fn deadline(&self) -> Option<Instant> {
        let is_free = self.work == Work::Nothing;
        self.unsynced_since.filter(|_| is_free).map(|since| since + SYNC_INTERVAL)
    }

    /// The newest record.
    pub fn last(&self) -> Position {
        self.writer.last()
    }

    /// How far the log is written, and how far synced.
    pub fn kept(&self) -> (Position, Position) {
        (self.written, self.synced)
    }

    /// Writes and syncs everything, and ends the threads.
    pub fn close(&mut self) -> Result<(), DiskError> {
        let result = self.write_all();
        self.order(Order::Stop);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        self.spares.close();
        result
    }

    /// The same, with a record behind everything that proves that it was on disk.
    pub fn mark_and_close(&mut self, mark: &[u8]) -> Result<(), DiskError> {
        let marked = self.write_all().map(|()| self.append_parts(mark, &[], Durability::Fsync));
        let closed = self.close();
        marked.and(closed)
    }

    fn write_all(&mut self) -> Result<(), DiskError> {
        if let Some(write) = self.own.take() {
            self.order(Order::Write(write));
        }
        while self.synced < self.writer.last() {
            self.sync_owed = !self.unsynced.is_empty();
            self.hand_over(Instant::now(), false)?;
            if self.work != Work::Nothing {
                let report = self.reports.recv().map_err(std::io::Error::other);
                let report = report.map_err(DiskError::io("write", Path::new("the log")))?;
                self.hear(report)?;
            }
        }
        Ok(())
    }
}

impl Spares {
    fn start(
        directory: &Directory,
        direct: bool,
        segment_bytes_max: u64,
        numbers: std::ops::Range<u64>,
    ) -> Result<Spares, DiskError> {
        let (orders, order_receiver) = mpsc::channel();
        let (ready_sender, ready) = mpsc::channel();
        let stop = Arc::new(AtomicBool::new(false));
        let thread = SpareThread {
            directory: directory.share(),
            direct,
            segment_bytes_max,
            numbers,
            stop: stop.clone(),
            orders: order_receiver,
            ready: ready_sender,
        };
        let thread = spawn(directory, "log-spares", move || thread.run())?;
        Ok(Spares { orders: Some(orders), ready, stop, thread: Some(thread) })
    }

    /// The next segment, if it is ready.
    fn take(&mut self) -> Option<Arc<Segment>> {
        let spare = self.ready.try_recv().ok()?;
        self.order(SpareOrder::Taken);
        Some(spare)
    }

    fn order(&self, order: SpareOrder) {
        // Fails only when the thread has given up: then segments stay as they are.
        if let Some(orders) = &self.orders {
            let _ = orders.send(order);
        }
    }

    fn close(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.orders = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn spawn(
    directory: &Directory,
    name: &str,
    run: impl FnOnce() + Send + 'static,
) -> Result<JoinHandle<()>, DiskError> {
    let thread = std::thread::Builder::new().name(name.into());
    thread.spawn(run).map_err(DiskError::io("start the thread for", directory.path()))
}
