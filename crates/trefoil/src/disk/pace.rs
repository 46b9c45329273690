//! How long the disk takes for a write, lately: who waits for it goes by this.

use std::time::Duration;

/// A disk is quick while its writes take less than this on average ...
const QUICK_US_MAX: u64 = 1_000;
/// ... in which the newest write has this share ...
const SAMPLES: u64 = 8;
/// ... and a longer one counts as so much: a single one says little of the next.
const SAMPLE_US_MAX: u64 = 4_000;

/// The average.
#[derive(Clone, Copy, Default, Debug)]
pub struct Pace {
    write_us: u64,
}

impl Pace {
    /// A write has taken so long.
    pub fn note(&mut self, took: Duration) {
        let took_us = took.as_micros().min(SAMPLE_US_MAX.into()) as u64;
        self.write_us = (self.write_us * (SAMPLES - 1) + took_us) / SAMPLES;
    }

    /// Whether the next write is expected to be short.
    pub fn is_quick(&self) -> bool {
        self.write_us < QUICK_US_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_long_write_says_little_and_several_say_that_the_disk_is_slow() {
        let mut pace = Pace::default();
        let writes_until = |pace: &mut Pace, quick: bool, ms: u64| {
            let note = |_: &u32| {
                pace.note(Duration::from_millis(ms));
                pace.is_quick() == quick
            };
            (1..100).find(note)
        };
        assert_eq!(writes_until(&mut pace, true, 0), Some(1));
        pace.note(Duration::from_secs(60));
        assert!(pace.is_quick());
        assert_eq!(writes_until(&mut pace, false, 60_000), Some(2));
        assert_eq!(writes_until(&mut pace, true, 0), Some(3));
        // A disk that takes 2 ms each time is slow, however often it is asked.
        assert_eq!(writes_until(&mut pace, false, 2), Some(1));
        assert_eq!(writes_until(&mut pace, true, 2), None);
    }
}
