//! Messages lost, repeated and reordered, nodes that crash: then all is healed, and must agree.

use super::*;

/// What a client knows of one command.
struct Asked {
    request: u64,
    key: usize,
    what: What,
    begun: u64,
    ended: Option<u64>,
}

/// What a command is.
#[derive(Clone, Copy, PartialEq)]
enum What {
    Set(u64),
    Increment,
    Get,
}

/// Runs of the random test.
const SEEDS: u64 = 60;
const KEYS: [&str; 4] = ["a", "b", "n", "m"];

impl World {
    /// One step of chance.
    fn step(&mut self, moment: u64, asked: &mut Vec<Asked>) {
        let node = self.random.range(0, NODES as u64) as usize;
        match self.random.range(0, 100) {
            0..15 => {
                let key = self.random.range(0, 4) as usize;
                let value = moment.to_string();
                let (verb, what) = match key {
                    0 | 1 => (set(value.as_bytes()), What::Set(moment)),
                    _ => (Verb::Increment(1), What::Increment),
                };
                let request = self.ask(node, KEYS[key], verb);
                asked.push(Asked { request, key, what, begun: moment, ended: None });
            }
            15..22 => {
                let key = self.random.range(0, 4) as usize;
                let request = self.ask(node, KEYS[key], Verb::Get);
                asked.push(Asked { request, key, what: What::Get, begun: moment, ended: None });
            }
            22..40 => self.sync(node),
            40 if self.random.chance(40) => self.crash(node),
            41..44 => self.pass(40),
            44 => {
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
        if !self.random.chance(5) {
            self.deliver(message);
        }
    }

    fn acknowledged(&self, one: &Asked) -> bool {
        self.reply(one.request).is_some_and(|reply| !reply.is_error())
    }
}

/// What a value read says: the number, 0 for none.
fn number(reply: &Reply<'_>) -> u64 {
    match reply {
        Reply::Bulk(bytes) => core::str::from_utf8(bytes).unwrap().parse().unwrap(),
        Reply::Nil => 0,
        other => panic!("{other:?}"),
    }
}

/// One seed: how many of a hundred commands were acknowledged, or what is wrong.
fn run(seed: u64, mutants: Mutants) -> Result<usize, String> {
    let mut world = World::new();
    world.random = Random::new(seed);
    world.nodes[1].skew_ms = seed % 3 * 700;
    world.mutants = mutants;
    world.nodes.iter_mut().for_each(|node| node.local.mutants = mutants);
    let mut asked = Vec::new();
    for moment in 1..1500 {
        world.step(moment, &mut asked);
    }
    // Late messages must not harm; then everything that is under way comes to its end.
    world.settle();
    world.pass(1500);
    world.settle();
    for (key, name) in KEYS.iter().enumerate() {
        let request = world.with(0, name, Verb::Get, With { r: Some(3), ..With::default() });
        world.settle();
        let (begun, ended) = (1501, Some(1502));
        asked.push(Asked { request, key, what: What::Get, begun, ended });
        let of_key: Vec<&Asked> = asked.iter().filter(|one| one.key == key).collect();
        match key {
            0 | 1 => world.check_register(&of_key)?,
            _ => world.check_counter(&of_key, number(&world.reply(request).unwrap()))?,
        }
    }
    let digests: Vec<u64> = (0..NODES).map(|node| world.digest(node)).collect();
    if digests.iter().any(|digest| *digest != digests[0]) {
        return Err("the replicas differ".into());
    }
    Ok(asked.iter().filter(|one| world.acknowledged(one)).count() * 100 / asked.len())
}

impl World {
    /// A read never shows a write when another, acknowledged before the read began, had begun
    /// after that write's end.
    fn check_register(&self, asked: &[&Asked]) -> Result<(), String> {
        for read in asked.iter().filter(|one| one.what == What::Get && self.acknowledged(one)) {
            let value = number(&self.reply(read.request).unwrap());
            let shown_ended = match asked.iter().find(|one| one.what == What::Set(value)) {
                Some(one) if self.acknowledged(one) => one.ended.unwrap_or(u64::MAX),
                Some(_) => u64::MAX,
                None => 0,
            };
            let hidden = |one: &&&Asked| {
                matches!(one.what, What::Set(_))
                    && self.acknowledged(one)
                    && one.begun > shown_ended
                    && one.ended.is_some_and(|ended| ended < read.begun)
            };
            if let Some(hidden) = asked.iter().find(hidden) {
                return Err(format!("{value} hides what began at {}", hidden.begun));
            }
        }
        Ok(())
    }

    /// What was acknowledged counts once, what was not at most once.
    fn check_counter(&self, asked: &[&Asked], value: u64) -> Result<(), String> {
        let increments = || asked.iter().filter(|one| one.what == What::Increment);
        let least = increments().filter(|one| self.acknowledged(one)).count() as u64;
        let not_executed = |one: &&&Asked| match self.reply(one.request) {
            Some(Reply::Error(text)) => !text.starts_with("PARTIAL"),
            _ => false,
        };
        let most = (increments().count() - increments().filter(not_executed).count()) as u64;
        match (least..=most).contains(&value) {
            true => Ok(()),
            false => Err(format!("{least} <= {value} <= {most} does not hold")),
        }
    }
}

#[test]
fn replicas_agree_after_healing_and_nothing_acknowledged_is_lost() {
    let mut percent = 0;
    for seed in 0..SEEDS {
        match run(seed, Mutants::default()) {
            Ok(acknowledged) => percent += acknowledged,
            Err(wrong) => panic!("seed {seed}: {wrong}"),
        }
    }
    assert!(percent / SEEDS as usize > 40, "too little happened: {percent}");
}

#[cfg(feature = "mutants")]
#[test]
fn planted_bugs_are_seen() {
    use crate::mutant::Mutant;
    for mutant in [Mutant::AckBeforeDurable, Mutant::ReadOneShort, Mutant::WallClockWins] {
        let seen = (0..300).find(|seed| run(*seed, Mutants::plant(mutant)).is_err());
        assert!(seen.is_some(), "{mutant:?}");
    }
}
