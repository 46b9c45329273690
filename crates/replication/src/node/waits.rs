//! WAIT and WAITAOF: how many followers have what the connection's last write has written. Where
//! that had several parts, each group is asked about its own, and the answer is the least.

use super::Roles;
use super::gather::Kind;
use super::part::Part;
use super::requests::Work;
use crate::ClientId;
use crate::connection::Wait;
use crate::last_writes::{ENTRIES_MAX, Written};
use crate::leader_follower::acks::copies::wait_counts;
use crate::mutant::Mutant;
use crate::turn::{LastWrite, Requester, Turn};
use alloc::format;

impl Roles {
    /// Starts the WAITs that have nothing of their connection before them any more.
    pub(super) fn start_ready_waits(&mut self, turn: &mut Turn<'_>) {
        while let Some(wait) = turn.local.ready_waits.pop_front() {
            self.start_wait(turn, &wait);
            self.gather_parts(turn);
        }
    }

    fn start_wait(&mut self, turn: &mut Turn<'_>, wait: &Wait) {
        let requester = Requester::Client(wait.request);
        let parts = match &wait.written {
            None => {
                return turn.answer(requester, wait_counts(wait.local.is_some(), false, 0), None);
            }
            Some(Written::One(write)) => return self.wait_for(turn, requester, wait, *write),
            Some(Written::Several(parts)) => parts,
        };
        if parts.are_too_many() {
            let text = format!(
                "ERR the connection's last write has written to more than {ENTRIES_MAX} \
                 partitions: WAIT cannot tell of so many"
            );
            return turn.refuse(requester, text);
        }
        if turn.local.mutants.is(Mutant::WaitForOnePart)
            && let Some(part) = parts.iter().last()
        {
            return self.wait_for(turn, requester, wait, part);
        }
        let gather = self.gathers.open(requester, Kind::Least, parts.len(), false);
        for (number, write) in parts.iter().enumerate() {
            let requester = Requester::Part { gather, part: number as u32 };
            self.wait_for(turn, requester, wait, write);
        }
    }

    fn wait_for(
        &mut self,
        turn: &mut Turn<'_>,
        requester: Requester,
        wait: &Wait,
        write: LastWrite,
    ) {
        let Wait { replicas, timeout_ms, local, .. } = *wait;
        let on_disk = local.is_some();
        match write {
            // Where copies are not on disk when they count, nobody knows when they will be.
            LastWrite::Copies { synced: false, .. } if on_disk => {
                turn.answer(requester, wait_counts(true, false, 0), None);
            }
            LastWrite::Copies { acks, .. } => {
                let reply = wait_counts(on_disk, acks > 0, u64::from(acks.saturating_sub(1)));
                turn.answer(requester, reply, None);
            }
            LastWrite::Entry { group, id } => {
                let part = Part::Wait { id, replicas, timeout_ms, local };
                self.deliver(turn, requester, group, &Work::Part(part.clone()), &|out| {
                    part.encode(out)
                });
            }
        }
    }

    /// A client has gone: nobody asks any more whether its writes have arrived.
    pub(super) fn forget_waits(&mut self, client: ClientId) {
        let gathers = &self.gathers;
        for group in self.groups.values_mut() {
            group.forget_waits(|requester| match requester {
                Requester::Client(request) => request.client == client,
                part => gathers.is_wait_of(client, part),
            });
        }
        self.gathers.forget_waits(client);
    }
}
