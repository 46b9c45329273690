//! Planted bugs. Without the feature `mutants` there are none, and every question is `false` at
//! compile time; the server refuses to compile with it.

/// One rule left out, to prove that the simulator's checkers see it. "Trap" is a number among the
/// known mistakes of replicated systems: A1 an acknowledged write lost at a failover, A2 and A3 a
/// tail cut in the wrong place, A4 messages of an older epoch, A5 leases and clocks, A6 a new
/// leader that does not know what is committed, A7 reads of a deposed leader, A11 acks lowered
/// silently, A12 an election that ignores the logs, A13 snapshots, A14 a sync that has failed and
/// is believed later, A15 a lost tail, A16 corruption
/// taken for a torn tail, A17 a leader whose disk stalls, A18 a leader that is cut off and leads
/// on, A19 retries, A20 a definite answer about an open outcome, A21 time decided on replicas, A22
/// an order that is not the log's, A23 a new disk that counts.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Mutant {
    /// A follower acknowledges an entry before it is durable (trap A1).
    AckBeforeDurable,
    /// A vote is given without being written down (trap A15).
    VoteNotDurable,
    /// A follower cuts its log to what it knows to be committed when a new leader speaks (trap A2).
    TruncateToCommit,
    /// Copies of an older epoch's entries are counted (Raft, figure 8).
    CountOlderEpochs,
    /// The last write wins by the wall clock alone, whatever it had seen.
    WallClockWins,
    /// One answer fewer than R is enough for a quorum read.
    ReadOneShort,
    /// A leader answers reads without asking whether it still leads (trap A7).
    ReadWithoutRound,
    /// A multi-leader group applies an update as often as it arrives.
    ApplyTwice,
    /// A node with a wiped disk counts at once (trap A23).
    WipedNodeCounts,
    /// The leader's own copy counts before it is durable (trap A1).
    OwnCopyCountsEarly,
    /// Checkpoints and snapshots leave out what is remembered of commands for `TF.ONCE` (trap A13:
    /// the index moves, the data does not).
    OnceForgottenInImages,
    /// A retry is answered before its first attempt is acknowledged (trap A19).
    OnceAnsweredEarly,
    /// Pieces of different snapshots are put together (trap A13).
    SnapshotsMix,
    /// Entries that are cut are not put aside.
    ReportForgotten,
    /// The acknowledgement watermark in the log is ahead of what was acknowledged.
    WatermarkTooHigh,
    /// `TF.OUTCOME` says of every index up to the commit index that it is committed (trap A20).
    OutcomeByIndex,
    /// `degrade` lowers the acks to the leader's own copy (trap A11).
    DegradeBelowCommit,
    /// Acks are lowered without a line in the degrade ledger (trap A11).
    DegradeUnrecorded,
    /// A follower that has an entry counts as one that has applied it (trap A1).
    ReceivedIsApplied,
    /// A lease is counted from when the answers come, and not from before the question (trap A5).
    LeaseFromReceive,
    /// A follower forgets its promise with the epoch, and with its process (trap A5).
    PromiseForgotten,
    /// A leader that hands over keeps its lease (trap A5).
    LeaseKeptInTransfer,
    /// A lease is looked at with the clock that the read's input carries (trap A5).
    LeaseCheckedEarly,
    /// A member that lost its last second in a power cut votes and acknowledges as if it had not
    /// (trap A15).
    SuspectVotes,
    /// A follower takes logs to agree where they are as long as each other (trap A3).
    MatchByIndex,
    /// Messages of an older epoch are believed like those of this one (trap A4).
    OldEpochBelieved,
    /// A new leader shows what it inherited before it knows that it is committed (trap A6).
    InheritedShown,
    /// A vote is given to whoever asks first, however short the log (trap A12).
    VoteForAnyLog,
    /// A snapshot that comes late takes the place of a log that has got beyond it (trap A13).
    OldSnapshotTaken,
    /// A log that is damaged where it was on disk is cut there, and the member goes on as before
    /// (trap A16).
    DamageIsTornTail,
    /// A command of `TF.ONCE` that was carried out before is carried out again (trap A19).
    RetryRepeated,
    /// A writer whose acks have not come is told that nothing was written (trap A20).
    OpenIsRefused,
    /// A read is answered although what it saw does not have the copies that make it visible (trap
    /// A11).
    ReadUncommitted,
    /// A follower counts deadlines from when it applies them, by its own clock (trap A21).
    OwnDeadlines,
    /// A failed sync is tried again, and believed when it succeeds (trap A14). It is the shell's
    /// rule not to: planted in the simulator's.
    SyncRetried,
    /// A leader whose disk does not answer leads on (trap A17).
    StallIgnored,
    /// A leader that hears nobody leads on (trap A18).
    LeadsUnheard,
    /// A follower applies entries that came together in another order than the log's (trap A22).
    AppliedOutOfOrder,
    /// A retry of what an earlier leader wrote is acknowledged below the declared acks, and the
    /// degrade ledger does not say so (trap A11).
    RetryDegradedUnrecorded,
    /// Acks that a writer has asked for himself are lowered like others where they are what the
    /// keyspace declares (trap A11).
    NamedAcksDegraded,
    /// An election needs the votes of all members: no group survives that one of them is gone.
    ElectionNeedsAll,
    /// A forwarded write is carried out by whatever leader it comes to (trap A20: it was called
    /// lost with the leader that it was for).
    ForwardUnbound,
    /// A forwarded write's entry is looked for behind what its leader had when the forwarder gave
    /// it up, and not behind what it had when it was sent (trap A20).
    AskedTooFar,
    /// A forwarded write that the log no longer reaches back to is called lost (trap A20).
    ForgottenIsLost,
    /// A forwarded write is sent again when its connection breaks (trap A19).
    LostForwardResent,
    /// WAIT behind a write of several parts speaks of one of them.
    WaitForOnePart,
    /// A write of several parts is answered with the first part's error, whatever another part's
    /// is (trap A20).
    OpenPartHidden,
    /// A follower answers reads while slots of a snapshot contain more than its log has brought to
    /// the others (trap A22).
    ReadAheadOfLog,
    /// A follower that has just started answers reads before it has applied again what it had
    /// shown (trap A22).
    ReadBeforeHeard,
    /// There is always room on the way to a follower.
    WindowIgnored,
    /// What a follower has acknowledged goes on counting as on its way to its node.
    WindowNotGivenBack,
    /// A leader takes writes however much is uncommitted.
    UncommittedIgnored,
    /// However many commands wait for a leader or for its answer, more may.
    WaitingIgnored,
    /// A log that rests gets no mark: damage to its newest batch looks like a torn end (trap A16).
    RestUnmarked,
    /// An operator's word takes the epoch behind the newest that is left, which a lost disk may
    /// have been in: what that named is told to be committed.
    WordTakesNextEpoch,
    /// An old leader whose disk has lost its last second in a power cut is heard out.
    TornHeardOut,
}

/// Whether planted bugs are compiled in.
pub const COMPILED_IN: bool = cfg!(feature = "mutants");

/// Which bug is planted, if any.
#[derive(Clone, Copy, Debug, Default)]
pub struct Mutants {
    #[cfg(feature = "mutants")]
    planted: Option<Mutant>,
}

impl Mutants {
    /// Plants one bug.
    #[cfg(feature = "mutants")]
    pub fn plant(mutant: Mutant) -> Mutants {
        Mutants { planted: Some(mutant) }
    }

    /// Whether this bug is planted.
    #[inline]
    pub fn is(self, _mutant: Mutant) -> bool {
        #[cfg(feature = "mutants")]
        return self.planted == Some(_mutant);
        #[cfg(not(feature = "mutants"))]
        false
    }
}
