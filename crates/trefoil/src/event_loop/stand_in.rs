//! Two threads for one event loop, so that it can wait for the disk and never be held up by it.
//!
//! A short write is cheapest where the loop makes it itself: no other thread is woken, and all who
//! ask meanwhile are the next batch. But a disk may stall at any time, and a node whose loop waits
//! for it hears nobody. So whoever runs the loop puts it down before it waits for the disk, and
//! takes it up again afterwards; the other thread looks every few milliseconds, and where the same
//! write goes on since it looked last, it takes up the loop and runs it from there on. The one who
//! was waiting then tells the loop of the write as the log thread does, and stands in from then on.
//!
//! Nothing of this is shared but the loop as a whole, which one thread has at a time. Without a
//! stall the price is a lock taken twice for each write, and a look now and then.

use super::{EventLoop, LoopError};
use crate::disk::DiskHand;
use replication::node::idle_mark::IDLE_MARK;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How often the stand-in looks while there are writes: the loop is held up for at most two looks.
const LOOK_EVERY: Duration = Duration::from_millis(4);
/// Looks without a new write after which it sleeps until there is one.
const IDLE_LOOKS: u32 = 8;

/// Runs the loop to its end.
pub(super) fn run(mut event_loop: Box<EventLoop>) -> Result<(), LoopError> {
    // What the node wants said at its start.
    event_loop.end_turn(false)?;
    let hand = event_loop.sink.log.hand();
    let relay = Relay { hand, shared: Mutex::default(), changed: Condvar::new() };
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("stand-in".into());
        thread.spawn_scoped(scope, || relay.serve(None)).map_err(LoopError::Thread)?;
        relay.serve(Some(event_loop));
        Ok(())
    })?;
    relay.shared().outcome.take().unwrap_or(Ok(()))
}

/// What the two threads have in common.
struct Relay {
    hand: Arc<DiskHand>,
    shared: Mutex<Shared>,
    changed: Condvar,
}

#[derive(Default)]
struct Shared {
    /// The loop, while the one who runs it waits for the disk.
    put_down: Option<Box<EventLoop>>,
    /// How often it was put down.
    writes: u64,
    /// The stand-in sleeps until there is a write.
    asleep: bool,
    /// What came of it all.
    outcome: Option<Result<(), LoopError>>,
    /// Nobody runs the loop any more.
    ended: bool,
}

/// Whoever leaves, be it by a panic, ends it for both.
struct End<'a>(&'a Relay);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.shared().ended = true;
        self.0.changed.notify_all();
    }
}

impl Relay {
    /// What each of the two threads does: runs the loop while it has it, and stands in otherwise.
    fn serve(&self, mut held: Option<Box<EventLoop>>) {
        let _end = End(self);
        while let Some(event_loop) = held.take().or_else(|| self.stand_in()) {
            if let Some(outcome) = self.drive(event_loop) {
                self.shared().outcome = Some(outcome);
                return;
            }
        }
    }

    /// Runs the loop to its end; or until it is taken away, then there is no outcome.
    fn drive(&self, mut event_loop: Box<EventLoop>) -> Option<Result<(), LoopError>> {
        loop {
            let goes_on = match event_loop.sink.log.take_own() {
                None => event_loop.wait_and_turn(),
                Some(write) => {
                    self.put_down(event_loop);
                    let report = self.hand.write(write);
                    // The next write is not made before this one is told of: what lies here is what
                    // was put down for this one.
                    let Some(back) = self.shared().put_down.take() else {
                        self.hand.tell(report);
                        return None;
                    };
                    event_loop = back;
                    event_loop.own_written(report).map(|()| true)
                }
            };
            match goes_on {
                Ok(true) => {}
                Ok(false) => {
                    let closed = event_loop.sink.log.mark_and_close(IDLE_MARK);
                    return Some(closed.map_err(LoopError::Disk));
                }
                Err(error) => return Some(Err(error)),
            }
        }
    }

    fn put_down(&self, event_loop: Box<EventLoop>) {
        let mut shared = self.shared();
        shared.put_down = Some(event_loop);
        shared.writes += 1;
        if shared.asleep {
            self.changed.notify_all();
        }
    }

    /// Waits until the other one is held up by the disk, and takes the loop; `None` at the end.
    fn stand_in(&self) -> Option<Box<EventLoop>> {
        let mut shared = self.shared();
        let (mut seen, mut idle) = (shared.writes, 0);
        while !shared.ended {
            shared.asleep = idle >= IDLE_LOOKS;
            shared = if shared.asleep {
                self.changed.wait(shared).unwrap_or_else(PoisonError::into_inner)
            } else {
                let waited = self.changed.wait_timeout(shared, LOOK_EVERY);
                waited.unwrap_or_else(PoisonError::into_inner).0
            };
            if shared.writes != seen {
                (seen, idle) = (shared.writes, 0);
            } else if let Some(event_loop) = shared.put_down.take() {
                return Some(event_loop);
            } else {
                idle += 1;
            }
        }
        None
    }

    fn shared(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
