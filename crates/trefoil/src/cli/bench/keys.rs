//! Which key is next: the distributions, and the chance behind them.

/// Marsaglia and Vigna's SplitMix64: the same numbers from the same seed, at a nanosecond each.
#[derive(Clone, Debug)]
pub struct Chance {
    state: u64,
}

impl Chance {
    /// Chance from a seed.
    pub fn new(seed: u64) -> Chance {
        Chance { state: seed }
    }

    /// All 64-bit numbers alike.
    pub fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end`, all alike (the bias of 2^-64 times `end` is of no interest here).
    pub fn below(&mut self, end: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(end)) >> 64) as u64
    }

    /// From 0 up to and without 1.
    fn fraction(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// How often which key is used.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Distribution {
    /// Each key alike.
    Uniform,
    /// The key of rank r in proportion to 1 / r^theta; key 0 is the most popular.
    Zipfian(f64),
    /// One after another, and again from the first.
    Sequential,
}

/// Draws keys by number.
#[derive(Clone, Debug)]
pub struct Keys {
    count: u64,
    draw: Draw,
}

#[derive(Clone, Debug)]
enum Draw {
    Uniform,
    Zipfian(Zipfian),
    Sequential { next: u64 },
}

impl Keys {
    /// Keys 0 to `count` - 1; at least one.
    pub fn new(distribution: Distribution, count: u64) -> Keys {
        let count = count.max(1);
        let draw = match distribution {
            Distribution::Uniform => Draw::Uniform,
            Distribution::Zipfian(theta) => Draw::Zipfian(Zipfian::new(count, theta)),
            Distribution::Sequential => Draw::Sequential { next: 0 },
        };
        Keys { count, draw }
    }

    /// The next key's number.
    pub fn next(&mut self, chance: &mut Chance) -> u64 {
        match &mut self.draw {
            Draw::Uniform => chance.below(self.count),
            Draw::Zipfian(zipfian) => zipfian.next(chance),
            Draw::Sequential { next } => {
                let key = *next;
                *next = if key + 1 == self.count { 0 } else { key + 1 };
                key
            }
        }
    }
}

/// Rejection-inversion sampling (Hörmann and Derflinger 1996, "Rejection-inversion to generate
/// variates from monotone discrete distributions"): no table, for any number of keys, any theta.
#[derive(Clone, Debug)]
struct Zipfian {
    count: f64,
    theta: f64,
    /// The integral of the density up to the first key's end, and up to the last one's.
    first: f64,
    last: f64,
    /// A drawn place so near to its key is taken without another look.
    near: f64,
}

impl Zipfian {
    fn new(count: u64, theta: f64) -> Zipfian {
        let count = count as f64;
        let mut zipfian = Zipfian { count, theta, first: 0.0, last: 0.0, near: 0.0 };
        zipfian.first = zipfian.integral(1.5) - 1.0;
        zipfian.last = zipfian.integral(count + 0.5);
        zipfian.near = 2.0 - zipfian.inverse(zipfian.integral(2.5) - zipfian.density(2.0));
        zipfian
    }

    fn next(&self, chance: &mut Chance) -> u64 {
        loop {
            let drawn = self.last + chance.fraction() * (self.first - self.last);
            let place = self.inverse(drawn);
            let rank = (place + 0.5).floor().clamp(1.0, self.count);
            let taken = rank - place <= self.near
                || drawn >= self.integral(rank + 0.5) - self.density(rank);
            if taken {
                return rank as u64 - 1;
            }
        }
    }

    fn density(&self, place: f64) -> f64 {
        (-self.theta * place.ln()).exp()
    }

    fn integral(&self, place: f64) -> f64 {
        let logarithm = place.ln();
        exponential_slope((1.0 - self.theta) * logarithm) * logarithm
    }

    fn inverse(&self, integral: f64) -> f64 {
        let bent = (integral * (1.0 - self.theta)).max(-1.0);
        (logarithm_slope(bent) * integral).exp()
    }
}

/// `(e^x - 1) / x`, which is 1 at 0, where theta is 1.
fn exponential_slope(x: f64) -> f64 {
    if x.abs() > 1e-8 { x.exp_m1() / x } else { 1.0 + x / 2.0 }
}

/// `ln(1 + x) / x`, which is 1 at 0.
fn logarithm_slope(x: f64) -> f64 {
    if x.abs() > 1e-8 { x.ln_1p() / x } else { 1.0 - x / 2.0 }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::indexing_slicing)]
    use super::*;

    fn counts(distribution: Distribution, keys: u64, draws: u64) -> Vec<u64> {
        let (mut chance, mut keys) = (Chance::new(7), Keys::new(distribution, keys));
        let mut counts = vec![0; keys.count as usize];
        for _ in 0..draws {
            counts[keys.next(&mut chance) as usize] += 1;
        }
        counts
    }

    #[test]
    fn the_same_seed_draws_the_same_keys() {
        for distribution in [Distribution::Uniform, Distribution::Zipfian(0.99)] {
            let draw = |seed| {
                let (mut chance, mut keys) = (Chance::new(seed), Keys::new(distribution, 1000));
                (0..100).map(|_| keys.next(&mut chance)).collect::<Vec<_>>()
            };
            assert_eq!(draw(1), draw(1));
            assert_ne!(draw(1), draw(2));
        }
        // SplitMix64's published first numbers from seed 1234567.
        let mut chance = Chance::new(1_234_567);
        assert_eq!(chance.next(), 6_457_827_717_110_365_317);
        assert_eq!(chance.next(), 3_203_168_211_198_807_973);
    }

    #[test]
    fn uniform_keys_come_alike_often() {
        let counts = counts(Distribution::Uniform, 10, 100_000);
        assert!(counts.iter().all(|count| (9_500..10_500).contains(count)), "{counts:?}");
    }

    #[test]
    fn zipfian_keys_come_by_their_rank() {
        for theta in [0.5, 0.99, 1.0, 1.5] {
            let (keys, draws) = (100u64, 200_000u64);
            let counts = counts(Distribution::Zipfian(theta), keys, draws);
            let weight = |rank: u64| (rank as f64).powf(-theta);
            let sum: f64 = (1..=keys).map(weight).sum();
            for rank in [1u64, 2, 3, 10, 100] {
                let expected = draws as f64 * weight(rank) / sum;
                let got = counts[rank as usize - 1] as f64;
                // Six standard deviations.
                let slack = 6.0 * expected.sqrt();
                assert!((got - expected).abs() < slack, "{theta} {rank}: {got}, not {expected}");
            }
        }
    }

    #[test]
    fn zipfian_stays_inside_few_and_very_many_keys() {
        let mut chance = Chance::new(3);
        for count in [1, 2, 1 << 40] {
            let mut keys = Keys::new(Distribution::Zipfian(0.99), count);
            assert!((0..10_000).all(|_| keys.next(&mut chance) < count));
        }
    }

    #[test]
    fn sequential_keys_begin_again_after_the_last() {
        let (mut chance, mut keys) = (Chance::new(0), Keys::new(Distribution::Sequential, 3));
        let drawn: Vec<u64> = (0..7).map(|_| keys.next(&mut chance)).collect();
        assert_eq!(drawn, [0, 1, 2, 0, 1, 2, 0]);
    }
}
