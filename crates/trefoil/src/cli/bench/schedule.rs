//! The arithmetic of the open loop: request i of R a second is due i/R seconds after the start,
//! whatever became of the others.

const NS_PER_SECOND: u128 = 1_000_000_000;

/// When requests are due, in nanoseconds from the start.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Schedule {
    rate: u64,
    total: u64,
}

impl Schedule {
    /// `rate` requests a second (at least one), `total` in all.
    pub fn of_requests(rate: u64, total: u64) -> Schedule {
        Schedule { rate: rate.max(1), total }
    }

    /// All that are due before so long is over.
    pub fn of_duration(rate: u64, duration_ns: u64) -> Schedule {
        let rate = rate.max(1);
        let total = (u128::from(duration_ns) * u128::from(rate)).div_ceil(NS_PER_SECOND);
        Schedule { rate, total: u64::try_from(total).unwrap_or(u64::MAX) }
    }

    /// All requests.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// When a request is due; the first is number 0.
    pub fn due_ns(&self, number: u64) -> u64 {
        let due = (u128::from(number) * NS_PER_SECOND).div_ceil(u128::from(self.rate));
        u64::try_from(due).unwrap_or(u64::MAX)
    }

    /// How many have become due up to a moment.
    pub fn due_until(&self, now_ns: u64) -> u64 {
        let due = u128::from(now_ns) * u128::from(self.rate) / NS_PER_SECOND + 1;
        u64::try_from(due).unwrap_or(u64::MAX).min(self.total)
    }

    /// When the last one is due.
    pub fn end_ns(&self) -> u64 {
        self.due_ns(self.total.saturating_sub(1))
    }
}

/// How many requests the next of the free connections sends at once: all alike, one if they can.
pub fn share(due: u64, free: usize, pipeline: usize) -> usize {
    let fair = due.div_ceil((free as u64).max(1));
    usize::try_from(fair).unwrap_or(usize::MAX).min(pipeline)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_due_one_after_another_without_drift() {
        let schedule = Schedule::of_requests(3, 10);
        let due: Vec<u64> = (0..4).map(|number| schedule.due_ns(number)).collect();
        assert_eq!(due, [0, 333_333_334, 666_666_667, 1_000_000_000]);
        // After a day at an odd rate the schedule is still exact.
        let schedule = Schedule::of_requests(777_777, u64::MAX);
        assert_eq!(schedule.due_ns(777_777 * 86_400), 86_400_000_000_000);
    }

    #[test]
    fn a_request_is_due_at_its_moment_and_not_before() {
        for rate in [1, 3, 1_000, 777_777, 100_000_000] {
            let schedule = Schedule::of_requests(rate, u64::MAX);
            for number in [1, 2, 999, 1_000_003] {
                let due = schedule.due_ns(number);
                assert_eq!(schedule.due_until(due), number + 1, "{rate} {number}");
                assert_eq!(schedule.due_until(due - 1), number, "{rate} {number}");
            }
        }
    }

    #[test]
    fn a_duration_holds_its_rate() {
        let second = 1_000_000_000;
        assert_eq!(Schedule::of_duration(1_000, 10 * second).total(), 10_000);
        assert_eq!(Schedule::of_duration(1, second / 2).total(), 1);
        let schedule = Schedule::of_duration(1_000, second);
        assert_eq!(schedule.end_ns(), 999_000_000);
        assert_eq!(schedule.due_until(100 * second), 1_000);
    }

    #[test]
    fn batches_form_only_where_connections_are_few() {
        assert_eq!(share(10, 50, 16), 1);
        assert_eq!(share(100, 50, 16), 2);
        assert_eq!(share(100, 5, 16), 16);
        assert_eq!(share(1, 1, 1), 1);
    }
}
