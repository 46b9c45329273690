//! Which checker judges what, by model and key.

use crate::checkers::{
    Verdict, acks, counters, fading, follower_reads, leaders, leadership, lost_writes, outcomes,
    possible_loss, quorum_reads, superseded, surveys, surviving_reads, visible_copies, waits, wgl,
    zones,
};
use crate::history::{Action, History, Operation, Outcome};
use crate::observe::{Observations, tokens};
use crate::options::{ModelName, Options};
use crate::promises;
use crate::workload::Kind;
use replication::keyspace::Reads;
use replication::quorum::{self, Quorum};
use std::collections::{BTreeMap, BTreeSet};

/// What every key reads in the end.
pub type End = BTreeMap<String, Option<String>>;

/// What a leader-follower keyspace promises: its checkers go by it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Promises {
    /// No failover loses an acknowledged write: A + E > N.
    pub acknowledged_survives: bool,
    /// What is acknowledged is committed, and reads are the leader's.
    pub linearizable: bool,
    /// Clients remove all keys now and then.
    pub flushes: bool,
}

/// Judges a run.
///
/// # Errors
/// The first violation, in words.
pub fn judge(options: &Options, history: &History, seen: &Observations, end: &End) -> Verdict {
    let (questions, operations) = (&history.questions, &history.operations);
    match seen.losses.iter().map(|loss| loss.at_us).max() {
        None => outcomes::check(questions, operations, (&seen.commits, &seen.asked), end)?,
        Some(since_us) => outcomes::check_since(since_us, questions, operations, end)?,
    }
    acks_mean_copies(options, history, seen)?;
    visible_copies::check(history, &options.plan.cluster, seen)?;
    waits::check(options, history, seen, end)?;
    let all = history;
    let history = &*promises::without_weak_oks(all);
    leadership::one_leader_per_epoch(&seen.leaderships)?;
    leaders_know(options, history, seen)?;
    possible_loss::announced_with_cause(options, seen)?;
    let mut kept = seen.commits.clone();
    kept.retain(|commit| !possible_loss::has_lost(seen, commit.group.keyspace));
    leadership::committed_prefix(&kept)?;
    leadership::exactly_once(&kept)?;
    for key in history.keys() {
        let value = end.get(key).and_then(|value| value.as_deref());
        let keyspace = options.plan.cluster.keyspace_of(key.as_bytes());
        if keyspace.is_some_and(|keyspace| possible_loss::has_lost(seen, keyspace.id)) {
            nothing_refused_is_read(history, key)?;
            possible_loss::later_writes_survive(options, history, seen, key, value)?;
            continue;
        }
        match options.model {
            ModelName::LeaderFollower => {
                leader_follower(promises_of(options, key), history, key, value)?;
                let is_zoned = Kind::of(key).is_some_and(|kind| kind.is_zoned());
                if is_zoned && groups(options) == 1 && !options.flushes {
                    reads_and_losses(options, all, seen, key)?;
                }
            }
            ModelName::MultiLeader => multi_leader(options, history, seen, key, value)?,
            ModelName::Leaderless => leaderless(options, history, seen, key, value)?,
        }
    }
    if options.model == ModelName::Leaderless {
        // What a crash took before anybody else had heard of it may leave its name to another.
        let mut spread = seen.written.clone();
        spread.values_mut().for_each(|names| names.retain(|name| name.spread));
        leadership::one_value_per_name(&spread)?;
    }
    let leased = options.plan.cluster.keyspaces.iter().filter_map(|k| k.model.group());
    let unsure = options.families.breaks_leases() && leased.into_iter().any(|group| group.leases);
    let all_linearizable = !unsure
        && options.quorums().all(|quorum| quorum.commit <= quorum.acks)
        && !history.keys().into_iter().any(|key| reads_of_followers(options, key));
    let leads = options.model == ModelName::LeaderFollower;
    let all_survives = all_survives(options) && seen.losses.is_empty();
    surveys::check(history, leads && all_linearizable && all_survives)?;
    let ends = |key| end.get(key).cloned().flatten();
    if leads {
        follower_reads::check_order(options, all, seen)?;
    }
    if leads && ends("{pair}:0") != ends("{pair}:1") {
        return Err(format!("an MSET was carried out by half: {end:?}"));
    }
    if leads && groups(options) == 1 {
        leadership::one_value_per_name(&seen.written)?;
        loss(history, seen, end)?;
    }
    Ok(())
}

/// Who leads may, and who may no longer knows it.
fn leaders_know(options: &Options, history: &History, seen: &Observations) -> Verdict {
    leaders::unfit_ones_go(seen)?;
    if !options.families.breaks_leases() {
        leaders::leases_are_disjoint(seen)?;
        leaders::deposed_ones_answer_no_reads(history, &options.plan.cluster, seen)?;
    }
    Ok(())
}

/// Of a key that is only SET and read: reads see what no failover has lost, whatever else it has;
/// and those of followers see nothing that it may lose.
fn reads_and_losses(
    options: &Options,
    history: &History,
    seen: &Observations,
    key: &str,
) -> Verdict {
    let committed = seen.commits.iter().map(|commit| commit.entry).collect();
    if !reads_of_followers(options, key) {
        return surviving_reads::check(key, history.of(key), &seen.written, &committed);
    }
    // The leader shows what may be lost, where A < C.
    let quorum = options.quorum_of(key);
    let all_show_committed = quorum.is_some_and(|quorum| quorum.commit <= quorum.acks);
    let keyspace = options.plan.cluster.keyspace_of(key.as_bytes()).map(|keyspace| keyspace.id);
    let by_followers = seen.shown_by_followers(|group| Some(group.keyspace) == keyspace);
    let reads = history.requests.iter().filter_map(|(request, place)| {
        let operation = history.operations.get(*place).filter(|o| o.key == key)?;
        (all_show_committed || by_followers.contains(request)).then_some(operation)
    });
    follower_reads::check(key, reads, &seen.written, &committed)
}

/// In all groups. Only a seed with one group degrades.
fn acks_mean_copies(options: &Options, history: &History, seen: &Observations) -> Verdict {
    if let Some(group) = promises::group_of(options) {
        acks::check_below(&seen.below, &Quorum::of(group))?;
    }
    let options_of = |operation: &Operation| {
        options.plan.cluster.keyspace_of(operation.key.as_bytes())?.model.group()
    };
    acks::check(history.operations.iter(), options_of, &seen.below)
}

/// Whether any replica answers the reads of a key.
pub fn reads_of_followers(options: &Options, key: &str) -> bool {
    let keyspace = options.plan.cluster.keyspace_of(key.as_bytes());
    let group = keyspace.and_then(|keyspace| keyspace.model.group());
    group.is_some_and(|group| group.reads == Reads::Follower)
}

fn all_survives(options: &Options) -> bool {
    options.quorums().all(|quorum| quorum.acknowledged_survives())
}

fn groups(options: &Options) -> u16 {
    options.plan.cluster.keyspaces.iter().map(|keyspace| keyspace.partitions()).sum()
}

fn promises_of(options: &Options, key: &str) -> Promises {
    let quorum = options.quorum_of(key);
    let of_leaders = !reads_of_followers(options, key);
    Promises {
        acknowledged_survives: quorum.is_some_and(|quorum| quorum.acknowledged_survives()),
        linearizable: of_leaders && options.is_linearizable(key),
        flushes: options.flushes,
    }
}

/// Judges one key of a leader-follower keyspace, whose kind its name tells ([`Kind::of`]), by what
/// clients saw of it and by what it reads in the end.
///
/// # Errors
/// The first violation, in words.
pub fn leader_follower(
    promises: Promises,
    history: &History,
    key: &str,
    end: Option<&str>,
) -> Verdict {
    let Promises { acknowledged_survives: survives, linearizable, flushes } = promises;
    nothing_refused_is_read(history, key)?;
    match Kind::of(key) {
        Some(Kind::Register | Kind::Pair) if linearizable && !flushes => {
            zones::check(key, history.of(key))
        }
        Some(Kind::Fading) if linearizable => fading::check(key, history.of(key)),
        Some(Kind::List) => {
            lost_writes::check(key, history.of(key), end, survives)?;
            if linearizable { wgl::check(key, to_order(history, key, end)) } else { Ok(()) }
        }
        Some(Kind::Counter) => {
            counters::check_answers(key, history.of(key), |_, _| false)?;
            if survives {
                counters::check(key, history.of(key), end)?;
            }
            if linearizable { wgl::check(key, history.of(key)) } else { Ok(()) }
        }
        Some(Kind::Once) => {
            let appended =
                history.of(key).all(|o| matches!(o.action, Action::Append(_) | Action::Get));
            if appended {
                lost_writes::check(key, history.of(key), end, survives)?;
            }
            if linearizable { wgl::check(key, history.of(key)) } else { Ok(()) }
        }
        Some(Kind::Mixed) if linearizable => wgl::check(key, history.of(key)),
        _ => Ok(()),
    }
}

/// The commands on a key that have to have an order. What is not in a list in the end was never in
/// it: fewer orders to look at.
fn to_order<'a>(
    history: &'a History,
    key: &'a str,
    end: Option<&'a str>,
) -> impl Iterator<Item = &'a Operation> {
    let is_list = matches!(Kind::of(key), Some(Kind::List));
    history.of(key).filter(move |operation| {
        let value = operation.action.value();
        let is_there = value.is_some_and(|value| end.unwrap_or("").contains(value));
        !is_list || operation.is_done() || value.is_none() || is_there
    })
}

/// For each key of leader-follower keyspaces whose commands' order was searched: whether the search
/// ended. Where it gave up, nothing is known of the order.
pub fn orders_found(
    options: &Options,
    history: &History,
    seen: &Observations,
    end: &End,
) -> Vec<bool> {
    let is_searched = |key: &&str| {
        let keyspace = options.plan.cluster.keyspace_of(key.as_bytes());
        promises_of(options, key).linearizable
            && !keyspace.is_some_and(|keyspace| possible_loss::has_lost(seen, keyspace.id))
            && matches!(Kind::of(key), Some(Kind::List | Kind::Counter | Kind::Once | Kind::Mixed))
    };
    let history = &*promises::without_weak_oks(history);
    let keys = history.keys().into_iter().filter(is_searched);
    let value = |key: &str| end.get(key).and_then(|value| value.as_deref());
    keys.map(|key| !wgl::gives_up(to_order(history, key, value(key)))).collect()
}

fn multi_leader(
    options: &Options,
    history: &History,
    seen: &Observations,
    key: &str,
    end: Option<&str>,
) -> Verdict {
    let survives = options.quorum().is_some_and(|quorum| quorum.acknowledged_survives());
    let linearizable = options.is_linearizable(key);
    nothing_refused_is_read(history, key)?;
    let here =
        |told: &Operation, other: &Operation| linearizable && told.datacenter == other.datacenter;
    match Kind::of(key) {
        Some(Kind::Counter) => {
            counters::check_answers(key, history.of(key), here)?;
            if survives { counters::check(key, history.of(key), end) } else { Ok(()) }
        }
        Some(kind) if survives && kind != Kind::Fading => {
            superseded::check(key, history.of(key), end)?;
            if kind != Kind::Register || !linearizable {
                return Ok(());
            }
            for number in 0..options.plan.cluster.datacenters.len() {
                let local = move |o: &&Operation| usize::from(o.datacenter.0) == number;
                let operations = history.of(key).filter(local);
                quorum_reads::check_datacenter(key, operations, |value| seen.stamp_of(value))?;
            }
            Ok(())
        }
        _ => Ok(()),
    }
}

fn leaderless(
    options: &Options,
    history: &History,
    seen: &Observations,
    key: &str,
    end: Option<&str>,
) -> Verdict {
    nothing_refused_is_read(history, key)?;
    let Some((n, w, r)) = options.leaderless() else { return Ok(()) };
    let history = &*promises::without_what_power_cuts_took(options, history, seen);
    match Kind::of(key) {
        Some(Kind::Register | Kind::Deleted) if quorum::reads_see_writes(n, w, r) => {
            quorum_reads::check(key, history.of(key), |value| seen.stamp_of(value))
        }
        Some(Kind::Counter) => {
            let overlap = quorum::reads_see_writes(n, w, r);
            counters::check_answers(key, history.of(key), |_, _| overlap)?;
            counters::check(key, history.of(key), end)
        }
        _ => Ok(()),
    }
}

/// Values that were refused, or that nobody wrote, are never read; whatever the model.
fn nothing_refused_is_read(history: &History, key: &str) -> Verdict {
    if Kind::of(key) == Some(Kind::Counter) {
        return Ok(());
    }
    let mut possible: BTreeMap<&str, &Outcome> = BTreeMap::new();
    for operation in history.of(key) {
        if let Some(value) = operation.action.value() {
            possible.insert(value, &operation.outcome);
        }
    }
    for operation in history.of(key) {
        for value in operation.read().flatten().map(|v| tokens(v.as_bytes())).into_iter().flatten()
        {
            match possible.get(value.as_str()) {
                None => return Err(format!("{key}: nobody wrote {value}, and it was read")),
                Some(Outcome::Refused(why)) => {
                    return Err(format!("{key}: {value} was refused ({why}), and it was read"));
                }
                Some(_) => {}
            }
        }
    }
    Ok(())
}

/// What is lost of the keys that are only appended to is a suffix of what their leader logged.
fn loss(history: &History, seen: &Observations, end: &End) -> Verdict {
    let lists: BTreeSet<String> = history
        .operations
        .iter()
        .filter_map(|operation| match &operation.action {
            // One under a name may be logged again after its loss.
            Action::Append(value) if Kind::of(&operation.key) == Some(Kind::List) => {
                Some(value.clone())
            }
            _ => None,
        })
        .collect();
    let survivors: BTreeSet<String> = end
        .iter()
        .filter(|(key, _)| Kind::of(key) == Some(Kind::List))
        .filter_map(|(_, value)| value.as_deref())
        .flat_map(|value| tokens(value.as_bytes()))
        .collect();
    lost_writes::loss_is_a_suffix(&seen.written, &lists, &survivors)
}
