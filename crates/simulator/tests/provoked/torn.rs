//! A leader acknowledges alone what its disk has not synced, and loses its power; another one
//! leads, and the old one comes back without what it had acknowledged. Somebody must tell of that.

use super::{MS, World, is_always_seen};
use replication::NodeId;
use replication::keyspace::{Acks, Durability, Failover, GroupOptions};
use replication::mutant::{Mutant, Mutants};
use simulator::checkers::lost_write_report;
use simulator::cluster::{Cluster, Plan};
use simulator::disk::Pace;
use simulator::history::History;
use simulator::lost_report::{self, Excuses};
use simulator::options::group;

/// A sync takes longer than a few writes: a power cut takes them.
const SYNC_US: (u64, u64) = (20 * MS, 40 * MS);
const WRITES: u64 = 5;

fn world(mutant: Option<Mutant>, seed: u64) -> World {
    let durability = Durability::Interval;
    let group = GroupOptions { durability, ..group(3, Acks::Async, Failover::Available) };
    let pace = Pace { sync_us: SYNC_US, ..Pace::quick() };
    let mutants = mutant.map_or(Mutants::default(), Mutants::plant);
    let cluster = Plan { pace, mutants, ..Plan::of_three(group) }.build(seed);
    World { cluster, operations: Vec::new() }
}

fn leads_since(cluster: &Cluster, epoch: u64) -> Option<NodeId> {
    cluster.node_where(|group| group.is_serving() && group.epoch() > epoch)
}

/// What the checker says of the reports in the end; `None` where the power cut took nothing.
fn a_power_cut(mutant: Option<Mutant>, seed: u64) -> Option<Result<(), String>> {
    let mut world = world(mutant, seed);
    assert!(world.run_until(|world| leads_since(&world.cluster, 0).is_some()));
    let old = leads_since(&world.cluster, 0)?;
    let epoch = world.cluster.epoch(old);
    assert!(world.write(old, "~first;"));
    world.run(100 * MS);
    world.cluster.cut(old, true);
    for number in 0..WRITES {
        assert!(world.write(old, &format!("~{number};")));
    }
    let last = world.cluster.last_index(old);
    world.cluster.crash(old, true);
    assert!(world.run_until(|world| leads_since(&world.cluster, epoch).is_some()));
    world.cluster.start(old);
    assert!(world.run_until(|world| world.cluster.group(old).is_some()));
    if world.cluster.last_index(old) >= last {
        return None;
    }
    world.cluster.cut(old, false);
    let is_back = |world: &World| {
        let (new, group) = (leads_since(&world.cluster, epoch), world.cluster.group(old));
        let end = new.and_then(|new| world.cluster.group(new)).map(|group| group.last().index);
        group.is_some_and(|group| !group.is_suspect() && Some(group.commit()) >= end)
    };
    assert!(world.run_until(is_back));
    world.run(1_000 * MS);
    Some(verdict(&mut world))
}

fn verdict(world: &mut World) -> Result<(), String> {
    let mut history = History::default();
    let requests = world.operations.iter().enumerate();
    // Each was the only one on its connection.
    history.requests = requests.map(|(number, o)| ((o.connection, 0), number)).collect();
    history.operations = world.operations.clone();
    let list = world.cluster.ask(NodeId(0), &["TF.LOST", "LIST"]).ok_or("no answer")?;
    let listed = lost_report::reports(&list, &Excuses::of(&world.cluster))?;
    let (reports, told) = listed.ok_or("a node is not reached")?;
    let truth = lost_report::truth(&world.cluster);
    lost_write_report::check(&history, &truth, &reports, &told)
}

#[test]
fn a_torn_disk_that_is_heard_out_is_seen() {
    let words = "was acknowledged and is lost, and nobody reports it";
    is_always_seen(a_power_cut, 40, Mutant::TornHeardOut, words);
}
