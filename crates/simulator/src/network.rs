//! The network between nodes: a frame is lost, late, repeated, overtaken or damaged, links are cut
//! or clogged, and what an earlier process sent may come long after its time.

use crate::streams::Streams;
use replication::NodeId;
use replication::random::Random;
use std::collections::VecDeque;
use std::rc::Rc;

/// So many frames are kept back for later at most; older ones are forgotten.
const KEPT_BACK_MAX: usize = 24;

/// So many frames in a hundred break the connection that they are sent over, at most.
const STREAM_LOSS_PERCENT_MAX: u64 = 2;

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
    /// Of a thousand frames, those that arrive damaged: a bit is flipped, or the end is missing.
    pub damage_per_mille: u64,
    /// Frames of which a copy is kept back, to arrive when nobody expects it any more.
    pub keep_back_percent: u64,
    /// Frames go over connections (`streams.rs`): what is lost or damaged breaks one.
    pub streams: bool,
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
            damage_per_mille: 0,
            keep_back_percent: 0,
            streams: false,
        }
    }

    /// The same weather for connections: they repeat what is lost, so that few of them break, and
    /// nobody hears what was said twice.
    pub fn over_streams(self) -> Weather {
        let loss_percent = self.loss_percent.min(STREAM_LOSS_PERCENT_MAX);
        let (repeat_percent, keep_back_percent) = (0, 0);
        Weather { loss_percent, repeat_percent, keep_back_percent, streams: true, ..self }
    }
}

/// All links between the nodes of a cluster. There is no order, every frame finds its own way; but
/// where they are streams.
#[derive(Clone, Debug)]
pub struct Network {
    nodes: usize,
    /// What has cut each link, by the name under which it is counted.
    cut: Vec<Option<&'static str>>,
    /// Until when what is sent over a link is held up.
    clogged_until_us: Vec<u64>,
    readers: Vec<Reader>,
    /// How many frames were sent over each link, and the newest of them that has arrived.
    sent: Vec<u64>,
    arrived: Vec<u64>,
    kept_back: VecDeque<KeptBack>,
    /// The connections, where there are any.
    pub streams: Option<Streams>,
    /// How bad it is.
    pub weather: Weather,
}

/// How quickly what comes over a link is read, where that takes time.
#[derive(Clone, Copy, Debug, Default)]
struct Reader {
    us_per_byte: u64,
    until_us: u64,
    /// When it has read what it was sent.
    free_at_us: u64,
}

/// How a frame gets to the other end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Way {
    /// How long it takes.
    pub delay_us: u64,
    /// It takes far longer than others.
    pub held_up: bool,
    /// The same frame has gone before.
    pub again: bool,
}

/// A link that is cut by nothing that is counted by its own name.
const CUT: &str = "link cut";

/// A frame, the node that sent it and the one that it is for.
pub type KeptBack = (NodeId, NodeId, Rc<Vec<u8>>);

impl Network {
    /// A network of so many nodes, with all links whole.
    pub fn new(nodes: usize, weather: Weather) -> Network {
        Network {
            nodes,
            cut: vec![None; nodes * nodes],
            clogged_until_us: vec![0; nodes * nodes],
            readers: vec![Reader::default(); nodes * nodes],
            sent: vec![0; nodes * nodes],
            arrived: vec![0; nodes * nodes],
            kept_back: VecDeque::new(),
            streams: weather.streams.then(|| Streams::new(nodes)),
            weather,
        }
    }

    fn place(&self, from: NodeId, to: NodeId) -> usize {
        usize::from(from.0) * self.nodes + usize::from(to.0)
    }

    /// Cuts or mends the link from one node to another, in this direction only.
    pub fn set_cut(&mut self, from: NodeId, to: NodeId, cut: bool) {
        self.set_cut_by(from, to, cut.then_some(CUT));
    }

    /// The same, with the name of what cuts it.
    pub fn set_cut_by(&mut self, from: NodeId, to: NodeId, by: Option<&'static str>) {
        let place = self.place(from, to);
        if let Some(link) = self.cut.get_mut(place) {
            *link = by;
        }
    }

    /// What has cut the way from one node to another.
    pub fn cut_by(&self, from: NodeId, to: NodeId) -> Option<&'static str> {
        self.cut.get(self.place(from, to)).copied().unwrap_or(Some(CUT))
    }

    /// Whether nothing gets from one node to another.
    pub fn is_cut(&self, from: NodeId, to: NodeId) -> bool {
        self.cut_by(from, to).is_some()
    }

    /// Until a moment, what comes over a link is read slowly: frames queue up in front of it. Then
    /// all of them are read.
    pub fn read_slowly(&mut self, from: NodeId, to: NodeId, us_per_byte: u64, until_us: u64) {
        let place = self.place(from, to);
        if let Some(reader) = self.readers.get_mut(place) {
            *reader = Reader { us_per_byte, until_us, free_at_us: reader.free_at_us };
        }
    }

    /// When a frame of so many bytes that sets out now is read, if that takes time.
    pub fn read_at(&mut self, from: NodeId, to: NodeId, bytes: usize, now_us: u64) -> Option<u64> {
        let place = self.place(from, to);
        let reader = self.readers.get_mut(place).filter(|reader| now_us < reader.until_us)?;
        let takes_us = reader.us_per_byte.saturating_mul(bytes as u64);
        reader.free_at_us = reader.free_at_us.max(now_us).saturating_add(takes_us);
        Some(reader.free_at_us.min(reader.until_us))
    }

    /// The number of a frame that is sent now.
    pub fn number(&mut self, from: NodeId, to: NodeId) -> u64 {
        let place = self.place(from, to);
        let Some(sent) = self.sent.get_mut(place) else { return 0 };
        *sent += 1;
        *sent
    }

    /// A frame arrives; whether one that was sent after it has come before.
    pub fn is_overtaken(&mut self, from: NodeId, to: NodeId, number: u64) -> bool {
        let place = self.place(from, to);
        let Some(newest) = self.arrived.get_mut(place) else { return false };
        let overtaken = number < *newest;
        *newest = number.max(*newest);
        overtaken
    }

    /// Holds up what is sent over a link until a moment: nothing is lost, all of it is late.
    pub fn clog(&mut self, from: NodeId, to: NodeId, until_us: u64) {
        let place = self.place(from, to);
        if let Some(link) = self.clogged_until_us.get_mut(place) {
            *link = until_us;
        }
    }

    /// When what is sent over a link now sets out.
    pub fn sets_out(&self, from: NodeId, to: NodeId, now_us: u64) -> u64 {
        let place = self.place(from, to);
        self.clogged_until_us.get(place).map_or(now_us, |until| now_us.max(*until))
    }

    /// Keeps back a copy of a frame, now and then.
    pub fn keep_back(
        &mut self,
        from: NodeId,
        to: NodeId,
        frame: &Rc<Vec<u8>>,
        random: &mut Random,
    ) {
        if self.weather.keep_back_percent > 0 && random.chance(self.weather.keep_back_percent) {
            self.kept_back.push_back((from, to, Rc::clone(frame)));
            if self.kept_back.len() > KEPT_BACK_MAX {
                self.kept_back.pop_front();
            }
        }
    }

    /// What was kept back comes free.
    pub fn take_kept_back(&mut self) -> Vec<KeptBack> {
        self.kept_back.drain(..).collect()
    }

    /// The frame as it arrives, if it is damaged on its way.
    pub fn damage(&self, frame: &[u8], random: &mut Random) -> Option<Vec<u8>> {
        let per_mille = self.weather.damage_per_mille;
        if per_mille == 0 || random.range(0, 1000) >= per_mille {
            return None;
        }
        let mut damaged = frame.to_vec();
        let place = random.range(0, frame.len() as u64) as usize;
        if random.chance(20) {
            damaged.truncate(place);
        } else if let Some(byte) = damaged.get_mut(place) {
            *byte ^= 1 << random.range(0, 8);
        }
        Some(damaged)
    }

    /// Whether no link is cut.
    pub fn is_whole(&self) -> bool {
        self.cut.iter().all(Option::is_none)
    }

    /// Mends all links; what is held up stays late.
    pub fn heal(&mut self) {
        self.cut.fill(None);
        self.clogged_until_us.fill(0);
        self.readers.fill(Reader::default());
    }

    /// How a frame that is sent now arrives: not at all, once or twice.
    pub fn ways(&self, from: NodeId, to: NodeId, random: &mut Random) -> Vec<Way> {
        let weather = &self.weather;
        let mut ways = Vec::new();
        if self.is_cut(from, to) || random.chance(weather.loss_percent) {
            return ways;
        }
        ways.push(self.way(random));
        if random.chance(weather.repeat_percent) {
            let way = self.way(random);
            let later_us = random.range(0, weather.repeat_late_us.max(1));
            ways.push(Way { delay_us: way.delay_us + later_us, again: true, ..way });
        }
        ways
    }

    fn way(&self, random: &mut Random) -> Way {
        let weather = &self.weather;
        let delay_us = weather.delay_min_us + exponential(random, weather.delay_mean_us);
        let held_up = random.chance(weather.spike_percent);
        let more_us = if held_up { random.range(0, weather.spike_us.max(1)) } else { 0 };
        Way { delay_us: delay_us + more_us, held_up, again: false }
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
        assert!(network.ways(NodeId(0), NodeId(1), &mut random).is_empty());
        assert_eq!(network.ways(NodeId(1), NodeId(0), &mut random).len(), 1);
        assert!(!network.is_whole());
        network.heal();
        assert_eq!(network.ways(NodeId(0), NodeId(1), &mut random).len(), 1);
    }

    #[test]
    fn bad_weather_loses_and_repeats() {
        let weather = Weather { loss_percent: 30, repeat_percent: 30, ..Weather::calm() };
        let network = Network::new(2, weather);
        let mut random = Random::new(7);
        let mut counts = [0; 3];
        for _ in 0..1000 {
            counts[network.ways(NodeId(0), NodeId(1), &mut random).len()] += 1;
        }
        assert!(counts[0] > 200 && counts[2] > 100, "{counts:?}");
    }

    #[test]
    fn a_clogged_link_loses_nothing_and_is_late() {
        let mut network = Network::new(2, Weather::calm());
        network.clog(NodeId(0), NodeId(1), 700);
        assert_eq!(network.sets_out(NodeId(0), NodeId(1), 500), 700);
        assert_eq!(network.sets_out(NodeId(0), NodeId(1), 800), 800);
        assert_eq!(network.sets_out(NodeId(1), NodeId(0), 500), 500);
        assert!(network.is_whole());
    }

    #[test]
    fn what_a_slow_reader_gets_queues_up_until_it_is_quick_again() {
        let mut network = Network::new(2, Weather::calm());
        network.read_slowly(NodeId(0), NodeId(1), 10, 5_000);
        let mut read_at = |bytes, now_us| network.read_at(NodeId(0), NodeId(1), bytes, now_us);
        assert_eq!(read_at(100, 1_000), Some(2_000));
        assert_eq!(read_at(100, 1_500), Some(3_000));
        assert_eq!(read_at(100, 4_000), Some(5_000));
        assert_eq!(read_at(900, 4_500), Some(5_000), "then all is read at once");
        assert_eq!(read_at(100, 5_000), None);
        assert_eq!(network.read_at(NodeId(1), NodeId(0), 100, 1_000), None);
    }

    #[test]
    fn a_frame_is_overtaken_by_one_that_was_sent_later() {
        let mut network = Network::new(2, Weather::calm());
        let (from, to) = (NodeId(0), NodeId(1));
        let [first, second, third] = [(); 3].map(|()| network.number(from, to));
        assert!(!network.is_overtaken(from, to, second));
        assert!(network.is_overtaken(from, to, first));
        assert!(!network.is_overtaken(from, to, third));
    }

    #[test]
    fn a_damaged_frame_is_another_one() {
        let weather = Weather { damage_per_mille: 500, ..Weather::calm() };
        let network = Network::new(2, weather);
        let mut random = Random::new(5);
        let frame = [7; 50];
        let damaged = (0..100).filter_map(|_| network.damage(&frame, &mut random));
        let damaged: Vec<_> = damaged.inspect(|bytes| assert_ne!(bytes, &frame)).collect();
        assert!((20..80).contains(&damaged.len()), "{}", damaged.len());
    }

    #[test]
    fn the_exponential_has_its_mean() {
        let mut random = Random::new(3);
        let sum: u64 = (0..10_000).map(|_| exponential(&mut random, 1000)).sum();
        assert!((8_000_000..12_000_000).contains(&sum), "{sum}");
    }
}
