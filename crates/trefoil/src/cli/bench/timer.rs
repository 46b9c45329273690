//! Waking up at a moment: `epoll_wait` alone counts in milliseconds, which is far too coarse for a
//! schedule of thousands of requests a second.

use mio::{Events, Poll, Token};
use std::io;
use std::time::Duration;

/// The timer's own events, which say nothing.
pub const TIMER: Token = Token(usize::MAX);

/// What is nearer than this is waited for awake: to sleep costs about as much.
const AWAKE_BELOW: Duration = Duration::from_micros(30);

/// A timer that wakes a poll up.
pub struct Timer {
    #[cfg(target_os = "linux")]
    descriptor: std::os::fd::OwnedFd,
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
        Ok(Timer { descriptor })
    }

    /// Waits for events, to the microsecond.
    pub fn poll(&self, poll: &mut Poll, events: &mut Events, wait: Duration) -> io::Result<()> {
        use rustix::time::{Itimerspec, TimerfdTimerFlags, Timespec, timerfd_settime};
        if wait < AWAKE_BELOW {
            return poll.poll(events, Some(Duration::ZERO));
        }
        let never = Timespec { tv_sec: 0, tv_nsec: 0 };
        let at = Timespec {
            tv_sec: i64::try_from(wait.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(wait.subsec_nanos()),
        };
        let once = Itimerspec { it_interval: never, it_value: at };
        timerfd_settime(&self.descriptor, TimerfdTimerFlags::empty(), &once)?;
        // Rounded up to milliseconds, so that it never comes before the timer.
        poll.poll(events, Some(wait + Duration::from_millis(1)))
    }
}

#[cfg(not(target_os = "linux"))]
impl Timer {
    /// A timer of this poll.
    pub fn new(_poll: &Poll) -> io::Result<Timer> {
        Ok(Timer {})
    }

    /// Waits for events; the last two milliseconds are waited for awake.
    pub fn poll(&self, poll: &mut Poll, events: &mut Events, wait: Duration) -> io::Result<()> {
        let asleep = wait.saturating_sub(Duration::from_millis(2)).max(AWAKE_BELOW) - AWAKE_BELOW;
        poll.poll(events, Some(asleep))
    }
}
