//! The lines of a script as steps.

use super::ScriptError;

/// One line.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Step {
    /// Datacenters and how many nodes each has.
    Cluster(Vec<(String, usize)>),
    /// A prefix of its own, its model and its options.
    Prefix(String, String, Vec<(String, String)>),
    /// The model of the empty prefix, and its options.
    Keyspace(String, Vec<(String, String)>),
    /// Timeouts by name, in microseconds.
    Timing(Vec<(String, u64)>),
    /// Time passes, in microseconds.
    Run(u64),
    /// A name for a node.
    Name(String, String),
    /// Nodes lose power.
    Crash(String),
    /// Processes die, machines go on.
    Kill(String),
    /// Processes are asked to stop.
    Stop(String),
    /// The same is to happen soon: they hand over what they lead.
    Leave(String),
    /// Processes stand still for so many microseconds.
    Pause(String, u64),
    /// A disk takes so many times as long.
    Slow(String, u64),
    /// Nodes start.
    Start(String),
    /// A crashed node's disk is emptied.
    Wipe(String),
    /// Nothing gets from one side to the other.
    Partition(Vec<String>, Vec<String>),
    /// Nothing gets from the first to the second.
    Cut(String, String),
    /// A node's monotonic clock runs so many millionths too fast from now on.
    Drift(String, i64),
    /// All links work.
    Heal,
    /// A node's wall clock jumps, in milliseconds.
    Clock(String, i64),
    /// A client gives a command.
    Client(String, String, Vec<String>),
    /// Something must come true.
    Expect(Expected),
}

/// What must come true.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Expected {
    /// A client's oldest open command is answered so; the last client's, where none is named.
    Reply(Option<String>, String),
    /// An event of this name, at this node if one is given.
    Event(String, Option<String>),
    /// No event of this name.
    NoEvent(String),
    /// All replicas hold the same.
    Equal,
}

/// Reads a script.
///
/// # Errors
/// The first line that is no step, and what is wrong with it; a script without a header.
pub fn parse(text: &str) -> Result<Vec<(usize, Step)>, ScriptError> {
    if !text.starts_with("# ") {
        let text = "a script begins with a comment that says what happens".to_string();
        return Err(ScriptError { line: 1, text });
    }
    let mut steps = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.split("#").next().unwrap_or("").trim();
        if line.is_empty() {
            continue;
        }
        let step = step(line).map_err(|text| ScriptError { line: number + 1, text })?;
        steps.push((number + 1, step));
    }
    Ok(steps)
}

fn step(line: &str) -> Result<Step, String> {
    let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
    let rest = rest.trim();
    let one = || {
        let single = !rest.is_empty() && !rest.contains(' ');
        if single { Ok(rest.to_string()) } else { Err(format!("{word} takes one name")) }
    };
    Ok(match word {
        "cluster" => Step::Cluster(counts(rest)?),
        "prefix" => {
            let (prefix, rest) = rest.split_once(' ').ok_or("prefix PREFIX MODEL OPTIONS")?;
            let (model, options) = rest.split_once(' ').unwrap_or((rest, ""));
            Step::Prefix(prefix.to_string(), model.to_string(), pairs(options)?)
        }
        "keyspace" => {
            let (model, options) = rest.split_once(' ').unwrap_or((rest, ""));
            Step::Keyspace(model.to_string(), pairs(options)?)
        }
        "timing" => Step::Timing(
            pairs(rest)?
                .into_iter()
                .map(|(name, duration)| Ok((name, duration_us(&duration)?)))
                .collect::<Result<_, String>>()?,
        ),
        "run" => Step::Run(duration_us(rest)?),
        "name" => {
            let (name, node) = rest.split_once('=').ok_or("name NEW = NODE")?;
            Step::Name(name.trim().to_string(), node.trim().to_string())
        }
        "crash" => Step::Crash(one()?),
        "kill" => Step::Kill(one()?),
        "stop" => Step::Stop(one()?),
        "leave" => Step::Leave(one()?),
        "pause" => {
            let (node, duration) = rest.split_once(' ').ok_or("pause NODE 300ms")?;
            Step::Pause(node.to_string(), duration_us(duration.trim())?)
        }
        "slow" => {
            let (node, factor) = rest.split_once(' ').ok_or("slow NODE 50")?;
            let factor = factor.trim().parse().map_err(|_| format!("{factor} is no number"))?;
            Step::Slow(node.to_string(), factor)
        }
        "start" => Step::Start(one()?),
        "wipe" => Step::Wipe(one()?),
        "partition" => {
            let (left, right) = rest.split_once('|').ok_or("partition NODES | NODES")?;
            Step::Partition(words(left), words(right))
        }
        "cut" => {
            let (from, to) = rest.split_once("->").ok_or("cut NODE -> NODE")?;
            Step::Cut(from.trim().to_string(), to.trim().to_string())
        }
        "heal" => Step::Heal,
        "drift" => drift(rest).ok_or("drift NODE -1000ppm")?,
        "clock" => {
            let (node, by) = rest.split_once(' ').ok_or("clock NODE +500ms")?;
            let by = by.trim();
            let sign = if by.starts_with('-') { -1 } else { 1 };
            let duration = duration_us(by.trim_start_matches(['+', '-']))?;
            Step::Clock(node.to_string(), sign * (duration / 1000) as i64)
        }
        "client" => {
            let (who, command) = rest.split_once(':').ok_or("client NAME @NODE: COMMAND")?;
            let (name, node) = who.split_once('@').ok_or("client NAME @NODE: COMMAND")?;
            Step::Client(name.trim().to_string(), node.trim().to_string(), words(command))
        }
        "expect" => Step::Expect(expected(rest)),
        _ => return Err(format!("there is no step called {word}")),
    })
}

fn drift(rest: &str) -> Option<Step> {
    let (node, by) = rest.split_once(' ')?;
    Some(Step::Drift(node.to_string(), by.trim().strip_suffix("ppm")?.parse().ok()?))
}

fn expected(text: &str) -> Expected {
    if let Some(name) = text.strip_prefix("no event ") {
        return Expected::NoEvent(name.trim().to_string());
    }
    if let Some(event) = text.strip_prefix("event ") {
        let (name, node) = match event.split_once('@') {
            Some((name, node)) => (name, Some(node.trim().to_string())),
            None => (event, None),
        };
        return Expected::Event(name.trim().to_string(), node);
    }
    if text == "equal" {
        return Expected::Equal;
    }
    match text.split_once(": ") {
        Some((client, reply)) if !client.contains(' ') => {
            Expected::Reply(Some(client.to_string()), reply.trim().to_string())
        }
        _ => Expected::Reply(None, text.to_string()),
    }
}

/// Words; `""` is an empty one.
fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(|word| word.replace("\"\"", "")).collect()
}

fn pairs(text: &str) -> Result<Vec<(String, String)>, String> {
    text.split_whitespace()
        .map(|pair| {
            let (name, value) =
                pair.split_once('=').ok_or_else(|| format!("{pair} is not like name=value"))?;
            Ok((name.to_string(), value.to_string()))
        })
        .collect()
}

/// Datacenters, and how many nodes each has.
fn counts(text: &str) -> Result<Vec<(String, usize)>, String> {
    let counts = pairs(text)?.into_iter();
    counts
        .map(|(name, count)| count.parse().map(|count| (name, count)))
        .collect::<Result<_, _>>()
        .map_err(|_| format!("{text} is not like eu=3 us=3"))
}

fn duration_us(text: &str) -> Result<u64, String> {
    let wrong = || format!("{text} is no duration like 2s or 50ms");
    let digits = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| wrong())?;
    match unit {
        "s" => Ok(number * 1_000_000),
        "ms" => Ok(number * 1000),
        "us" => Ok(number),
        _ => Err(wrong()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn steps_are_read() {
        let text =
            "# What happens.\n\ncluster eu=3\nclient c1 @eu-2: SET user:1 a # why\nexpect OK";
        let steps = parse(text).unwrap();
        let set = vec!["SET".into(), "user:1".into(), "a".into()];
        assert_eq!(
            steps,
            [
                (3, Step::Cluster(vec![("eu".into(), 3)])),
                (4, Step::Client("c1".into(), "eu-2".into(), set)),
                (5, Step::Expect(Expected::Reply(None, "OK".into()))),
            ]
        );
        let one = |line: &str| step(line).unwrap();
        assert_eq!(one("run 50ms"), Step::Run(50_000));
        assert_eq!(one("clock us-1 -2s"), Step::Clock("us-1".into(), -2000));
        let two = vec![("w".into(), "1".into()), ("r".into(), "1".into())];
        assert_eq!(
            one("prefix b: leaderless w=1 r=1"),
            Step::Prefix("b:".into(), "leaderless".into(), two)
        );
        assert_eq!(
            one("expect event BecameLeader @eu-1"),
            Step::Expect(Expected::Event("BecameLeader".into(), Some("eu-1".into())))
        );
        assert_eq!(
            one("expect c2: UNKNOWN"),
            Step::Expect(Expected::Reply(Some("c2".into()), "UNKNOWN".into()))
        );
        assert_eq!(
            one("partition eu-1 | eu-2 eu-3"),
            Step::Partition(vec!["eu-1".into()], vec!["eu-2".into(), "eu-3".into()])
        );
    }

    #[test]
    fn wrong_lines_are_named() {
        let error = parse("# x\nrun 3 weeks").unwrap_err();
        assert_eq!(error.line, 2);
        assert!(error.text.contains("3 weeks"));
        assert!(parse("# x\nexplode eu-1").unwrap_err().text.contains("explode"));
        assert!(parse("cluster eu=3").unwrap_err().text.contains("comment"));
    }
}
