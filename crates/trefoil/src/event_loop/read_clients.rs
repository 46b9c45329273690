//! From a client's socket to the core: read once, parse, and step in maximal runs of commands on
//! data; what the server answers itself is answered in between, in the order of the requests.

use super::{EventLoop, LINGER, READ_BYTES};
use crate::clients::{Client, HeldBack, OUT_BYTES_SOFT, ReplyMode};
use crate::operator_log;
use crate::resp::encode;
use crate::resp::parse::{Batch, Parsed};
use crate::session::{self, After, Session, SessionCommand};
use replication::command::table::lists_keys;
use replication::node::HELD_READ_BYTES_MAX;
use replication::{Arguments, ClientId, Input, RequestId, Requests};
use std::io::{ErrorKind, Read};
use std::ops::Range;

/// Commands whose answers cannot be more bytes are handed to the core together.
const ANSWER_BYTES_AT_ONCE: usize = 8 << 20;

/// What one read of a client's socket has given.
#[derive(Default)]
pub(super) struct ClientRead {
    /// Who, by place and number.
    client: Option<(usize, ClientId)>,
    /// Where its requests start in the shared buffer, and how long they are.
    start: usize,
    length: usize,
    /// The requests themselves, where they had begun to arrive before.
    joined: Vec<u8>,
    batch: Batch,
    parsed: Parsed,
    /// The first command that is not carried out yet.
    next: usize,
    was_held_back: bool,
}

impl ClientRead {
    fn bytes<'a>(&'a self, buffer: &'a [u8]) -> &'a [u8] {
        match self.joined.is_empty() {
            true => buffer.get(self.start..self.start + self.length).unwrap_or(&[]),
            false => &self.joined,
        }
    }

    /// Goes on with commands that were held back.
    fn take_up(&mut self, held_back: HeldBack) {
        let HeldBack { bytes, batch, parsed, next } = held_back;
        (self.joined, self.batch, self.parsed, self.next) = (bytes, batch, parsed, next);
        self.was_held_back = true;
    }

    /// Takes apart what a client's socket gave, behind what it gave before. Returns how many of
    /// these bytes the commands lie in, if it is these.
    fn take_apart(&mut self, client: &mut Client, new: &mut [u8], bulk_bytes_max: usize) -> usize {
        self.batch.clear();
        if client.carry.is_empty() {
            // The usual case: whole requests, straight from the shared buffer.
            self.parsed = client.parser.parse(new, bulk_bytes_max, &mut self.batch);
            self.length = self.parsed.consumed;
            client.carry.extend_from_slice(new.get(self.length..).unwrap_or(&[]));
            return self.length;
        }
        let mut bytes = std::mem::take(&mut client.carry);
        bytes.extend_from_slice(new);
        self.parsed = client.parser.parse(&mut bytes, bulk_bytes_max, &mut self.batch);
        if self.parsed.consumed == 0 {
            // A large request that is still arriving is not copied at each read.
            client.carry = bytes;
            self.length = 0;
            return 0;
        }
        client.carry.extend_from_slice(bytes.get(self.parsed.consumed..).unwrap_or(&[]));
        self.joined = bytes;
        0
    }

    /// The second word of each command, which in most is a key.
    fn keys<'a>(&'a self, buffer: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
        let (bytes, mut start) = (self.bytes(buffer), 0);
        self.batch.ends.iter().filter_map(move |end| {
            let spans = self.batch.spans.get(start..*end as usize)?;
            start = *end as usize;
            Arguments::new(bytes, spans).get(1)
        })
    }
}

impl EventLoop {
    /// Something happened on a client's socket.
    pub(super) fn client_event(
        &mut self,
        place: usize,
        readable: bool,
        ending: bool,
        broken: bool,
    ) {
        let Some(client) = self.sink.clients.at(place) else { return };
        client.ending |= ending;
        if broken {
            self.close_client(place);
        } else if (readable || ending) && !client.ready {
            client.ready = true;
            self.ready_clients.push_back(place);
        }
    }

    /// Reads every ready client once: some of them at a time, so that the keys which all of them
    /// name are looked up together.
    pub(super) fn read_clients(&mut self) {
        let (mut left, mut reads) = (self.ready_clients.len(), std::mem::take(&mut self.reads));
        while left > 0 {
            let mut buffer = std::mem::take(&mut self.buffer);
            let (mut used, mut count) = (0, 0);
            while left > 0
                && let Some(free) = buffer.get_mut(used..used + READ_BYTES)
                && let Some(place) = self.ready_clients.pop_front()
            {
                left -= 1;
                if reads.len() == count {
                    reads.push(ClientRead::default());
                }
                if let Some(read) = reads.get_mut(count) {
                    read.start = used;
                    used += self.read_client(place, free, read).unwrap_or(0);
                    count += usize::from(read.client.is_some());
                }
            }
            let done = reads.get(..count).unwrap_or(&[]);
            let shown = done.iter().flat_map(|read| read.keys(&buffer));
            self.node.look_ahead(shown);
            for read in reads.iter_mut().take(count) {
                self.take_read(&buffer, read);
            }
            self.buffer = buffer;
        }
        self.reads = reads;
    }

    /// Reads a client once and takes its commands apart. Returns how many bytes of the buffer they
    /// lie in; `None` where there is nothing to carry out.
    fn read_client(
        &mut self,
        place: usize,
        buffer: &mut [u8],
        read: &mut ClientRead,
    ) -> Option<usize> {
        (read.client, read.next, read.was_held_back) = (None, 0, false);
        let client = self.sink.clients.at(place)?;
        client.ready = false;
        if client.last_sequence.is_some() {
            if client.is_told_all() {
                self.throw_away(place, buffer);
            }
            return None;
        }
        if client.is_over_soft_limits() {
            client.paused = true;
            return None;
        }
        if let Some(held_back) = client.held_back.take() {
            read.client = Some((place, client.id));
            read.take_up(*held_back);
            return Some(0);
        }
        self.state.counters.reads += 1;
        let length = match client.stream.read(buffer) {
            Ok(0) => {
                self.client_ended(place);
                return None;
            }
            Ok(length) => length,
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                self.state.counters.reads_empty += 1;
                return None;
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => 0,
            Err(_) => {
                self.close_client(place);
                return None;
            }
        };
        client.last_active = self.now;
        // Full: there may be more. Ending: the end is still to be read, and no event will tell.
        if length == 0 || length == buffer.len() || client.ending {
            client.ready = true;
            self.ready_clients.push_back(place);
        }
        self.state.counters.bytes_in += length as u64;
        read.client = Some((place, client.id));
        let new = buffer.get_mut(..length).unwrap_or(&mut []);
        Some(read.take_apart(client, new, self.state.bulk_bytes_max))
    }

    /// Carries out what a client was read to say, unless another one's commands have ended it.
    fn take_read(&mut self, buffer: &[u8], read: &mut ClientRead) {
        let Some((place, id)) = read.client else { return };
        if self.sink.clients.at(place).is_some_and(|client| client.id == id) {
            let next = self.carry_out(place, read.bytes(buffer), &read.batch, read.next);
            match next {
                Some(next) => self.hold_back(place, buffer, read, next),
                None => {
                    self.refuse_protocol_error(place, read.parsed);
                    // Behind what was held back, there may be more in the socket, and no event
                    // will tell.
                    self.client_event(place, read.was_held_back, false, false);
                }
            }
        }
        // Idle clients own no buffer.
        read.joined = Vec::new();
    }

    /// The commands of one read from number `first` on: runs for the core, with the server's own
    /// commands in between. Returns the number of the first that has to wait, if one has.
    fn carry_out(
        &mut self,
        place: usize,
        bytes: &[u8],
        batch: &Batch,
        first: usize,
    ) -> Option<usize> {
        let before = first.checked_sub(1).and_then(|before| batch.ends.get(before));
        let (mut run, mut spans_start) = (first, before.map_or(0, |end| *end as usize));
        if first == 0 {
            self.state.counters.commands += batch.ends.len() as u64;
        }
        let mut knows_moved = self.knows_moved(place);
        for (number, end) in batch.ends.iter().enumerate().skip(first) {
            let end = *end as usize;
            let spans = batch.spans.get(spans_start..end).unwrap_or(&[]);
            spans_start = end;
            let arguments = Arguments::new(bytes, spans);
            let Some(command) = session::find(arguments.get(0).unwrap_or(&[])) else {
                if knows_moved && let Some(error) = self.moved(place, arguments) {
                    if let Some(stopped) = self.step_requests(place, bytes, batch, run..number) {
                        return Some(stopped);
                    }
                    run = number + 1;
                    self.answer(place, |out| encode::error(out, &error));
                }
                continue;
            };
            if let Some(stopped) = self.step_requests(place, bytes, batch, run..number) {
                return Some(stopped);
            }
            run = number + 1;
            if !self.carry_out_session(place, command, arguments) {
                return None;
            }
            knows_moved = self.knows_moved(place);
        }
        self.step_requests(place, bytes, batch, run..batch.ends.len())
    }

    /// Whether a client has said that it is cluster-aware.
    fn knows_moved(&mut self, place: usize) -> bool {
        self.sink.clients.at(place).is_some_and(|client| client.asked_map || client.read_only)
    }

    /// What a cluster-aware client is told in place of a command's answer, if another node is to be
    /// asked.
    fn moved(&mut self, place: usize, arguments: Arguments<'_>) -> Option<String> {
        let mut session = Session {
            place,
            now: self.now,
            time: self.time,
            state: &mut self.state,
            sink: &mut self.sink,
            node: &self.node,
        };
        session::moved(arguments, &mut session)
    }

    /// Answers a client's next command here.
    fn answer(&mut self, place: usize, encode: impl FnOnce(&mut Vec<u8>)) {
        let Some(client) = self.sink.clients.at(place) else { return };
        let request = RequestId { client: client.id, sequence: client.ask(1) };
        self.sink.clients.answer(request, |out, _| encode(out));
    }

    /// Hands commands number `run` of a batch to the core: mostly all at once. Where their answers
    /// may be long, one by one, until they are too much: returns the first that has to wait.
    fn step_requests(
        &mut self,
        place: usize,
        bytes: &[u8],
        batch: &Batch,
        run: Range<usize>,
    ) -> Option<usize> {
        let is_crowded = self.node.held_read_bytes() > HELD_READ_BYTES_MAX;
        let may_be_long = || {
            let of = |run: Range<usize>| Arguments::new(bytes, batch.spans_of(run));
            let records = batch.spans_of(run.clone()).len().saturating_sub(run.len());
            let lists = |n: usize| lists_keys(of(n..n + 1).get(0).unwrap_or(&[]));
            self.node.longest_record().saturating_mul(records) > ANSWER_BYTES_AT_ONCE
                || run.clone().any(lists)
        };
        if !is_crowded && (run.len() == 1 || !may_be_long()) {
            self.step_run(place, bytes, batch, run);
            return None;
        }
        let held_before = self.node.held_read_bytes();
        for number in run {
            let unsent = self.sink.clients.at(place)?.replies.unsent() as u64;
            let held = self.node.held_read_bytes();
            let own = held.saturating_sub(held_before).saturating_add(unsent);
            if held > HELD_READ_BYTES_MAX || own > OUT_BYTES_SOFT as u64 {
                return Some(number);
            }
            self.step_run(place, bytes, batch, number..number + 1);
        }
        None
    }

    /// What has arrived of a client and is too much now waits with it: until it has taken its
    /// replies, or until the node has got rid of others'.
    fn hold_back(&mut self, place: usize, buffer: &[u8], read: &mut ClientRead, next: usize) {
        let bytes = match read.joined.is_empty() {
            true => read.bytes(buffer).to_vec(),
            false => std::mem::take(&mut read.joined),
        };
        let Some(client) = self.sink.clients.at(place) else { return };
        let batch = std::mem::take(&mut read.batch);
        let held_back = HeldBack { bytes, batch, parsed: read.parsed, next };
        client.held_back = Some(Box::new(held_back));
        client.paused = true;
        if self.node.held_read_bytes() > HELD_READ_BYTES_MAX {
            self.crowded_out.push(place);
        } else {
            self.sink.clients.touch(place);
        }
    }

    /// The node has got rid of what it had to answer: whoever was held back goes on.
    pub(super) fn resume_crowded_out(&mut self) {
        if self.crowded_out.is_empty() || self.node.held_read_bytes() > HELD_READ_BYTES_MAX {
            return;
        }
        for place in std::mem::take(&mut self.crowded_out) {
            self.sink.clients.touch(place);
            self.client_event(place, true, false, false);
        }
    }

    /// Hands commands number `run` of a batch to the core.
    fn step_run(&mut self, place: usize, bytes: &[u8], batch: &Batch, run: Range<usize>) {
        if run.is_empty() {
            return;
        }
        let Some(client) = self.sink.clients.at(place) else { return };
        let first_sequence = client.ask(run.len());
        let (client, label) = (client.id, client.label.clone());
        let label = &*label;
        let ends = batch.ends.get(run.clone()).unwrap_or(&[]);
        if run.start == 0 {
            let spans = &batch.spans;
            let requests = Requests { client, label, first_sequence, bytes, spans, ends };
            return self.step(Input::Requests(requests));
        }
        let before = batch.ends.get(run.start - 1).copied().unwrap_or(0);
        let spans = batch.spans.get(before as usize..).unwrap_or(&[]);
        let ends: Vec<u32> = ends.iter().map(|end| end - before).collect();
        let requests = Requests { client, label, first_sequence, bytes, spans, ends: &ends };
        self.step(Input::Requests(requests));
    }

    /// Answers one of the server's own commands. False if the client says nothing more.
    fn carry_out_session(
        &mut self,
        place: usize,
        command: SessionCommand,
        arguments: Arguments<'_>,
    ) -> bool {
        let Some(client) = self.sink.clients.at(place) else { return false };
        let (id, protocol, mode) = (client.id, client.protocol, client.reply_mode);
        self.scratch.clear();
        let mut session = Session {
            place,
            now: self.now,
            time: self.time,
            state: &mut self.state,
            sink: &mut self.sink,
            node: &self.node,
        };
        let after = session::execute(command, arguments, &mut session, &mut self.scratch);
        if after == After::CloseNow {
            self.close_client(place);
            return false;
        }
        let Some(client) = self.sink.clients.at(place) else { return false };
        // CLIENT REPLY's own answer goes by what it has set.
        let sequence = if client.reply_mode == mode {
            client.ask(1)
        } else {
            client.replies.ask(client.reply_mode != ReplyMode::On)
        };
        if client.protocol != protocol {
            client.replies.switch(client.protocol, sequence);
        }
        if after == After::Close {
            client.close_after_replies();
        }
        let request = RequestId { client: id, sequence };
        let scratch = &self.scratch;
        self.sink.clients.answer(request, |out, _| out.extend_from_slice(scratch));
        after == After::Stay
    }

    fn refuse_protocol_error(&mut self, place: usize, parsed: Parsed) {
        let Some(error) = parsed.error else { return };
        let Some(client) = self.sink.clients.at(place).filter(|c| c.last_sequence.is_none()) else {
            return;
        };
        self.state.counters.protocol_errors += 1;
        client.carry = Vec::new();
        let request = RequestId { client: client.id, sequence: client.replies.ask(false) };
        client.close_after_replies();
        client.outlasts_replies = true;
        self.sink.clients.answer(request, |out, _| encode::error(out, &format!("ERR {error}")));
    }

    /// The client says nothing more; what it has asked is still answered.
    fn client_ended(&mut self, place: usize) {
        let Some(client) = self.sink.clients.at(place) else { return };
        client.carry = Vec::new();
        client.close_after_replies();
        if client.replies.outstanding() > 0 {
            self.lingering.push_back((self.now + LINGER, place, client.id));
        }
        self.sink.clients.touch(place);
    }

    /// A client that has been told its last may still be sending, and reads only when it has sent.
    pub(super) fn outlast_client(&mut self, place: usize) {
        let Some(client) = self.sink.clients.at(place) else { return };
        self.lingering.push_back((self.now + LINGER, place, client.id));
        self.client_event(place, true, false, false);
    }

    fn throw_away(&mut self, place: usize, buffer: &mut [u8]) {
        let Some(client) = self.sink.clients.at(place) else { return };
        self.state.counters.reads += 1;
        match client.stream.read(buffer) {
            Ok(length) if length > 0 => {
                self.state.counters.bytes_in += length as u64;
                if length == buffer.len() || client.ending {
                    self.client_event(place, true, false, false);
                }
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                self.state.counters.reads_empty += 1;
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {
                self.client_event(place, true, false, false);
            }
            Ok(_) | Err(_) => self.close_client(place),
        }
    }

    /// Closes clients that have waited long enough for their last replies.
    pub(super) fn stop_lingering(&mut self) {
        while let Some((until, place, id)) = self.lingering.front().copied()
            && until <= self.now
        {
            self.lingering.pop_front();
            if self.sink.clients.at(place).is_some_and(|client| client.id == id) {
                self.close_client(place);
            }
        }
    }

    /// Closes a connection and tells the core.
    pub(super) fn close_client(&mut self, place: usize) {
        if let Some(client) = self.sink.clients.at(place)
            && client.replies.unsent() > crate::clients::OUT_BYTES_MAX
        {
            let (number, unsent) = (client.number, client.replies.unsent());
            operator_log::line(format_args!(
                "client {number} disconnected: it has not read {unsent} bytes of replies"
            ));
        }
        if let Some(id) = self.sink.clients.close(place, self.poll.registry()) {
            self.step(Input::Disconnected(id));
        }
    }
}
