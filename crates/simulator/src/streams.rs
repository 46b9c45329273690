//! Connections between nodes, as the server's links are: one for each pair, both ways. Its frames
//! arrive in their order, each once, or it is broken: then all of what is on its way is gone, what
//! an end says before it knows that goes nowhere, and each end hears of it before it hears
//! anything over the next connection.

use replication::NodeId;

/// The connections of all pairs.
#[derive(Clone, Debug)]
pub struct Streams {
    nodes: usize,
    /// The number of each pair's newest connection, at the place of the smaller node first.
    newest: Vec<u64>,
    /// Which of them each end knows of.
    known: Vec<u64>,
    /// When the newest frame of each direction arrives.
    arrives_us: Vec<u64>,
    /// Bytes of entries and of snapshots that are on their way in each direction.
    on_way: Vec<u64>,
}

impl Streams {
    /// All pairs are connected.
    pub fn new(nodes: usize) -> Streams {
        let all = vec![0; nodes * nodes];
        let [newest, known, arrives_us, on_way] = [(); 4].map(|()| all.clone());
        Streams { nodes, newest, known, arrives_us, on_way }
    }

    fn place(&self, one: NodeId, other: NodeId) -> usize {
        usize::from(one.0) * self.nodes + usize::from(other.0)
    }

    fn newest(&self, one: NodeId, other: NodeId) -> u64 {
        let place = self.place(one.min(other), one.max(other));
        self.newest.get(place).copied().unwrap_or(0)
    }

    /// The connection that a node speaks over; `None` where that is broken, and it does not know.
    pub fn speaks_over(&self, from: NodeId, to: NodeId) -> Option<u64> {
        let newest = self.newest(from, to);
        (self.known.get(self.place(from, to)) == Some(&newest)).then_some(newest)
    }

    /// Whether what was sent over a connection still arrives.
    pub fn is_whole(&self, one: NodeId, other: NodeId, connection: u64) -> bool {
        self.newest(one, other) == connection
    }

    /// When a frame arrives that would arrive then: not before the one ahead of it.
    pub fn in_order(&mut self, from: NodeId, to: NodeId, at_us: u64) -> u64 {
        let place = self.place(from, to);
        let Some(arrives_us) = self.arrives_us.get_mut(place) else { return at_us };
        *arrives_us = at_us.max(*arrives_us);
        *arrives_us
    }

    /// So many bytes of entries and of snapshots set out.
    pub fn set_out(&mut self, from: NodeId, to: NodeId, bytes: u64) {
        let place = self.place(from, to);
        if let Some(on_way) = self.on_way.get_mut(place) {
            *on_way += bytes;
        }
    }

    /// They have arrived.
    pub fn arrived(&mut self, from: NodeId, to: NodeId, bytes: u64) {
        let place = self.place(from, to);
        if let Some(on_way) = self.on_way.get_mut(place) {
            *on_way = on_way.saturating_sub(bytes);
        }
    }

    /// Bytes of entries and of snapshots that were sent and have not arrived.
    pub fn on_way(&self, from: NodeId, to: NodeId) -> u64 {
        self.on_way.get(self.place(from, to)).copied().unwrap_or(0)
    }

    /// The connection of two nodes breaks.
    pub fn break_off(&mut self, one: NodeId, other: NodeId) {
        let place = self.place(one.min(other), one.max(other));
        if let Some(newest) = self.newest.get_mut(place) {
            *newest += 1;
        }
        for place in [self.place(one, other), self.place(other, one)] {
            for numbers in [&mut self.arrives_us, &mut self.on_way] {
                if let Some(number) = numbers.get_mut(place) {
                    *number = 0;
                }
            }
        }
    }

    /// An end finds out that its connection is broken; whether that is news.
    pub fn learns(&mut self, at: NodeId, peer: NodeId) -> bool {
        let (newest, place) = (self.newest(at, peer), self.place(at, peer));
        let known = self.known.get_mut(place);
        known.is_some_and(|known| std::mem::replace(known, newest) != newest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENDS: (NodeId, NodeId) = (NodeId(2), NodeId(1));

    #[test]
    fn a_connection_keeps_its_order() {
        let (one, other) = ENDS;
        let mut streams = Streams::new(3);
        let arrive = [900, 300, 1_000].map(|at_us| streams.in_order(one, other, at_us));
        assert_eq!(arrive, [900, 900, 1_000]);
        assert_eq!(streams.in_order(other, one, 300), 300);
    }

    #[test]
    fn what_was_said_over_a_broken_connection_is_gone() {
        let (one, other) = ENDS;
        let mut streams = Streams::new(3);
        let said = streams.speaks_over(one, other).unwrap_or(u64::MAX);
        assert!(streams.is_whole(other, one, said));
        streams.break_off(other, one);
        assert!(!streams.is_whole(other, one, said));
        assert_eq!(streams.speaks_over(one, other), None, "it does not know yet");
        assert!(streams.learns(one, other) && !streams.learns(one, other));
        let said = streams.speaks_over(one, other).unwrap_or(u64::MAX);
        assert!(streams.is_whole(other, one, said) && streams.learns(other, one));
        assert_eq!(streams.speaks_over(NodeId(0), one), Some(0), "others are as they were");
    }
}
