//! Golden scripts: a story about a cluster, without chance, that asserts what clients and events
//! say. One step a line; `#` begins a comment, and every script begins with one that says in plain
//! words what happens.
//!
//! ```text
//! cluster eu=3 us=3
//! timing heartbeat=30ms election=200ms   before the keyspace, where others are wanted
//! prefix b: leaderless n=3 w=1 r=1    before the keyspace: another one, of the keys under b:
//! keyspace leader-follower acks=semi-sync failover=safe
//! expect event BecameLeader           waits until one has happened since the last such line
//! name old = leader                   names: eu-1, leader, follower-1, ..., all, and own ones
//! client c1 @follower-1: SET k a
//! expect OK                           waits for the reply; of an error, its first word is enough
//! partition old | others              nothing gets from one side to the other
//! cut eu-1 -> eu-2                    one direction only
//! heal
//! crash eu-1                          loses power
//! kill eu-1                           only its process dies: the machine goes on
//! stop eu-1                           its process is asked to stop, and does
//! leave eu-1                          it is told that it is to stop: it hands over what it leads
//! pause eu-1 300ms                    its process stands still
//! slow eu-1 50                        its disk takes so many times as long; 1 is usual again
//! start all
//! wipe eu-2                           a crashed node gets an empty disk
//! clock us-1 +500ms
//! drift us-1 -200000ppm               its monotonic clock goes too slow, here by a fifth
//! run 2s
//! expect no event Truncated           none since the last `expect event`
//! expect c1: OK                       where several clients wait
//! expect has old, first               the reply has this in it
//! expect c1: ERR ... is weaker ...    what stands for `...` does not matter
//! client c1 @eu-2: TF.OUTCOME $token  the token of the newest error that had one
//! expect equal                        all replicas hold the same, soon
//! ```

mod keyspace;
mod parse;
mod play;

pub use parse::{Expected, Step, parse};
pub use play::{play, play_with};

/// A line that is wrong, or did not come true.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ScriptError {
    /// The line's number, from 1.
    pub line: usize,
    /// What is wrong.
    pub text: String,
}

impl std::fmt::Display for ScriptError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "line {}: {}", self.line, self.text)
    }
}

impl std::error::Error for ScriptError {}
