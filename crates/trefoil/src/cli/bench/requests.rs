//! The bytes of requests: all but the key's digits and the value's start is prepared.

use super::keys::{Chance, Distribution, Keys};
use super::options::{Command, Plan};
use super::tally::Expected;

/// Values are cut from a pool of random text that is so much longer than one; bytes.
const POOL_SLACK_BYTES: usize = 4096;

/// Makes one request after another.
pub struct Requests {
    command: Command,
    keys: Keys,
    chance: Chance,
    write: Write,
    get: Framed,
    incr: Framed,
    /// The command behind a batch, and what it must answer; empty if there is none.
    then: Vec<u8>,
    then_expected: Expected,
    /// It is behind each request.
    then_each: bool,
}

/// A request with a key: what is before its digits, for each prefix, with zeros in their place; and
/// what is behind.
struct Framed {
    heads: Vec<Vec<u8>>,
    key_bytes: usize,
    tail: Vec<u8>,
}

/// A SET, whose tail is cut off before the value.
struct Write {
    framed: Framed,
    /// Random text.
    pool: Vec<u8>,
    value_bytes: usize,
    value_start: usize,
}

impl Requests {
    /// The load that the plan asks for.
    pub fn new(plan: &Plan) -> Requests {
        let mut chance = Chance::new(plan.seed);
        let pool = (0..plan.value_bytes + POOL_SLACK_BYTES)
            .map(|_| b'a' + chance.below(26) as u8)
            .collect::<Vec<u8>>();
        let (then, then_expected) = then(&plan.then);
        Requests {
            command: plan.command,
            keys: Keys::new(plan.distribution, plan.keys),
            chance,
            write: Write::new(plan, pool, plan.value_bytes),
            get: Framed::new(plan, "GET", None),
            incr: Framed::new(plan, "INCR", None),
            then,
            then_expected,
            then_each: plan.then_each,
        }
    }

    /// Writes every key once, in order: what the plan's command then finds there.
    pub fn fill(plan: &Plan) -> Requests {
        let plan =
            Plan { then: Vec::new(), distribution: Distribution::Sequential, ..plan.clone() };
        let mut requests = Requests::new(&plan);
        if plan.command == Command::Incr {
            // A counter can be counted up where the key holds a number.
            requests.write = Write::new(&plan, vec![b'0'; 1 + POOL_SLACK_BYTES], 1);
        }
        requests.command = Command::Set;
        requests
    }

    /// Adds the next request, and tells what it must be answered with.
    pub fn append(&mut self, out: &mut Vec<u8>) -> Expected {
        let command = match self.command {
            Command::Mixed(percent) if self.chance.below(100) < u64::from(percent) => Command::Get,
            Command::Mixed(_) => Command::Set,
            command => command,
        };
        if command == Command::Ping {
            out.extend_from_slice(b"*1\r\n$4\r\nPING\r\n");
            return Expected::Pong;
        }
        let key = self.keys.next(&mut self.chance);
        match command {
            Command::Get => {
                self.get.append(key, out);
                Expected::Value
            }
            Command::Incr => {
                self.incr.append(key, out);
                Expected::Integer { least: i64::MIN }
            }
            _ => {
                self.write.append(key, out);
                Expected::Ok
            }
        }
    }

    /// Whether a command is behind the requests.
    pub fn has_then(&self) -> bool {
        !self.then.is_empty()
    }

    /// Adds the command behind a request, or behind the last of a batch, and tells what it must be
    /// answered with.
    pub fn append_then(&self, is_last: bool, out: &mut Vec<u8>) -> Option<Expected> {
        if self.then.is_empty() || !(self.then_each || is_last) {
            return None;
        }
        out.extend_from_slice(&self.then);
        Some(self.then_expected)
    }
}

impl Framed {
    fn new(plan: &Plan, name: &str, value_bytes: Option<usize>) -> Framed {
        let (words, tail) = match value_bytes {
            Some(bytes) => (3, format!("\r\n${bytes}\r\n")),
            None => (2, String::from("\r\n")),
        };
        let head = |prefix: &String| {
            let (name_bytes, key_bytes) = (name.len(), prefix.len() + plan.key_bytes);
            let zeros = "0".repeat(plan.key_bytes);
            format!("*{words}\r\n${name_bytes}\r\n{name}\r\n${key_bytes}\r\n{prefix}{zeros}")
        };
        let heads = plan.prefixes.iter().map(|prefix| head(prefix).into_bytes()).collect();
        Framed { heads, key_bytes: plan.key_bytes, tail: tail.into_bytes() }
    }

    fn append(&self, key: u64, out: &mut Vec<u8>) {
        let prefix = key.checked_rem(self.heads.len() as u64).unwrap_or(0);
        let Some(head) = self.heads.get(prefix as usize) else { return };
        out.extend_from_slice(head);
        let digits = out.len().saturating_sub(self.key_bytes);
        let mut rest = key;
        for digit in out.iter_mut().skip(digits).rev() {
            if rest == 0 {
                break;
            }
            *digit = b'0' + (rest % 10) as u8;
            rest /= 10;
        }
        out.extend_from_slice(&self.tail);
    }
}

impl Write {
    fn new(plan: &Plan, pool: Vec<u8>, value_bytes: usize) -> Write {
        let framed = Framed::new(plan, "SET", Some(value_bytes));
        Write { framed, pool, value_bytes, value_start: 0 }
    }

    fn append(&mut self, key: u64, out: &mut Vec<u8>) {
        self.framed.append(key, out);
        // Another value each time, so that no server can see that nothing changes.
        let end = self.value_start + self.value_bytes;
        out.extend_from_slice(self.pool.get(self.value_start..end).unwrap_or(&[]));
        out.extend_from_slice(b"\r\n");
        self.value_start = (self.value_start + 1) % POOL_SLACK_BYTES;
    }
}

/// A command of these words, and its reply: WAIT tells how many have it, which must be enough.
fn then(words: &[String]) -> (Vec<u8>, Expected) {
    if words.is_empty() {
        return (Vec::new(), Expected::Anything);
    }
    let mut bytes = format!("*{}\r\n", words.len());
    for word in words {
        bytes.push_str(&format!("${}\r\n{word}\r\n", word.len()));
    }
    let expected = match words {
        [name, least, ..] if name.eq_ignore_ascii_case("WAIT") => {
            least.parse().map_or(Expected::Anything, |least| Expected::Integer { least })
        }
        _ => Expected::Anything,
    };
    (bytes.into_bytes(), expected)
}
