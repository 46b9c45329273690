//! What a leader-follower group guarantees: of the home, or of each datacenter.

use super::claim::{ARITHMETIC, Claims};
use super::{nodes, votes};
use crate::keyspace::{AckLevel, Durability, Failover, GroupOptions, MissingAcks, Reads};
use crate::node::Timing;
use crate::quorum::Quorum;
use alloc::format;
use alloc::string::{String, ToString};

/// Which checkers see a group's promises: they judge a keyspace as its clients see it.
pub(super) struct Holders {
    /// That acks are copies.
    pub(super) acks: &'static [&'static str],
    /// That what was acknowledged survives.
    pub(super) survival: &'static [&'static str],
    /// That reads see it.
    pub(super) reads: &'static [&'static str],
}

/// Of a leader-follower keyspace.
pub(super) const LEADER_FOLLOWER: Holders =
    Holders { acks: &["acks"], survival: &["lost_writes"], reads: &["zones", "wgl", "leaders"] };

/// Of a multi-leader keyspace, within a datacenter.
/// Within a datacenter the loss of an acknowledged write is what shows that an ack was no copy.
pub(super) const MULTI_LEADER: Holders = Holders {
    acks: &["superseded", "counters"],
    survival: &["superseded", "counters"],
    reads: &["quorum_reads", "leaders"],
};

/// One group.
pub(super) fn explain_group(
    options: &GroupOptions,
    place: &str,
    holders: &Holders,
    claims: &mut Claims,
) {
    let quorum = Quorum::of(options);
    let Quorum { replicas: n, acks: a, election: e, commit: c } = quorum;
    claims.plain(format!(
        "In {place}: N = {n} replicas; one of them leads and orders the writes, the others copy \
         its log."
    ));
    explain_acks(options, &quorum, holders, claims);
    explain_missing_acks(options, &quorum, holders.acks, claims);
    claims.heading("Failover");
    let majority = n / 2 + 1;
    let election = match options.failover {
        Failover::Safe => format!("failover = safe: the larger of N - A + 1 and {majority}"),
        Failover::Available => format!("failover = available: a majority of {n}"),
    };
    claims.add(
        &["leadership"],
        format!("E = {e} ({election}): a new leader needs {e} {}.", votes(e)),
    );
    claims.add(
        &["leadership"],
        format!(
            "C = {c} (N - E + 1): a write that {c} of {n} replicas durably have is committed; no \
             failover loses it, because C + E > N."
        ),
    );
    explain_nodes_down(options, &quorum, claims);
    explain_unfit_leaders(options, &quorum, claims);
    claims.heading("What can be lost");
    explain_failover(options, &quorum, holders.survival, claims);
    let copies = match options.ack_level {
        AckLevel::Received => 0,
        _ if degrades(options) => quorum.degraded(),
        _ => a,
    };
    explain_durability(options.durability, copies, holders.survival, claims);
    explain_power_cuts(options, &quorum, claims);
    claims.heading("Reads");
    claims.add(
        &["visible_copies"],
        format!(
            "A write is visible from min(A, C) = {} durable copies on, whatever its writer waits \
             for.",
            a.min(c)
        ),
    );
    explain_reads(options, &quorum, holders, claims);
    explain_leases(options, &quorum, holders.reads, claims);
}

/// Whether acks that are missing may be lowered.
fn degrades(options: &GroupOptions) -> bool {
    let quorum = Quorum::of(options);
    options.missing_acks == MissingAcks::Degrade && quorum.degraded() < quorum.acks
}

/// What a writer waits for.
fn explain_acks(options: &GroupOptions, quorum: &Quorum, holders: &Holders, claims: &mut Claims) {
    claims.heading("Acknowledgement");
    let (n, a, acks, level) = (quorum.replicas, quorum.acks, options.acks, options.ack_level);
    let when = match level {
        AckLevel::Received => "have the write in memory",
        AckLevel::Durable => "durably have the write",
        AckLevel::Applied => "show the write to readers, which they do when it is committed",
    };
    claims.add(
        holders.acks,
        format!(
            "A = {a} (acks = {acks}, ack-level = {level}): a writer is told OK when {a} of {n} \
             replicas {when}, the leader included."
        ),
    );
    claims.add(
        holders.acks,
        match options.weaker_acks {
            false => "weaker-acks = false: by TF.WITH a command may ask for more acks or a higher \
                      level, never for less."
                .to_string(),
            true => format!(
                "weaker-acks = true: by TF.WITH a command may ask for fewer than {a} acks, or for \
                 a lower level. Its OK is then OUTSIDE OF THE GUARANTEE: a failover CAN LOSE the \
                 write unless E = {} votes cannot miss the replicas that durably had it.",
                quorum.election
            ),
        },
    );
}

fn explain_nodes_down(options: &GroupOptions, quorum: &Quorum, claims: &mut Claims) {
    let failover = quorum.failover_tolerates();
    let (writes, how) = match degrades(options) {
        true => (quorum.replicas - quorum.commit, ", then with acks that are lowered"),
        false => (quorum.writes_tolerate(), ""),
    };
    let reads = match options.reads {
        // A leader shows that it leads by a round that C replicas answer, itself included.
        Reads::Leader => quorum.replicas - quorum.commit,
        Reads::Follower => quorum.replicas - 1,
    };
    claims.add(
        ARITHMETIC,
        format!(
            "While the leader is up, writes go on with {writes} other {} down{how}, reads with \
             {reads}.",
            nodes(writes)
        ),
    );
    let text = match failover {
        0 => "If the leader is down, nobody can take over until it is back.".to_string(),
        _ => format!(
            "If the leader is down, another one takes over by itself with {failover} {} down, the \
             old leader included; then writes go on with {} down in all.",
            nodes(failover),
            failover.min(writes)
        ),
    };
    claims.add(ARITHMETIC, text);
}

fn explain_failover(
    options: &GroupOptions,
    quorum: &Quorum,
    holders: &[&str],
    claims: &mut Claims,
) {
    let Quorum { replicas: n, acks: a, election: e, commit: c } = *quorum;
    match options.ack_level {
        AckLevel::Received => claims.add(
            holders,
            format!(
                "A crash or a failover CAN LOSE acknowledged writes, whatever A + E is: an OK at \
                 ack-level = received is OUTSIDE OF THE GUARANTEE, as no replica needs to have the \
                 write durably. Lost are the newest ones, those that fewer than C = {c} replicas \
                 durably had."
            ),
        ),
        AckLevel::Applied => claims.add(
            holders,
            "No failover loses an acknowledged write: only what is committed is applied."
                .to_string(),
        ),
        AckLevel::Durable if quorum.acknowledged_survives() => claims.add(
            holders,
            format!("No failover loses an acknowledged write: A + E = {} > N = {n}.", a + e),
        ),
        AckLevel::Durable => claims.add(
            holders,
            format!(
                "A failover CAN LOSE acknowledged writes: A + E = {} is not more than N = {n}. \
                 Lost are the newest ones, those that fewer than C = {c} replicas had when the \
                 leader failed.",
                a + e
            ),
        ),
    }
    claims.add(
        &["lost_write_report", "unheard"],
        "What an old leader must cut when it returns is kept aside and reported once, with who \
         wrote it and whether it had been acknowledged: TF.LOST LIST. Until it returns, and after \
         that if its disk is gone or a power cut may have torn it, LIST says that acknowledged \
         writes may be lost with it, how \
         many entries at least were heard of, and how many writes it can be at most; not \
         where its acks and the votes for the next leader had a node in common (A + votes > N).",
    );
}

/// What becomes of copies when power fails or disks are lost; `copies` had counted.
pub(super) fn explain_durability(
    durability: Durability,
    copies: usize,
    holders: &[&str],
    claims: &mut Claims,
) {
    match durability {
        Durability::Fsync => claims.add(
            holders,
            "durability = fsync: a copy counts when it is on disk. Neither a crash of processes \
             nor a power cut takes a copy that counted, be it on all nodes at once.",
        ),
        Durability::Interval => claims.add(
            holders,
            "durability = interval-1s: a copy counts when the operating system has it, which syncs \
             once a second. A crash of processes takes nothing; a power cut CAN TAKE the copies of \
             the last second from each node that it hits.",
        ),
    }
    match copies {
        0 => claims.add(
            ARITHMETIC,
            "At the moment of OK there need be no durable copy: if the processes that have the \
             write in memory crash, it is lost.",
        ),
        1 => claims.add(
            ARITHMETIC,
            "At the moment of OK one copy may be all there is: if its disk is destroyed before \
             others have copied it, the write is lost.",
        ),
        _ => claims.add(
            ARITHMETIC,
            format!(
                "At the moment of OK there are {copies} copies or more: with {} of their disks \
                 destroyed there is still one.",
                copies - 1
            ),
        ),
    }
}

/// What a power cut costs the group where copies count before they are on disk.
fn explain_power_cuts(options: &GroupOptions, quorum: &Quorum, claims: &mut Claims) {
    if options.durability == Durability::Fsync {
        return;
    }
    let (n, e) = (quorum.replicas, quorum.election);
    let spare = n.saturating_sub(e);
    claims.add(
        &["possible_loss"],
        match (options.failover, spare) {
            (Failover::Available, _) => format!(
                "A node that lost its power neither votes nor acknowledges until it has back what \
                 it may have lost; but where {e} such votes are all that can be had, they elect \
                 (failover = available), which CAN LOSE writes of the last second. That leader \
                 says POSSIBLE LOSS."
            ),
            (Failover::Safe, 0) => format!(
                "A power cut of any of the {n} nodes CAN LOSE writes of the last second. The next \
                 leader then says POSSIBLE LOSS."
            ),
            (Failover::Safe, _) => format!(
                "A node that lost its power neither votes nor acknowledges until it has back what \
                 it may have lost: power cuts of up to {spare} of {n} nodes at once lose nothing \
                 that C = {} had. Of more, CAN LOSE writes of the last second: the group waits \
                 for all {n} nodes, and the next leader says POSSIBLE LOSS.",
                quorum.commit
            ),
        },
    );
}

fn explain_missing_acks(
    options: &GroupOptions,
    quorum: &Quorum,
    acks: &[&str],
    claims: &mut Claims,
) {
    let (needed, n, c) = (quorum.acks, quorum.replicas, quorum.commit);
    let timeout_ms = options.ack_timeout_ms;
    let (holders, text): (&[&str], String) = match options.missing_acks {
        MissingAcks::Error => (
            &["outcomes"],
            format!(
                "when-acks-are-missing = error: a write that does not have {needed} of {n} copies \
                 within {timeout_ms} ms is answered -UNKNOWN with a token; it may survive or not, \
                 and TF.OUTCOME with the token tells later."
            ),
        ),
        MissingAcks::Block => (
            acks,
            format!(
                "when-acks-are-missing = block: a write that does not have {needed} of {n} copies \
                 waits until it has them, or until its leader no longer leads (-UNKNOWN)."
            ),
        ),
        MissingAcks::Degrade if quorum.degraded() < needed => (
            acks,
            format!(
                "when-acks-are-missing = degrade: a write that does not have {needed} of {n} \
                 copies within {timeout_ms} ms is acknowledged as soon as it is committed (C = {c} \
                 copies), so that writes go on with {} {} down and an OK still survives every \
                 failover; TF.DEGRADED LIST tells from which write to which that happened. With \
                 fewer than {c} copies it is answered -UNKNOWN. While it lasts, writes are \
                 acknowledged as soon as they are committed. A retry (TF.ONCE) follows the same \
                 rule; a command with acks of its own (TF.WITH) gets those or -UNKNOWN.",
                n - c,
                nodes(n - c)
            ),
        ),
        MissingAcks::Degrade => (
            &["outcomes"],
            format!(
                "when-acks-are-missing = degrade CAN DO NOTHING here: it lowers acks to the C = \
                 {c} copies of a committed write and no further, and A = {needed} is not more. A \
                 write that does not have them within {timeout_ms} ms is answered -UNKNOWN."
            ),
        ),
    };
    claims.add(holders, text);
}

fn explain_reads(options: &GroupOptions, quorum: &Quorum, holders: &Holders, claims: &mut Claims) {
    let (round, n) = (quorum.commit, quorum.replicas);
    let is_durable = options.ack_level != AckLevel::Received && quorum.acknowledged_survives();
    match options.reads {
        Reads::Leader if is_durable => claims.add(
            holders.reads,
            format!(
                "reads = leader: linearizable, every read sees every write acknowledged before it; \
                 the leader answers when {round} of {n} replicas, itself included, have \
                 confirmed that it leads."
            ),
        ),
        Reads::Leader => claims.add(
            &["surviving_reads", "leaders"],
            "reads = leader: every read sees every write acknowledged before it that no failover \
             has lost. What was read can be lost later, too.",
        ),
        Reads::Follower => claims.add(
            &["follower_reads", "visible_copies"],
            "reads = follower: any replica answers, a follower from what it knows to be committed. \
             A read may be STALE by the replication lag, which has no bound while a follower is \
             cut off, may miss one's own write, and may be older than a read before it that \
             another replica has answered. What one follower shows of a partition never goes back, \
             not over a restart either (POSSIBLE LOSS apart), and whoever sees a write there sees \
             all that came before it in the partition. A follower that has started, or takes over \
             a snapshot, leaves reads to the leader until that holds.",
        ),
    }
    if options.reads == Reads::Leader && quorum.replicas > 1 {
        explain_waiting_reads(options, holders.reads, claims);
    }
}

/// What becomes of a read whose key has a write that is not visible (docs/decisions/011).
fn explain_waiting_reads(options: &GroupOptions, holders: &[&str], claims: &mut Claims) {
    let timeout_ms = options.ack_timeout_ms;
    // A write that waits beyond its deadline may still be acknowledged: then it must not be missed.
    let own = match options.missing_acks {
        MissingAcks::Error => "",
        MissingAcks::Block | MissingAcks::Degrade => {
            "where the reader has sent such a write before, on the same connection, "
        }
    };
    let text = format!(
        "A read of a key whose newest write is not visible yet waits for that, {timeout_ms} ms at \
         most. Then it is answered with what was visible when it came, as if it had come before \
         the write; where somebody was told otherwise, {own}or where copies have been missing for \
         less than 20 ms, with -TRYAGAIN."
    );
    claims.add(holders, text);
}

/// How a leader knows that it leads, and what that rests on.
fn explain_leases(options: &GroupOptions, quorum: &Quorum, reads: &[&str], claims: &mut Claims) {
    if options.reads != Reads::Leader {
        return;
    }
    let timing = Timing::default();
    let (lease_ms, drift) = (timing.lease_us / 1000, timing.clock_drift_ppm / 10_000);
    match (quorum.commit, options.leases) {
        (1, _) => claims.add(
            ARITHMETIC,
            "No other node can lead without the leader's own vote: it answers reads without asking \
             anybody.",
        ),
        (_, true) => claims.add(
            reads,
            format!(
                "leases = true: who confirms a heartbeat votes for nobody for {lease_ms} ms, and \
                 so long, less {drift} %, the leader answers reads without asking. Each node tells \
                 for how long it has promised; the shorter counts. This ASSUMES that no node's \
                 clock runs more than {drift} % faster than another's; if one does, a read may be \
                 stale during a failover. Writes never rest on it."
            ),
        ),
        (_, false) => claims.add(
            reads,
            "leases = false: the leader asks for each batch of reads whether it still leads. No \
             read rests on clocks.",
        ),
    }
}

/// Leaders that cannot go on.
fn explain_unfit_leaders(options: &GroupOptions, quorum: &Quorum, claims: &mut Claims) {
    if options.replicas < 2 {
        return;
    }
    if quorum.commit > 1 {
        let silence_ms = Timing::default().election_timeout_us / 1000;
        claims.add(
            &["leaders"],
            format!(
                "A leader that hears fewer than C = {} replicas, itself included, for {silence_ms} \
                 ms steps down.",
                quorum.commit
            ),
        );
    }
    claims.add(
        &["leaders"],
        format!(
            "disk-stall-ms = {}: a leader whose disk does not answer for so long hands over to \
             another node, or steps down where none can take over.",
            options.disk_stall_ms
        ),
    );
}
