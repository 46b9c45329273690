//! Messages lost, repeated and reordered, nodes that crash: then all is healed, and must agree.

use super::*;

/// What a client knows of one command.
struct Asked {
    request: u64,
    key: usize,
    /// The value of a SET, or 0 for an increment by one.
    value: u64,
    begun: u64,
    ended: Option<u64>,
}

const KEYS: [&str; 4] = ["a", "b", "n", "m"];

impl World {
    /// One step of chance.
    fn step(&mut self, moment: u64, asked: &mut Vec<Asked>) {
        let node = self.random.range(0, NODES as u64) as usize;
        match self.random.range(0, 100) {
            0..30 => {
                let key = self.random.range(0, 4) as usize;
                let value = moment.to_string();
                let (verb, value) = match key {
                    0 | 1 => (set(value.as_bytes()), moment),
                    _ => (Verb::Increment(1), 0),
                };
                let request = self.ask(node, KEYS[key], verb);
                asked.push(Asked { request, key, value, begun: moment, ended: None });
            }
            30..40 => {
                self.ask(node, KEYS[self.requests as usize % 4], Verb::Get);
            }
            40..60 => self.sync(node),
            60..62 => self.crash(node),
            62..66 => self.pass(60),
            66..67 => {
                let other = self.random.range(0, NODES as u64) as usize;
                self.turn(node, |m, turn| m.on_peer_lost(turn, NodeId(other as u16)));
            }
            _ => {
                for _ in 0..3 {
                    self.deliver_any();
                }
            }
        }
        for one in asked.iter_mut().filter(|one| one.ended.is_none()) {
            one.ended = self.reply(one.request).map(|_| moment);
        }
    }

    /// Any message: lost, repeated, or just delivered.
    fn deliver_any(&mut self) {
        if self.wire.is_empty() {
            return;
        }
        let place = self.random.range(0, self.wire.len() as u64) as usize;
        let message = self.wire.remove(place);
        if self.random.chance(10) {
            self.wire.push(message.clone());
        }
        if !self.random.chance(10) {
            self.deliver(message);
        }
    }

    fn acknowledged(&self, one: &Asked) -> bool {
        self.reply(one.request).is_some_and(|reply| !reply.is_error())
    }
}

#[test]
fn replicas_agree_after_healing_and_nothing_acknowledged_is_lost() {
    for seed in 0..60 {
        let mut world = World::new();
        world.random = Random::new(seed);
        world.nodes[1].skew_ms = seed % 3 * 700;
        let mut asked = Vec::new();
        for moment in 1..1500 {
            world.step(moment, &mut asked);
        }
        // Late messages must not harm; then everything that is under way comes to its end.
        world.settle();
        world.pass(1500);
        world.settle();
        for (key, name) in KEYS.iter().enumerate() {
            let read = world.with(0, name, Verb::Get, With { w: None, r: Some(3) });
            world.settle();
            let value = match world.reply(read).unwrap() {
                Reply::Bulk(bytes) => core::str::from_utf8(&bytes).unwrap().parse().unwrap(),
                Reply::Nil => 0,
                other => panic!("seed {seed}: {other:?}"),
            };
            let of_key: Vec<&Asked> = asked.iter().filter(|one| one.key == key).collect();
            if key < 2 {
                world.check_register(seed, value, &of_key);
            } else {
                world.check_counter(seed, value, &of_key);
            }
        }
        assert_eq!(world.digest(0), world.digest(1), "seed {seed}");
        assert_eq!(world.digest(0), world.digest(2), "seed {seed}");
    }
}

impl World {
    /// No acknowledged write may have begun after the one that is read had ended.
    fn check_register(&self, seed: u64, value: u64, asked: &[&Asked]) {
        let read_ended = match asked.iter().find(|one| one.value == value) {
            Some(one) if self.acknowledged(one) => one.ended.unwrap_or(u64::MAX),
            Some(_) => u64::MAX,
            None => 0,
        };
        let lost = asked.iter().find(|one| self.acknowledged(one) && one.begun > read_ended);
        assert!(lost.is_none(), "seed {seed}: {value} hides {:?}", lost.map(|one| one.value));
    }

    /// What was acknowledged counts once, what was not at most once.
    fn check_counter(&self, seed: u64, value: u64, asked: &[&Asked]) {
        let least = asked.iter().filter(|one| self.acknowledged(one)).count() as u64;
        let refused = |one: &&&Asked| match self.reply(one.request) {
            Some(Reply::Error(text)) => !text.starts_with("PARTIAL"),
            _ => false,
        };
        let most = (asked.len() - asked.iter().filter(refused).count()) as u64;
        assert!((least..=most).contains(&value), "seed {seed}: {least} <= {value} <= {most}");
    }
}
