//! Waking up at a moment: `epoll_wait` alone counts in milliseconds, which is far too coarse for a
//! schedule of thousands of requests a second.
//!
//! Where there are no such timers (not on Linux), the last milliseconds are waited for awake.

use mio::{Events, Poll, Token};
use std::io;
use std::time::Duration;

/// The timer's own events, which say nothing.
pub const TIMER: Token = Token(usize::MAX);

/// What is nearer than this is waited for awake: to sleep costs about as much.
const AWAKE_BELOW: Duration = Duration::from_micros(30);
/// What a poll's own timeout is off, at the most.
const POLL_SLACK: Duration = Duration::from_millis(1);

/// A timer that wakes a poll up.
pub struct Timer {
    #[cfg(target_os = "linux")]
    descriptor: std::os::fd::OwnedFd,
    /// The moment that it is set to.
    set_to_ns: Option<u64>,
}

impl Timer {
    /// Waits for events until `due_ns`, exactly, or until `limit_ns`, about; `u64::MAX` is never.
    /// All moments count from one start.
    pub fn poll(
        &mut self,
        poll: &mut Poll,
        events: &mut Events,
        now_ns: u64,
        (due_ns, limit_ns): (u64, u64),
    ) -> io::Result<()> {
        let wait = Duration::from_nanos(due_ns.saturating_sub(now_ns));
        let limit = Duration::from_nanos(limit_ns.saturating_sub(now_ns));
        if wait >= limit {
            return poll.poll(events, Some(limit));
        }
        if wait < AWAKE_BELOW {
            return poll.poll(events, Some(Duration::ZERO));
        }
        if self.set_to_ns != Some(due_ns) {
            self.set(wait)?;
            self.set_to_ns = Some(due_ns);
        }
        poll.poll(events, Some(Timer::asleep(wait)))
    }

    /// The next moments count from another start.
    pub fn forget(&mut self) {
        self.set_to_ns = None;
    }
}

#[cfg(target_os = "linux")]
impl Timer {
    /// A timer of this poll.
    pub fn new(poll: &Poll) -> io::Result<Timer> {
        use rustix::time::{TimerfdClockId, TimerfdFlags, timerfd_create};
        use std::os::fd::AsRawFd;
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let descriptor = timerfd_create(TimerfdClockId::Monotonic, flags)?;
        let raw = descriptor.as_raw_fd();
        let mut source = mio::unix::SourceFd(&raw);
        poll.registry().register(&mut source, TIMER, mio::Interest::READABLE)?;
        Ok(Timer { descriptor, set_to_ns: None })
    }

    fn set(&self, wait: Duration) -> io::Result<()> {
        use rustix::time::{Itimerspec, TimerfdTimerFlags, Timespec, timerfd_settime};
        let never = Timespec { tv_sec: 0, tv_nsec: 0 };
        let at = Timespec {
            tv_sec: i64::try_from(wait.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(wait.subsec_nanos()),
        };
        let once = Itimerspec { it_interval: never, it_value: at };
        timerfd_settime(&self.descriptor, TimerfdTimerFlags::empty(), &once)?;
        Ok(())
    }

    /// The timer comes first.
    fn asleep(wait: Duration) -> Duration {
        wait + POLL_SLACK
    }
}

#[cfg(not(target_os = "linux"))]
impl Timer {
    /// A timer of this poll.
    pub fn new(_poll: &Poll) -> io::Result<Timer> {
        Ok(Timer { set_to_ns: None })
    }

    fn set(&self, _wait: Duration) -> io::Result<()> {
        Ok(())
    }

    fn asleep(wait: Duration) -> Duration {
        wait.saturating_sub(2 * POLL_SLACK)
    }
}
