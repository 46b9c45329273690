//! `trefoil rehearse`: how many failovers another election timeout would have caused in the last
//! day, by the silences that the nodes have noted of each other.
//!
//! A follower that does not hear its leader for a time between T and 1.5 T (drawn anew each time)
//! asks for votes; those who hear the leader refuse, and the leader itself does, too. So a failover
//! takes as many followers that miss the leader as an election needs votes: of the followers'
//! counts the one at that place, the largest first, is the most failovers that there could have
//! been. A follower that does not answer, or has not listened as long as others, may have missed
//! the leader whenever another did.

use crate::cli::status::{ANSWER_TIMEOUT, Status, ask_for, first_answer, table};
use crate::cli::{addresses, say};
use miette::miette;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Votes that an election of another leader needs at the least: a majority of two or more.
const VOTES_LEAST: usize = 2;
/// Records that differ by less are equally long; milliseconds.
const RECORDED_SLACK_MS: u64 = 60_000;

/// What `rehearse` is told.
#[derive(clap::Args)]
pub struct Options {
    /// The election timeout to try out, for example `500ms` or `1.5s`.
    #[arg(long, value_parser = duration)]
    timeout: Duration,
    /// The client address of a node, which names the others; of several, the first that answers.
    #[arg(long, value_name = "HOST:PORT", value_delimiter = ',', default_value = "127.0.0.1:7001")]
    addr: Vec<String>,
}

/// What a node answers to TF.REHEARSE. What a newer node adds is passed over.
#[derive(Deserialize, Default, Debug)]
#[serde(default)]
struct Report {
    node: String,
    present_timeout_ms: u64,
    peers: Vec<Peer>,
}

/// What a node has heard of another.
#[derive(Deserialize, Default, Debug)]
#[serde(default)]
struct Peer {
    node: String,
    recorded_ms: u64,
    leads: Vec<Group>,
    elections: Elections,
    present_elections: Elections,
    restarts: Elections,
    longest: Vec<Gap>,
}

#[derive(Deserialize, Default, Debug)]
#[serde(default)]
struct Group {
    votes: usize,
}

#[derive(Deserialize, Default, Clone, Copy, Debug)]
#[serde(default)]
struct Elections {
    least: u64,
    most: u64,
}

#[derive(Deserialize, Default, Clone, Debug)]
#[serde(default)]
struct Gap {
    ms: u64,
    end_ms: u64,
    kind: String,
}

/// Asks every node, and prints what they say and what follows from it.
pub fn run(options: &Options) -> miette::Result<()> {
    let status = first_status(&addresses::resolve(&options.addr)?)?;
    let timeout_ms = u64::try_from(options.timeout.as_millis()).unwrap_or(u64::MAX);
    let mut reports = Vec::new();
    let mut silent = Vec::new();
    for member in &status.members {
        let address = member.client.as_ref().and_then(|text| text.parse::<SocketAddr>().ok());
        let Some(address) = address else {
            silent.push(format!("{}: nobody knows its client address", member.name));
            continue;
        };
        let words = ["TF.REHEARSE", &timeout_ms.to_string()];
        match ask_for(&words, address, ANSWER_TIMEOUT) {
            Ok(text) => reports.push(
                serde_json::from_str::<Report>(&text)
                    .map_err(|error| miette!("the answer of {address} makes no sense: {error}"))?,
            ),
            // Every node would say the same of a timeout that is none.
            Err(error) if error.to_string().starts_with("ERR ") => return Err(miette!("{error}")),
            Err(error) => silent.push(format!("{} ({address}): {error}", member.name)),
        }
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let now_ms = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
    say(&show(&reports, &silent, timeout_ms, now_ms));
    Ok(())
}

fn first_status(addresses: &[SocketAddr]) -> miette::Result<Status> {
    let (address, text) = first_answer(addresses)?;
    serde_json::from_str(&text)
        .map_err(|error| miette!("the answer of {address} makes no sense: {error}"))
}

fn show(reports: &[Report], silent: &[String], timeout_ms: u64, now_ms: u64) -> String {
    let present_ms = reports.iter().map(|report| report.present_timeout_ms).max().unwrap_or(0);
    let wanted = format!("elections at {timeout_ms} ms");
    let present = format!("at {present_ms} ms (now)");
    let mut rows =
        table(&["leader", "heard by", "for", &wanted, &present, "longest silence", "it ended"]);
    let mut leaders: BTreeMap<&str, Vec<&Peer>> = BTreeMap::new();
    for (report, peer) in reports.iter().flat_map(|r| r.peers.iter().map(move |p| (r, p))) {
        let longest = longest_of_a_leader(peer);
        // Who leads nothing can be silent for as long as it likes.
        if peer.leads.is_empty() && longest.is_none() {
            continue;
        }
        leaders.entry(&peer.node).or_default().push(peer);
        rows.add_row([
            peer.node.clone(),
            report.node.clone(),
            hours(peer.recorded_ms),
            range(peer.elections),
            range(peer.present_elections),
            longest.map_or(String::from("-"), |gap| format!("{} ms", gap.ms)),
            longest.map_or(String::from("-"), |gap| ago(now_ms.saturating_sub(gap.end_ms))),
        ]);
    }
    let mut text = String::new();
    if leaders.is_empty() {
        text.push_str("No node follows a leader: there is nothing to rehearse.\n");
    } else {
        let _ = writeln!(text, "{}\n", rows.trim_fmt());
        let all = || leaders.values().flatten();
        let hours = hours(all().map(|peer| peer.recorded_ms).max().unwrap_or(0));
        let unheard = silent.len();
        let wanted = failovers(&leaders, unheard, |peer| peer.elections.most);
        let present = failovers(&leaders, unheard, |peer| peer.present_elections.most);
        let _ = writeln!(
            text,
            "A timeout of {timeout_ms} ms would have caused at most {wanted} needless failovers in \
             {hours}; the present {present_ms} ms at most {present}."
        );
        let restarts_of = |peers: &Vec<&Peer>| peers.iter().map(|p| p.restarts.most).max();
        let restarts: u64 = leaders.values().filter_map(restarts_of).sum();
        if restarts > 0 {
            let _ = writeln!(
                text,
                "Leaders that were silent because they were started again are not counted: \
                 {restarts}."
            );
        }
    }
    for node in silent {
        let _ = writeln!(text, "What this node has heard is missing: {node}");
    }
    text
}

/// The most failovers that there could have been: see the head of this file. `unheard`: nodes that
/// have not answered.
fn failovers(
    leaders: &BTreeMap<&str, Vec<&Peer>>,
    unheard: usize,
    count: impl Fn(&Peer) -> u64,
) -> u64 {
    let of_one = |peers: &Vec<&Peer>| {
        let votes = peers.iter().flat_map(|peer| &peer.leads).map(|group| group.votes).min();
        let recorded_ms = peers.iter().map(|peer| peer.recorded_ms).max().unwrap_or(0);
        let is_short = |peer: &&&Peer| peer.recorded_ms + RECORDED_SLACK_MS < recorded_ms;
        let unknown = unheard + peers.iter().filter(is_short).count();
        let place = votes.unwrap_or(VOTES_LEAST).saturating_sub(1 + unknown);
        let mut counts: Vec<u64> = peers.iter().map(|peer| count(peer)).collect();
        counts.sort_unstable_by(|a, b| b.cmp(a));
        counts.get(place).copied().unwrap_or(0)
    };
    leaders.values().map(of_one).sum()
}

/// The longest silence in which nobody was started again.
fn longest_of_a_leader(peer: &Peer) -> Option<&Gap> {
    peer.longest.iter().find(|gap| gap.kind == "leader-paused")
}

fn range(elections: Elections) -> String {
    match elections {
        Elections { least, most } if least == most => most.to_string(),
        Elections { least, most } => format!("{least} to {most}"),
    }
}

fn hours(ms: u64) -> String {
    match ms / 1_000 {
        seconds @ 0..60 => format!("{seconds} s"),
        seconds @ 60..3_600 => format!("{} min", seconds / 60),
        _ => format!("{:.1} h", ms as f64 / 3_600_000.0),
    }
}

fn ago(ms: u64) -> String {
    let seconds = ms / 1_000;
    match seconds {
        0..60 => format!("{seconds} s ago"),
        60..3_600 => format!("{} min ago", seconds / 60),
        _ => format!("{} h {} min ago", seconds / 3_600, seconds / 60 % 60),
    }
}

/// `500ms`, `1.5s`; a number alone is milliseconds.
fn duration(text: &str) -> Result<Duration, String> {
    let (number, unit_ms) = match text.strip_suffix("ms") {
        Some(number) => (number, 1.0),
        None => text.strip_suffix('s').map_or((text, 1.0), |number| (number, 1_000.0)),
    };
    let ms = number.trim().parse::<f64>().ok().map(|number| number * unit_ms);
    let day_ms = 86_400_000.0;
    match ms {
        Some(ms) if (1.0..=day_ms).contains(&ms) => Ok(Duration::from_millis(ms.round() as u64)),
        _ => Err(String::from("a time between 1ms and a day, for example 500ms or 1.5s")),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn report(node: &str, most: u64) -> Report {
        let text = format!(
            r#"{{"node":"{node}","timeout_ms":500,"present_timeout_ms":600,"new-thing":1,"peers":[
                {{"node":"eu-1","recorded_ms":84240000,"elections":{{"least":1,"most":{most}}},
                  "leads":[{{"prefix":"","partition":0,"votes":2}}],
                  "restarts":{{"least":1,"most":1}},
                  "longest":[{{"ms":9000,"end_ms":1,"kind":"leader-restarted"}},
                             {{"ms":812,"end_ms":6040000,"kind":"leader-paused"}}]}},
                {{"node":"us-1","longest":[{{"ms":99999,"end_ms":1,"kind":"no-leader"}}]}}]}}"#
        );
        serde_json::from_str(&text).unwrap()
    }

    #[test]
    fn a_failover_takes_as_many_followers_as_an_election_needs_votes() {
        let reports = [report("eu-2", 5), report("eu-3", 2)];
        let shown = show(&reports, &[], 500, 10_000_000);
        for words in [
            "at most 2 needless failovers in 23.4 h; the present 600 ms at most 0",
            "1 to 5",
            "812 ms",
            "1 h 6 min ago",
            "started again are not counted: 1",
        ] {
            assert!(shown.contains(words), "`{words}` is not in:\n{shown}");
        }
        assert!(!shown.contains("us-1"), "who leads nothing is no matter:\n{shown}");
        assert!(show(&[], &[], 500, 0).contains("nothing to rehearse"));
    }

    #[test]
    fn who_does_not_answer_or_has_just_been_started_may_have_missed_the_leader() {
        let mut reports = vec![report("eu-2", 5), report("eu-3", 2)];
        let silent = [String::from("eu-4 (127.0.0.1:1): refused")];
        let shown = show(&reports, &silent, 500, 10_000_000);
        assert!(shown.contains("at most 5 needless"), "{shown}");
        assert!(shown.contains("missing: eu-4"), "{shown}");
        reports[1].peers[0].recorded_ms = 1_000;
        let shown = show(&reports, &[], 500, 10_000_000);
        assert!(shown.contains("at most 5 needless"), "{shown}");
    }

    #[test]
    fn times_have_units() {
        let ms = |text: &str| duration(text).map(|time| time.as_millis()).ok();
        assert_eq!((ms("500ms"), ms("1.5s"), ms("250")), (Some(500), Some(1_500), Some(250)));
        assert!(
            ["0ms", "-1s", "2h", "s", "", "1e9s", "NaN"].into_iter().all(|no| ms(no).is_none())
        );
    }
}
