//! The heartbeat rounds that a node has started: their numbers, and when the newest ones began.
//! A lease counts from before the round was sent, so the moment of the answer is of no use.

use alloc::collections::VecDeque;

/// Rounds whose beginnings are remembered. Rounds for reads may start with every turn; the answer
/// to a forgotten one still confirms the leader for its reads, and renews no lease.
const ROUNDS_MAX: usize = 1024;

/// The rounds of one node, which count for all groups that it leads.
#[derive(Debug, Default)]
pub struct Rounds {
    newest: u64,
    /// When the newest ones began, in microseconds of the monotonic clock; the last is `newest`.
    started_us: VecDeque<u64>,
}

impl Rounds {
    /// A round begins now: nothing of it has been sent yet.
    pub fn start(&mut self, now_us: u64) {
        self.newest += 1;
        self.started_us.push_back(now_us);
        if self.started_us.len() > ROUNDS_MAX {
            self.started_us.pop_front();
        }
    }

    /// The newest round's number, from 1; 0 before the first.
    pub fn newest(&self) -> u64 {
        self.newest
    }

    /// When a round began; `None` if that is forgotten, or if there was none of this number.
    pub fn started_us(&self, round: u64) -> Option<u64> {
        let back = usize::try_from(self.newest.checked_sub(round)?).ok()?;
        let place = self.started_us.len().checked_sub(back + 1)?;
        self.started_us.get(place).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_rounds_know_when_they_began() {
        let mut rounds = Rounds::default();
        assert_eq!(rounds.started_us(0), None);
        for number in 1..=ROUNDS_MAX as u64 + 2 {
            rounds.start(10 * number);
        }
        assert_eq!(rounds.newest(), ROUNDS_MAX as u64 + 2);
        assert_eq!(rounds.started_us(rounds.newest()), Some(10 * rounds.newest()));
        assert_eq!(rounds.started_us(3), Some(30));
        assert_eq!(rounds.started_us(2), None, "forgotten");
        assert_eq!(rounds.started_us(rounds.newest() + 1), None, "not begun");
        assert_eq!(rounds.started_us(u64::MAX), None);
    }
}
