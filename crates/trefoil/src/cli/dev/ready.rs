//! Waits until a `dev` cluster works, and shows it.

use super::layout::Layout;
use super::processes::{Processes, program};
use crate::cli::say;
use crate::cli::status::{self, Status, show_prefix};
use miette::miette;
use replication::keyspace::{Keyspace, Model};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// How long the cluster may take to start.
const START_TIMEOUT: Duration = Duration::from_secs(60);
/// How long one node may take to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);
/// How often the nodes are asked.
const ASK_EVERY: Duration = Duration::from_millis(50);

/// For each keyspace's prefix, who leads what.
pub type Leaders = BTreeMap<String, String>;

/// Waits until all nodes answer and every group has a leader; `None` when told to stop.
pub fn wait(
    layout: &Layout,
    processes: &mut Processes,
    stop: &AtomicBool,
) -> miette::Result<Option<Leaders>> {
    let deadline = Instant::now() + START_TIMEOUT;
    let mut shown = String::new();
    loop {
        if stop.load(Ordering::Relaxed) {
            return Ok(None);
        }
        if let Some(text) = processes.failed() {
            return Err(miette!("{text}"));
        }
        let waiting = match look(layout) {
            Ok(leaders) => return Ok(Some(leaders)),
            Err(waiting) => waiting,
        };
        if Instant::now() > deadline {
            let seconds = START_TIMEOUT.as_secs();
            return Err(miette!("the cluster does not work after {seconds} s: {waiting}"));
        }
        if waiting != shown {
            eprintln!("{waiting}");
            shown = waiting;
        }
        std::thread::sleep(ASK_EVERY);
    }
}

/// The leaders, or what is still missing.
fn look(layout: &Layout) -> Result<Leaders, String> {
    let mut statuses: Vec<Status> = Vec::new();
    let mut silent: Vec<&str> = Vec::new();
    for node in &layout.nodes {
        let text = status::ask(node.addresses.client, ANSWER_TIMEOUT);
        match text.ok().and_then(|text| serde_json::from_str::<Status>(&text).ok()) {
            Some(status) if status.node == node.name => statuses.push(status),
            _ => silent.push(&node.name),
        }
    }
    if !silent.is_empty() {
        return Err(format!("waiting for {}", silent.join(", ")));
    }
    let mut leaders = Leaders::new();
    let mut without = Vec::new();
    for keyspace in &layout.config.cluster.keyspaces {
        let prefix = String::from_utf8_lossy(&keyspace.prefix).into_owned();
        match leaders_of(keyspace, &prefix, &statuses) {
            Some(text) => {
                leaders.insert(prefix, text);
            }
            None => without.push(show_prefix(&prefix)),
        }
    }
    if !without.is_empty() {
        return Err(format!("waiting for leaders of {}", without.join(", ")));
    }
    Ok(leaders)
}

/// Who leads a keyspace's groups, by what all nodes know; `None` while one has no leader.
fn leaders_of(keyspace: &Keyspace, prefix: &str, statuses: &[Status]) -> Option<String> {
    if let Model::Leaderless(options) = &keyspace.model {
        return Some(format!("nobody: any of a key's {} replicas", options.n));
    }
    let mut groups: BTreeMap<(String, u64), Option<String>> = BTreeMap::new();
    let all = statuses.iter().flat_map(|status| &status.keyspaces);
    for group in all.filter(|known| known.prefix == prefix).flat_map(|known| &known.groups) {
        let place = (group.datacenter.clone().unwrap_or_default(), group.partition);
        let leader = groups.entry(place).or_default();
        if leader.is_none() {
            leader.clone_from(&group.leader);
        }
    }
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for leader in groups.into_values() {
        *counts.entry(leader?).or_default() += 1;
    }
    let texts = counts.into_iter().map(|(leader, count)| match count {
        1 => leader,
        _ => format!("{leader} ({count} partitions)"),
    });
    let texts: Vec<String> = texts.collect();
    if texts.is_empty() { None } else { Some(texts.join(", ")) }
}

/// Prints the nodes, the keyspaces, who leads what, and what to try.
pub fn show(layout: &Layout, processes: &Processes, leaders: &Leaders) {
    let mut nodes = status::table(&["node", "datacenter", "client", "peer", "pid", "data"]);
    for node in &layout.nodes {
        nodes.add_row([
            node.name.clone(),
            node.datacenter.clone(),
            node.addresses.client.to_string(),
            node.addresses.peer.to_string(),
            processes.pid(&node.name).map_or(String::new(), |pid| pid.to_string()),
            node.directory.join("data").display().to_string(),
        ]);
    }
    let mut keyspaces = status::table(&["keys", "model", "options", "led by"]);
    for keyspace in &layout.config.cluster.keyspaces {
        let prefix = String::from_utf8_lossy(&keyspace.prefix).into_owned();
        keyspaces.add_row([
            show_prefix(&prefix),
            keyspace.model.name().to_owned(),
            options_of(&layout.config.cluster.datacenters, &keyspace.model),
            leaders.get(&prefix).cloned().unwrap_or_default(),
        ]);
    }
    let directory = layout.directory.display();
    say(&format!(
        "{}\n\n{}\n\nTry, on any node:\n{}\n\n\
         A node that is killed stays down until you say, in another terminal:\n  \
         {} dev --restart NAME --data {directory}\n\nCtrl-C stops all nodes.\n",
        nodes.trim_fmt(),
        keyspaces.trim_fmt(),
        commands(layout),
        program(),
    ));
}

fn options_of(datacenters: &[String], model: &Model) -> String {
    let name = |id: &replication::DatacenterId| {
        datacenters.get(usize::from(id.0)).map_or("?", String::as_str)
    };
    match model {
        Model::LeaderFollower(options) => {
            let (acks, replicas) = (options.group.acks, options.group.replicas);
            format!("acks {acks}, {replicas} replicas in {}", name(&options.home))
        }
        Model::MultiLeader(options) => {
            let places: Vec<&str> = options.datacenters.iter().map(name).collect();
            let (acks, replicas) = (options.group.acks, options.group.replicas);
            let places = places.join(" and ");
            format!("last-write-wins, acks {acks}, {replicas} replicas in each of {places}")
        }
        Model::Leaderless(options) => {
            format!("n={} w={} r={}", options.n, options.w, options.r)
        }
    }
}

/// A command for each of up to three keyspaces, each at another node.
fn commands(layout: &Layout) -> String {
    let mut lines = Vec::new();
    let keyspaces = layout.config.cluster.keyspaces.iter();
    let count = layout.nodes.len();
    for (number, keyspace) in keyspaces.filter(|k| !k.prefix.is_empty()).take(3).enumerate() {
        let key = String::from_utf8_lossy(&keyspace.prefix);
        let port = layout.client_port(number * count.div_ceil(3));
        lines.push(match &keyspace.model {
            Model::LeaderFollower(_) => format!("  redis-cli -p {port} SET {key}1 Ada"),
            Model::MultiLeader(_) => format!("  redis-cli -p {port} INCR {key}1"),
            Model::Leaderless(_) => {
                format!("  redis-cli -p {port} TF.WITH W 3 R 1 -- SET {key}1 hello")
            }
        });
    }
    while lines.len() < 3 {
        let port = layout.client_port(lines.len());
        lines.push(match lines.len() {
            0 => format!("  redis-cli -p {port} SET greeting hello"),
            1 => format!("  redis-cli -p {port} GET greeting"),
            _ => format!("  redis-cli -p {port} DBSIZE"),
        });
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use replication::DatacenterId;
    use replication::KeyspaceId;
    use replication::keyspace::{LeaderFollower, Leaderless};

    fn keyspace(model: Model) -> Keyspace {
        Keyspace { id: KeyspaceId(1), prefix: b"user:".to_vec(), model }
    }

    fn status(groups: &str) -> Status {
        let text = format!(
            "{{\"node\":\"eu-1\",\"keyspaces\":[{{\"prefix\":\"user:\",\"groups\":[{groups}]}},\
             {{\"prefix\":\"\",\"groups\":[{{\"leader\":null}}]}}]}}"
        );
        serde_json::from_str(&text).unwrap()
    }

    #[test]
    fn every_group_that_any_node_knows_needs_a_leader() {
        let model = LeaderFollower::defaults(DatacenterId(0), 3);
        let keyspace = keyspace(Model::LeaderFollower(model));
        let led = r#"{"partition":0,"datacenter":"eu","leader":"eu-1"}"#;
        let unled = r#"{"partition":1,"datacenter":"eu","leader":null}"#;
        let also_led = r#"{"partition":1,"datacenter":"eu","leader":"eu-2"}"#;
        let look = |statuses: &[Status]| leaders_of(&keyspace, "user:", statuses);
        assert_eq!(look(&[status(""), status("")]), None);
        assert_eq!(look(&[status(led), status(unled)]), None);
        // A node that does not know the leader does not hide it.
        let all = [status(&format!("{led},{unled}")), status(also_led)];
        assert_eq!(look(&all).unwrap(), "eu-1, eu-2");
        let twice = [status(&format!("{led},{also_led}").replace("eu-2", "eu-1"))];
        assert_eq!(look(&twice).unwrap(), "eu-1 (2 partitions)");
    }

    #[test]
    fn a_leaderless_keyspace_is_always_ready() {
        let keyspace = keyspace(Model::Leaderless(Leaderless::defaults(6)));
        assert!(leaders_of(&keyspace, "user:", &[]).unwrap().contains("3 replicas"));
    }
}
