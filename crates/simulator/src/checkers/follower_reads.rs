//! Reads of followers are stale, but not of what may be lost: each value that was read is, or comes
//! to be, committed. And they are stale in the log's order: what a follower shows of a group is
//! what the log comes to up to some entry, which moves on only, also from one of its processes to
//! the next (trap A22).

use super::Verdict;
use super::surviving_reads::entry_of;
use crate::history::{Action, History, Operation};
use crate::judge;
use crate::observe::{Observations, Written, tokens};
use crate::options::Options;
use crate::workload::Kind;
use replication::keyspace::slot::slot_of;
use replication::version::EntryId;
use replication::{GroupId, NodeId};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// Checks the reads of one key that is only SET and read: those that followers have answered, and
/// those of a leader that shows only what is committed, too (C <= A). `committed` are the entries
/// that somebody took for committed, `written` the names of the values.
pub fn check<'a>(
    key: &str,
    operations: impl Iterator<Item = &'a Operation>,
    written: &BTreeMap<String, Vec<Written>>,
    committed: &BTreeSet<EntryId>,
) -> Verdict {
    for read in operations.filter(|operation| operation.action == Action::Get) {
        let Some(Some(value)) = read.read() else { continue };
        let names = written.get(value).into_iter().flatten().map(|written| entry_of(written.dot));
        let names: Vec<EntryId> = names.collect();
        // Of what has left a log in the turn that committed it, nobody took note.
        let is_replaced = |name: &EntryId| {
            let in_its_place = committed.iter().any(|other| other.index == name.index);
            in_its_place && !committed.contains(name)
        };
        if !names.is_empty() && names.iter().all(is_replaced) {
            return Err(format!(
                "{key}: a read asked at {} us saw {value}, of {names:?}, which was never committed",
                read.invoked_us
            ));
        }
    }
    Ok(())
}

/// Where in a group's log somebody was.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Place {
    asked_us: u64,
    told_us: u64,
    /// He had this entry, or one behind it.
    from: u64,
    /// And not yet this one.
    before: u64,
    key: String,
    value: Option<String>,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Place { asked_us, told_us, from, before, key, value } = self;
        write!(f, "{key} = {value:?}, asked at {asked_us} us, told at {told_us} us: ")?;
        match before {
            &u64::MAX => write!(f, "from entry {from} on"),
            _ => write!(f, "from entry {from} on, and before entry {before}"),
        }
    }
}

/// What each follower shows from its own copy goes along the group's log; and so do the writes of
/// each client, so that nobody who sees one of them misses an earlier one. For keys that are only
/// SET or appended to, in keyspaces that have lost nothing that was committed.
///
/// # Errors
/// The first two answers that cannot both be right.
pub fn check_order(options: &Options, history: &History, seen: &Observations) -> Verdict {
    let logs = Logs::of(options, history, seen);
    let mut shown: BTreeMap<(NodeId, GroupId), Vec<Place>> = BTreeMap::new();
    for (request, place) in &history.requests {
        let Some(read) = history.operations.get(*place) else { continue };
        let Some(place) = logs.place_of_read(read) else { continue };
        let Some(group) = logs.group_of(&read.key) else { continue };
        let led = seen.led_at_answer.get(request).map_or(&[][..], |(_, led)| led);
        let is_own = !seen.handed_on.contains(request)
            && !seen.answered_while_leaving.contains(request)
            && !led.iter().any(|(led, _)| *led == group);
        if is_own {
            shown.entry((read.node, group)).or_default().push(place);
        }
    }
    for ((node, _), places) in shown {
        goes_on(places).map_err(|text| format!("the copy of {node} goes back: {text}"))?;
    }
    let mut written: BTreeMap<(usize, GroupId), Vec<Place>> = BTreeMap::new();
    for write in history.operations.iter().filter(|o| o.is_done() && o.action.is_write()) {
        if let (Some(place), Some(group)) = (logs.place_of_write(write), logs.group_of(&write.key))
        {
            written.entry((write.client, group)).or_default().push(place);
        }
    }
    for ((client, _), places) in written {
        goes_on(places)
            .map_err(|text| format!("client {client}'s writes change places: {text}"))?;
    }
    Ok(())
}

/// Whoever was told something before something else was asked was not further on then.
fn goes_on(mut places: Vec<Place>) -> Verdict {
    let mut by_end = places.clone();
    by_end.sort_by_key(|place| place.told_us);
    places.sort_by_key(|place| place.asked_us);
    let mut earlier = by_end.iter().peekable();
    let mut furthest: Option<&Place> = None;
    for place in &places {
        while let Some(other) = earlier.next_if(|other| other.told_us < place.asked_us) {
            furthest = furthest.filter(|so_far| so_far.from >= other.from).or(Some(other));
        }
        if let Some(other) = furthest.filter(|other| other.from >= place.before) {
            return Err(format!("{other}; and later {place}"));
        }
    }
    Ok(())
}

/// The committed logs of groups whose followers answer reads, as far as the checked keys are
/// concerned.
struct Logs<'a> {
    options: &'a Options,
    groups: BTreeSet<GroupId>,
    /// Where the values are.
    places: BTreeMap<&'a str, u64>,
    /// The writes of each key.
    writes: BTreeMap<&'a str, BTreeSet<u64>>,
}

impl<'a> Logs<'a> {
    fn of(options: &'a Options, history: &'a History, seen: &Observations) -> Logs<'a> {
        let committed: BTreeSet<(GroupId, EntryId)> =
            seen.commits.iter().map(|commit| (commit.group, commit.entry)).collect();
        let lost: BTreeSet<_> = seen.losses.iter().map(|loss| loss.group.keyspace).collect();
        let groups = committed.iter().map(|(group, _)| *group);
        let groups = groups.filter(|group| !lost.contains(&group.keyspace)).collect();
        let (places, writes) = (BTreeMap::new(), BTreeMap::new());
        let mut logs = Logs { options, groups, places, writes };
        for write in history.operations.iter().filter(|operation| is_judged(options, operation)) {
            let Some(value) = write.action.value() else { continue };
            let Some(group) = logs.group_of(&write.key) else { continue };
            let names = seen.written.get(value).into_iter().flatten();
            let mut names = names.map(|written| entry_of(written.dot));
            if let Some(name) = names.find(|name| committed.contains(&(group, *name))) {
                logs.places.insert(value, name.index);
                logs.writes.entry(&write.key).or_default().insert(name.index);
            }
        }
        logs
    }

    fn group_of(&self, key: &str) -> Option<GroupId> {
        let keyspace = self.options.plan.cluster.keyspace_of(key.as_bytes())?;
        let partition = keyspace.partition_of(slot_of(key.as_bytes()));
        let is_it = |id: &&GroupId| id.keyspace == keyspace.id && id.partition == partition;
        self.groups.iter().find(is_it).copied()
    }

    /// Where somebody was who has answered a read.
    fn place_of_read(&self, read: &Operation) -> Option<Place> {
        if read.action != Action::Get || !is_judged(self.options, read) {
            return None;
        }
        let value = read.read()?;
        let newest = value.map(|value| tokens(value.as_bytes()).pop()).unwrap_or_default();
        // Of what nobody was seen to commit, it is not known where it is.
        let from = match value {
            Some(_) => *self.places.get(newest?.as_str())?,
            None => 0,
        };
        let later = self.writes.get(read.key.as_str()).and_then(|w| w.range(from + 1..).next());
        Some(Self::place(read, value, from, later.copied().unwrap_or(u64::MAX)))
    }

    /// Where an acknowledged write is.
    fn place_of_write(&self, write: &Operation) -> Option<Place> {
        let value = write.action.value()?;
        let index = *self.places.get(value)?;
        Some(Self::place(write, Some(value), index, index))
    }

    fn place(operation: &Operation, value: Option<&str>, from: u64, before: u64) -> Place {
        Place {
            asked_us: operation.invoked_us,
            told_us: operation.returned_us,
            from,
            before,
            key: operation.key.clone(),
            value: value.map(String::from),
        }
    }
}

/// Whether an operation's key is one of those that are only SET or appended to, and read on
/// followers.
fn is_judged(options: &Options, operation: &Operation) -> bool {
    !options.flushes
        && judge::reads_of_followers(options, &operation.key)
        && matches!(Kind::of(&operation.key), Some(Kind::Register | Kind::Pair | Kind::List))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkers::fixtures::written;
    use crate::checkers::wgl::tests::operation;
    use crate::history::{Answer, Outcome};

    #[test]
    fn what_is_never_committed_is_seen() {
        let names = BTreeMap::from([(String::from("~a;"), vec![written(2, 7)])]);
        let answer = Answer::Value(Some(String::from("~a;")));
        let read = operation(Action::Get, Outcome::Done(answer), 5, 6);
        let verdict = |committed: &[EntryId]| {
            check("k", [&read].into_iter(), &names, &committed.iter().copied().collect())
        };
        assert!(verdict(&[EntryId { epoch: 2, index: 7 }]).is_ok());
        assert!(verdict(&[EntryId { epoch: 3, index: 7 }]).is_err());
    }

    fn place(asked_us: u64, from: u64, before: u64) -> Place {
        let (key, value) = (String::from("k"), None);
        Place { asked_us, told_us: asked_us + 5, from, before, key, value }
    }

    #[test]
    fn a_copy_that_goes_back_is_seen() {
        let verdict = |places: &[Place]| goes_on(places.to_vec());
        assert!(verdict(&[place(10, 4, 9), place(20, 2, 5), place(30, 8, 12)]).is_ok());
        assert!(verdict(&[place(10, 4, 9), place(20, 0, 4)]).is_err(), "entry 4 was there");
        assert!(verdict(&[place(20, 0, 4), place(10, 4, 9)]).is_err(), "in whatever order");
        assert!(verdict(&[place(10, 4, 9), place(14, 0, 4)]).is_ok(), "both at once");
        let between = [place(10, 4, 9), place(20, 1, u64::MAX), place(30, 0, 4)];
        assert!(verdict(&between).is_err(), "whatever came between them");
    }
}
