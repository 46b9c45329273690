//! A member with an empty disk is admitted while clients write without a pause, also where its disk
//! is slower than the others': under load it never has all that is committed at the moment.
#![allow(clippy::unwrap_used)]

mod world;

use replication::node::Limits;
use replication::{NodeId, Reply};
use simulator::cluster::{Outside, Server};
use simulator::network::Weather;
use world::{MS, World};

const CLIENTS: usize = 30;
const AWAY_US: u64 = 500 * MS;
const LOAD_US: u64 = 3_000 * MS;
const SLOWER: u64 = 5;

impl World {
    /// Clients write one after the other, each as soon as it is answered, and a disk comes back
    /// meanwhile that is slower. Whether it was admitted in the midst of that.
    fn is_admitted_under_load(&mut self, leader: NodeId, back: NodeId) -> bool {
        let words = |number: usize| vec!["SET".into(), format!("k{}", number % 7), "v".repeat(20)];
        for number in 0..CLIENTS {
            let connection = self.cluster.connect(leader);
            self.cluster.request(connection, words(number));
        }
        assert!(self.cluster.server(back).and_then(Server::node).is_none());
        let back_us = self.cluster.now_us + AWAY_US;
        let limit_us = back_us + LOAD_US;
        let mut answered = 0;
        while let Some(outside) = self.cluster.next(limit_us) {
            if self.cluster.now_us >= back_us && self.group(back).is_none() {
                self.cluster.start(back);
                self.cluster.slow_disk(back, SLOWER);
            }
            let Outside::Reply { connection, reply, .. } = outside else { continue };
            assert_eq!(reply, Reply::Ok);
            answered += 1;
            self.cluster.request(connection, words(answered));
            let runs = self.cluster.server(back).and_then(Server::node).is_some();
            if runs && self.all_count() {
                return true;
            }
        }
        false
    }
}

#[test]
fn a_learner_with_a_slower_disk_is_admitted_under_load() {
    let near = Weather { delay_min_us: 100, delay_mean_us: 0, ..Weather::calm() };
    let mut world = World::in_weather(Limits::default(), near);
    let leader = world.leader().unwrap();
    let node = world.others(leader)[0];
    world.cluster.crash(node, false);
    world.cluster.wipe(node);
    assert!(world.is_admitted_under_load(leader, node));
}
