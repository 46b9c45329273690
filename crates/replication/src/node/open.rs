//! Starting a node from what its log holds.

use super::checkpoint::Checkpoint;
use super::forward::Forwards;
use super::gather::Gathers;
use super::groups::Groups;
use super::heartbeat::Peer;
use super::idle_mark::Rest;
use super::log_record::{self, Begin, Identity};
use super::lost_writes::LostQueries;
use super::routes::Routes;
use super::{Node, OpenError, Roles, Setup};
use crate::keyspace::protected::difference;
use crate::keyspace::{Cluster, Durability, Model};
use crate::leader_follower::{self, Group, GroupSetup};
use crate::leaderless::{self, Leaderless};
use crate::multi_leader::MultiLeader;
use crate::mutant::Mutant;
use crate::turn::{Local, Turn};
use crate::wire::Reader;
use crate::{Effects, Event, GroupId, NodeId, Position, Session, Time, replicas, token};
use alloc::borrow::Cow;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

const DAMAGED: &str = "the log was damaged where it had been on disk: what was in front of the \
    damage is kept, the rest is fetched from the other nodes; this node counts as a new disk until \
    they have admitted it";

/// Bits of an actor that name the disk; the node is above them.
const ACTOR_SHIFT: u32 = 48;

/// A node that is starting: it takes the records of its log, one after another, and keeps of each
/// what it means. Nothing is written or said before all are taken.
pub struct Starting {
    setup: Setup,
    now: Time,
    roles: Roles,
    /// The newest identity in the log.
    identity: Option<Identity>,
    /// The first record of the log.
    first: Option<Position>,
    /// From which record on the log is needed.
    begin: Option<Position>,
    /// What the log holds already counts towards the next checkpoint.
    log_bytes: u64,
}

impl Node {
    /// Starts a node from the records that its log holds, in order; an empty log makes a new node.
    /// Appends what must be durable before anything else is said.
    pub fn open<'a>(
        setup: Setup,
        log: impl Iterator<Item = (Position, &'a [u8])>,
        now: Time,
        effects: &mut dyn Effects,
    ) -> Result<Node, OpenError> {
        let mut starting = Starting::new(setup, now);
        for (position, record) in log {
            starting.take(position, record)?;
        }
        starting.open(effects)
    }
}

impl Starting {
    /// A node that has read nothing of its log.
    pub fn new(setup: Setup, now: Time) -> Starting {
        let mut roles = Roles::new(&setup);
        for peer in &mut roles.peers {
            peer.gaps.start(now);
        }
        let (identity, first, begin) = (None, None, None);
        Starting { setup, now, roles, identity, first, begin, log_bytes: 0 }
    }

    /// Takes the next record of the log.
    ///
    /// # Errors
    /// It makes no sense, or is another node's.
    pub fn take(&mut self, position: Position, record: &[u8]) -> Result<(), OpenError> {
        self.log_bytes += record.len() as u64;
        self.first = self.first.or(Some(position));
        let malformed = |_| OpenError::Malformed(position);
        let mut r = Reader(record);
        match r.u8().map_err(malformed)? {
            log_record::RECORD_KIND => {
                let identity = Identity::decode(&mut r).map_err(malformed)?;
                check_identity(&self.setup, &identity)?;
                self.identity = Some(identity);
            }
            leader_follower::log_record::RECORD_KIND => {
                let record =
                    leader_follower::log_record::LogRecord::decode(&mut r).map_err(malformed)?;
                if let Some(group) = self.roles.groups.get_mut(&record.group) {
                    group.replay(position, record).map_err(malformed)?;
                }
            }
            leaderless::RECORD_KIND => {
                self.roles.replay_leaderless(&mut r).map_err(malformed)?;
            }
            log_record::BEGIN_KIND => {
                let Begin { keep_from } = Begin::decode(&mut r).map_err(malformed)?;
                self.begin = self.begin.max(Some(keep_from));
            }
            log_record::GAPS_KIND => {
                self.roles.replay_gaps(&mut r, self.now).map_err(malformed)?;
            }
            log_record::IDLE_MARK_KIND => r.finish().map_err(malformed)?,
            _ => return Err(OpenError::Malformed(position)),
        }
        Ok(())
    }

    /// Whether nothing that is needed is missing in front of the records.
    fn beginning(&self) -> Result<(), OpenError> {
        match self.first {
            Some(first) if first > self.begin.unwrap_or(Position(1)) => {
                Err(OpenError::Beginning(first, self.begin))
            }
            _ => Ok(()),
        }
    }

    /// All records are taken: the node. Appends what must be durable before anything else is said.
    ///
    /// # Errors
    /// Something is missing in the log.
    pub fn open(self, effects: &mut dyn Effects) -> Result<Node, OpenError> {
        let beginning = self.beginning();
        let Starting { setup, now, mut roles, identity, log_bytes, .. } = self;
        let (unusable, begins_anew) = roles.finish_recovery(&setup, beginning)?;
        // What is damaged counts for nothing until its peers have repaired it: another disk.
        let identity = match identity {
            Some(known) if setup.damaged && !setup.mutants.is(Mutant::DamageIsTornTail) => {
                Some(Identity { incarnation: setup.new_incarnation, ..known })
            }
            known => known,
        };
        let empty = identity.is_none() || setup.damaged;
        // Above all before it, also where an old backup of the disk has forgotten some: the wall
        // clock has not.
        let boot = identity.as_ref().map_or(0, |identity| identity.boot) + 1;
        let boot = boot.max(now.wall_ms);
        let promised_us = identity.as_ref().map_or(0, |identity| identity.lease_us);
        let incarnation = identity.map_or(setup.new_incarnation, |identity| identity.incarnation);
        let lease_us = setup.timing.lease_us.max(promised_us);
        let identity = Identity { boot, incarnation, lease_us, ..identity_of(&setup) };
        roles.session = Session { incarnation, boot };
        let mut local = Local::new(setup.me, incarnation, setup.seed, setup.mutants);
        local.process = roles.session.number();
        local.appended_bytes = log_bytes;
        local.cluster = token::cluster_number(&setup.cluster);
        let actor = u64::from(setup.me.0) << ACTOR_SHIFT | incarnation.0 >> (64 - ACTOR_SHIFT);
        let mut turn = Turn { now, effects, local: &mut local };
        for group in roles.groups.values_mut() {
            if unusable.contains(&group.id) {
                group.forget(&mut turn);
            }
            group.start(&mut turn, boot, setup.may_have_lost_unsynced);
        }
        if setup.damaged {
            turn.event(Event::Alarm(Cow::Borrowed(DAMAGED)));
        }
        if let Some(begin) = begins_anew {
            turn.append(&begin.encode(), Durability::Fsync);
        }
        turn.local.identity_position = turn.append(&identity.encode(), Durability::Fsync);
        roles.checkpoint.identity = Some(identity);
        for leaderless in roles.leaderless.values_mut() {
            turn.local.longest_record = turn.local.longest_record.max(leaderless.longest_record());
            leaderless.set_actor(actor);
            if empty {
                // Whether others knew an earlier disk of this node or not: it fetches what they
                // hold before it answers a read.
                leaderless.set_ready(&mut turn, false);
            }
        }
        turn.local.last_input_us = now.monotonic_us;
        for group in roles.groups.values_mut() {
            group.promise_at_start(&turn, lease_us);
        }
        roles.promised_until_us = now.monotonic_us.saturating_add(lease_us);
        roles.heartbeat_due_us = now.monotonic_us;
        roles.gaps_due_us = now.monotonic_us.saturating_add(setup.timing.gaps_interval_us);
        Ok(Node { local, roles })
    }
}

fn identity_of(setup: &Setup) -> Identity {
    Identity {
        cluster: setup.cluster.name.clone(),
        node: setup.cluster.member(setup.me).map_or(String::new(), |member| member.name.clone()),
        incarnation: setup.new_incarnation,
        boot: 0,
        lease_us: setup.timing.lease_us,
        keyspaces: setup.cluster.describe(),
    }
}

impl Roles {
    fn new(setup: &Setup) -> Roles {
        let cluster = setup.cluster.clone();
        let placement: BTreeMap<GroupId, Vec<NodeId>> =
            replicas::all_groups(&cluster).into_iter().collect();
        let datacenter = cluster.member(setup.me).map(|member| member.datacenter);
        let mut roles = Roles {
            timing: setup.timing,
            limits: setup.limits,
            session: Session::default(),
            keyspaces_digest: cluster.digest(),
            datacenter: datacenter.unwrap_or(GroupId::EVERYWHERE),
            groups: Groups::default(),
            routes: Routes::default(),
            leaderless: BTreeMap::new(),
            multi_leader: MultiLeader::default(),
            placement,
            peers: alloc::vec![Peer::default(); cluster.members.len()],
            leaders: BTreeMap::new(),
            forwards: Forwards::default(),
            gathers: Gathers::default(),
            lost_queries: LostQueries::default(),
            checkpoint: Checkpoint::default(),
            heartbeat_due_us: 0,
            gaps_due_us: 0,
            rest: Rest::default(),
            promised_until_us: 0,
            cluster,
        };
        roles.join_groups(setup);
        roles.join_leaderless(setup);
        roles.routes = roles.routes_to_groups();
        roles
    }

    fn join_groups(&mut self, setup: &Setup) {
        let mut groups = Vec::new();
        for (id, members) in &self.placement {
            let Some(keyspace) = self.cluster.keyspace(id.keyspace) else { continue };
            let (options, merges) = match &keyspace.model {
                Model::LeaderFollower(options) => (&options.group, false),
                Model::MultiLeader(options) => (&options.group, true),
                Model::Leaderless(_) => continue,
            };
            if members.contains(&setup.me) {
                let group = Group::new(GroupSetup {
                    id: *id,
                    members: members.clone(),
                    options: options.clone(),
                    slots: keyspace.slots_of(id.partition),
                    seed: self.cluster.secret,
                    merges,
                    timing: self.timing,
                    limits: self.limits,
                });
                groups.push(group);
            }
        }
        self.groups = Groups::new(groups);
    }

    fn join_leaderless(&mut self, setup: &Setup) {
        for keyspace in &self.cluster.keyspaces {
            let Model::Leaderless(options) = &keyspace.model else { continue };
            let mine = self
                .placement
                .iter()
                .filter(|(id, nodes)| id.keyspace == keyspace.id && nodes.contains(&setup.me));
            let partitions: Vec<leaderless::Partition> = mine
                .map(|(id, nodes)| {
                    let (first_slot, last_slot) = keyspace.slots_of(id.partition);
                    let replicas = nodes.clone();
                    leaderless::Partition { group: *id, first_slot, last_slot, replicas }
                })
                .collect();
            if !partitions.is_empty() {
                let seed = self.cluster.secret;
                let leaderless = Leaderless::new(options, partitions, setup.me, 0, seed);
                self.leaderless.insert(keyspace.id, leaderless);
            }
        }
    }

    /// All records are read. Returns the groups of which a damaged log holds too little; and, where
    /// it lacks its beginning, too, so that nothing in it is of any use, that it begins anew.
    fn finish_recovery(
        &mut self,
        setup: &Setup,
        beginning: Result<(), OpenError>,
    ) -> Result<(Vec<GroupId>, Option<Begin>), OpenError> {
        match beginning {
            Ok(()) => {}
            Err(OpenError::Beginning(first, _)) if setup.damaged => {
                let all = self.groups.values_mut().map(|group| group.id).collect();
                return Ok((all, Some(Begin { keep_from: first })));
            }
            Err(error) => return Err(error),
        }
        let mut unusable = Vec::new();
        for group in self.groups.values_mut() {
            match group.finish_recovery() {
                Ok(()) => {}
                Err(_) if setup.damaged => unusable.push(group.id),
                Err(_) => return Err(OpenError::Malformed(Position(0))),
            }
        }
        Ok((unusable, None))
    }

    fn replay_leaderless(&mut self, r: &mut Reader<'_>) -> crate::wire::Read<()> {
        let keyspace = leaderless::keyspace_of_record(r)?;
        match self.leaderless.get_mut(&keyspace) {
            Some(leaderless) => leaderless.replay(r),
            None => Ok(()),
        }
    }
}

/// Whether a record says whose log it is in.
pub fn says_whose_log(record: &[u8]) -> bool {
    record.first() == Some(&log_record::RECORD_KIND)
}

/// Whether a node whose log is damaged can be repaired by its peers; `is_known`: whether a record
/// in front of the damage [says whose log it is](says_whose_log). Asked before anything is
/// changed: what only this node holds must not be thrown away.
///
/// # Errors
/// Why not.
pub fn check_repairable(cluster: &Cluster, me: NodeId, is_known: bool) -> Result<(), String> {
    if !is_known {
        return Err(String::from("nothing in front of the damage says whose log it is"));
    }
    let groups = replicas::all_groups(cluster);
    let alone = groups.iter().find(|(_, nodes)| nodes.as_slice() == [me]);
    let Some((group, _)) = alone else { return Ok(()) };
    let keyspace = cluster.keyspace(group.keyspace);
    let prefix = keyspace.map_or(String::new(), |k| k.prefix.escape_ascii().to_string());
    Err(format!("only this node holds keyspace \"{prefix}\", so no other one could repair it"))
}

/// A log that belongs to another node, cluster or table of keyspaces is refused.
fn check_identity(setup: &Setup, found: &Identity) -> Result<(), OpenError> {
    let mine = identity_of(setup);
    if (&mine.cluster, &mine.node) != (&found.cluster, &found.node) {
        return Err(OpenError::Foreign(format!(
            "the data directory belongs to node {} of cluster {}, not to node {} of cluster {}: \
             give this node its own directory",
            found.node, found.cluster, mine.node, mine.cluster
        )));
    }
    match difference(&mine.keyspaces, &found.keyspaces) {
        None => Ok(()),
        Some(difference) => Err(OpenError::Foreign(format!(
            "the data directory was written with other options ({difference}): stored keys would \
             move or quorums change, which this version cannot do; take the change back"
        ))),
    }
}
