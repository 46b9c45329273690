//! The network between nodes: a frame is lost, late, repeated or overtaken, and links are cut.

use replication::NodeId;
use replication::random::Random;

/// How bad the network is. Percentages are of frames.
#[derive(Clone, Debug)]
pub struct Weather {
    /// Frames that never arrive.
    pub loss_percent: u64,
    /// Frames that arrive a second time.
    pub repeat_percent: u64,
    /// Up to how much later the second one comes.
    pub repeat_late_us: u64,
    /// The shortest way.
    pub delay_min_us: u64,
    /// What the exponential part of a delay is on average.
    pub delay_mean_us: u64,
    /// Frames that are held up.
    pub spike_percent: u64,
    /// Up to how long.
    pub spike_us: u64,
}

impl Weather {
    /// Nothing is lost or repeated; a frame takes about a third of a millisecond.
    pub fn calm() -> Weather {
        Weather {
            loss_percent: 0,
            repeat_percent: 0,
            repeat_late_us: 0,
            delay_min_us: 200,
            delay_mean_us: 100,
            spike_percent: 0,
            spike_us: 0,
        }
    }
}

/// All links between the nodes of a cluster. There is no order: every frame finds its own way.
#[derive(Clone, Debug)]
pub struct Network {
    nodes: usize,
    cut: Vec<bool>,
    /// How bad it is.
    pub weather: Weather,
}

impl Network {
    /// A network of so many nodes, with all links whole.
    pub fn new(nodes: usize, weather: Weather) -> Network {
        Network { nodes, cut: vec![false; nodes * nodes], weather }
    }

    /// Cuts or mends the link from one node to another, in this direction only.
    pub fn set_cut(&mut self, from: NodeId, to: NodeId, cut: bool) {
        let place = usize::from(from.0) * self.nodes + usize::from(to.0);
        if let Some(link) = self.cut.get_mut(place) {
            *link = cut;
        }
    }

    /// Whether nothing gets from one node to another.
    pub fn is_cut(&self, from: NodeId, to: NodeId) -> bool {
        let place = usize::from(from.0) * self.nodes + usize::from(to.0);
        self.cut.get(place).copied().unwrap_or(true)
    }

    /// Whether no link is cut.
    pub fn is_whole(&self) -> bool {
        !self.cut.iter().any(|cut| *cut)
    }

    /// Mends all links.
    pub fn heal(&mut self) {
        self.cut.fill(false);
    }

    /// After which delays a frame that is sent now arrives: not at all, once or twice.
    pub fn delays(&self, from: NodeId, to: NodeId, random: &mut Random) -> Vec<u64> {
        let weather = &self.weather;
        let mut delays = Vec::new();
        if self.is_cut(from, to) || random.chance(weather.loss_percent) {
            return delays;
        }
        delays.push(self.delay(random));
        if random.chance(weather.repeat_percent) {
            delays.push(self.delay(random) + random.range(0, weather.repeat_late_us.max(1)));
        }
        delays
    }

    fn delay(&self, random: &mut Random) -> u64 {
        let weather = &self.weather;
        let mut delay = weather.delay_min_us + exponential(random, weather.delay_mean_us);
        if random.chance(weather.spike_percent) {
            delay += random.range(0, weather.spike_us.max(1));
        }
        delay
    }
}

/// A number from about an exponential distribution, in whole numbers so that every machine
/// agrees: as many halvings as a coin shows heads, and a part of the next one.
pub fn exponential(random: &mut Random, mean: u64) -> u64 {
    const HALF_LIFE_PER_MILLE: u64 = 693;
    let heads = u64::from(random.next_u64().trailing_zeros().min(12));
    let part = random.range(0, 1000);
    mean * HALF_LIFE_PER_MILLE / 1000 * (heads * 1000 + part) / 1000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_link_is_cut_in_one_direction() {
        let mut network = Network::new(2, Weather::calm());
        let mut random = Random::new(1);
        network.set_cut(NodeId(0), NodeId(1), true);
        assert!(network.delays(NodeId(0), NodeId(1), &mut random).is_empty());
        assert_eq!(network.delays(NodeId(1), NodeId(0), &mut random).len(), 1);
        assert!(!network.is_whole());
        network.heal();
        assert_eq!(network.delays(NodeId(0), NodeId(1), &mut random).len(), 1);
    }

    #[test]
    fn bad_weather_loses_and_repeats() {
        let weather = Weather { loss_percent: 30, repeat_percent: 30, ..Weather::calm() };
        let network = Network::new(2, weather);
        let mut random = Random::new(7);
        let mut counts = [0; 3];
        for _ in 0..1000 {
            counts[network.delays(NodeId(0), NodeId(1), &mut random).len()] += 1;
        }
        assert!(counts[0] > 200 && counts[2] > 100, "{counts:?}");
    }

    #[test]
    fn the_exponential_has_its_mean() {
        let mut random = Random::new(3);
        let sum: u64 = (0..10_000).map(|_| exponential(&mut random, 1000)).sum();
        assert!((8_000_000..12_000_000).contains(&sum), "{sum}");
    }
}
