//! A node's two clocks, as far from the truth as a seed wants them.

use replication::Time;

/// The true wall clock when a run starts, in milliseconds since 1970 (2026-01-01).
pub const WALL_START_MS: u64 = 1_767_225_600_000;
/// What the monotonic clock shows when a process starts.
const MONOTONIC_START_US: u64 = 1_000_000;
/// Monotonic clocks run at most so many millionths too fast or too slow: the bound that leases
/// reckon with (quartz without any correction stays within 100).
pub const DRIFT_PPM_MAX: i64 = 500;

/// The clocks of one node. True time is the simulation's virtual time, in microseconds.
#[derive(Clone, Debug, Default)]
pub struct Clock {
    /// Since when it runs at this rate, in true time, and what the monotonic clock showed then.
    since_us: u64,
    showed_us: u64,
    drift_ppm: i64,
    wall_offset_ms: i64,
    /// By what its wall was turned last, and how far off it was when the node last read it.
    turned_by: Option<&'static str>,
    read_offset_ms: i64,
}

impl Clock {
    /// A clock that runs `drift_ppm` millionths too fast and whose wall is off by so much.
    pub fn new(drift_ppm: i64, wall_offset_ms: i64) -> Clock {
        let showed_us = MONOTONIC_START_US;
        let (turned_by, read_offset_ms) = (None, wall_offset_ms);
        Clock { since_us: 0, showed_us, drift_ppm, wall_offset_ms, turned_by, read_offset_ms }
    }

    /// The process starts: its monotonic clock begins anew.
    pub fn restart(&mut self, at_us: u64) {
        self.since_us = at_us;
        self.showed_us = MONOTONIC_START_US;
    }

    /// From now on, the monotonic clock runs so many millionths too fast.
    pub fn set_drift(&mut self, at_us: u64, drift_ppm: i64) {
        self.showed_us = self.time(at_us).monotonic_us;
        self.since_us = at_us;
        self.drift_ppm = drift_ppm;
    }

    /// The monotonic clock stands still for so long, as some do while their machine is suspended.
    pub fn stop(&mut self, at_us: u64, for_us: u64) {
        self.showed_us = self.time(at_us).monotonic_us;
        self.since_us = at_us + for_us;
    }

    /// The wall clock is turned by something that is counted under this name.
    pub fn turn_by(&mut self, name: &'static str) {
        self.turned_by = Some(name);
    }

    /// The node reads it: by what its wall was turned since it last did, if it was.
    pub fn is_read(&mut self) -> Option<&'static str> {
        let before_ms = std::mem::replace(&mut self.read_offset_ms, self.wall_offset_ms);
        self.turned_by.take().filter(|_| before_ms != self.wall_offset_ms)
    }

    /// The wall clock jumps, forward or back.
    pub fn jump(&mut self, by_ms: i64) {
        self.wall_offset_ms = self.wall_offset_ms.saturating_add(by_ms);
    }

    /// The wall clock is set, so far off; 0 is right.
    pub fn set_wall(&mut self, offset_ms: i64) {
        self.wall_offset_ms = offset_ms;
    }

    /// What the node reads at a moment.
    pub fn time(&self, at_us: u64) -> Time {
        let elapsed = i128::from(at_us.saturating_sub(self.since_us));
        let drifted = elapsed + elapsed * i128::from(self.drift_ppm) / 1_000_000;
        let monotonic_us = self.showed_us + u64::try_from(drifted).unwrap_or(0);
        let wall_ms = (WALL_START_MS + at_us / 1000).saturating_add_signed(self.wall_offset_ms);
        Time { monotonic_us, wall_ms }
    }

    /// The first moment at which the node's monotonic clock shows at least so much.
    pub fn when(&self, monotonic_us: u64) -> u64 {
        let wanted = i128::from(monotonic_us.saturating_sub(self.showed_us));
        let elapsed = wanted * 1_000_000 / (1_000_000 + i128::from(self.drift_ppm)).max(1);
        let elapsed = u64::try_from(elapsed.max(0)).unwrap_or(u64::MAX);
        let mut at_us = self.since_us.saturating_add(elapsed).saturating_sub(1);
        // Integer division may be off by one or two either way.
        while at_us < u64::MAX && self.time(at_us).monotonic_us < monotonic_us {
            at_us += 1;
        }
        at_us
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn when_is_the_first_moment_that_time_reaches() {
        for drift in [-500, -3, 0, 7, 500] {
            let mut clock = Clock::new(drift, 0);
            clock.restart(123_456);
            for wanted in [1_000_001, 1_000_777, 2_000_000, 9_999_999] {
                let at = clock.when(wanted);
                assert!(clock.time(at).monotonic_us >= wanted, "{drift} {wanted}");
                assert!(clock.time(at - 2).monotonic_us < wanted, "{drift} {wanted}");
            }
        }
    }

    #[test]
    fn a_clock_whose_rate_changes_never_goes_back() {
        let mut clock = Clock::new(500, 0);
        clock.restart(10);
        let before = clock.time(2_000_010).monotonic_us;
        assert_eq!(before, 1_000_000 + 2_000_000 + 1_000);
        clock.set_drift(2_000_010, -500);
        assert_eq!(clock.time(2_000_010).monotonic_us, before);
        assert_eq!(clock.time(4_000_010).monotonic_us, before + 2_000_000 - 1_000);
        assert!(clock.time(clock.when(before + 777)).monotonic_us >= before + 777);
    }

    #[test]
    fn a_clock_that_stops_goes_on_where_it_was() {
        let mut clock = Clock::new(0, 0);
        let before = clock.time(5_000_000).monotonic_us;
        clock.stop(5_000_000, 700_000);
        assert_eq!(clock.time(5_699_999).monotonic_us, before);
        assert_eq!(clock.time(5_700_001).monotonic_us, before + 1);
        assert_eq!(clock.when(before + 1), 5_700_001);
    }

    #[test]
    fn a_node_sees_a_turn_of_its_wall_when_it_reads_it_and_once() {
        let mut clock = Clock::new(0, 0);
        clock.turn_by("jump");
        clock.jump(5);
        assert_eq!(clock.is_read(), Some("jump"));
        assert_eq!(clock.is_read(), None);
        clock.turn_by("to and fro");
        clock.jump(5);
        clock.jump(-5);
        assert_eq!(clock.is_read(), None);
    }

    #[test]
    fn a_jump_moves_the_wall_and_not_the_monotonic_clock() {
        let mut clock = Clock::new(0, 0);
        let before = clock.time(5_000_000);
        clock.jump(-60_000);
        let after = clock.time(5_000_000);
        assert_eq!(before.monotonic_us, after.monotonic_us);
        assert_eq!(before.wall_ms - 60_000, after.wall_ms);
    }
}
