//! This process's clocks.
//!
//! The core's monotonic clock goes on while the machine sleeps (`CLOCK_BOOTTIME`, where Rust's
//! `Instant` stands still): the others do not wait for a machine that is asleep, and its leases
//! must not be there any more when it wakes up.

use replication::Time;
use rustix::time::{ClockId, clock_gettime};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

#[cfg(target_os = "linux")]
const MONOTONIC: ClockId = ClockId::Boottime;
#[cfg(not(target_os = "linux"))]
const MONOTONIC: ClockId = ClockId::Monotonic;

/// The clocks, from the process's start on.
#[derive(Clone, Copy)]
pub struct Clock {
    start: Duration,
}

impl Clock {
    /// Starts to count.
    pub fn new() -> Clock {
        Clock { start: monotonic() }
    }

    /// This moment as the core sees it.
    pub fn time(&self) -> Time {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Time { monotonic_us: self.elapsed_us(), wall_ms: wall.as_millis() as u64 }
    }

    fn elapsed_us(&self) -> u64 {
        monotonic().saturating_sub(self.start).as_micros() as u64
    }
}

/// The core's deadline as a moment to wait for, if the machine stays awake; `None` if no
/// clock will ever show it. `time` and `now` are the same moment on both clocks.
pub(super) fn moment(deadline_us: u64, time: Time, now: Instant) -> Option<Instant> {
    now.checked_add(Duration::from_micros(deadline_us.saturating_sub(time.monotonic_us)))
}

fn monotonic() -> Duration {
    let time = clock_gettime(MONOTONIC);
    let (seconds, nanoseconds) = (u64::try_from(time.tv_sec), u32::try_from(time.tv_nsec));
    Duration::new(seconds.unwrap_or(0), nanoseconds.unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_is_where_the_clock_will_be() {
        let clock = Clock::new();
        let (time, now) = (clock.time(), Instant::now());
        let in_a_minute = moment(time.monotonic_us + 60_000_000, time, now);
        assert_eq!(in_a_minute, Some(now + Duration::from_secs(60)));
        assert_eq!(moment(0, time, now), Some(now), "what is past is due now");
        let never = moment(u64::MAX, time, now);
        assert!(never.is_none_or(|never| never > now + Duration::from_secs(86_400)));
        assert!(clock.time().monotonic_us >= time.monotonic_us);
    }
}
