//! The loop: one read and one write per ready connection, and nothing else that costs.

use super::connection::Connection;
use super::options::{Limit, Server};
use super::progress::Progress;
use super::requests::Requests;
use super::schedule::{Schedule, share};
use super::tally::Tally;
use super::timer::{TIMER, Timer};
use miette::{IntoDiagnostic, WrapErr, miette};
use mio::{Events, Interest, Poll, Token};
use std::collections::VecDeque;
use std::io;
use std::time::{Duration, Instant};

/// Events taken at once.
const EVENTS_MAX: usize = 1024;
/// Bytes of one read.
const READ_BYTES: usize = 256 << 10;
/// Replies are outstanding, and for so long none has come: none will.
const SILENCE_MAX: Duration = Duration::from_secs(30);
/// How long after its schedule an open loop still sends what is due.
const BACKLOG_GRACE: Duration = Duration::from_secs(1);
/// So many wrong answers before the first right one end the run.
const ERRORS_FROM_START_MAX: u64 = 1000;
/// Broken connections that are told of one by one.
const BROKEN_TOLD_MAX: usize = 5;

/// What is asked of the servers, and how fast.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// Requests of a batch.
    pub pipeline: usize,
    /// When it ends.
    pub limit: Limit,
    /// Requests a second of an open loop; none: closed.
    pub rate: Option<u64>,
}

/// What a load has come to.
#[derive(Debug)]
pub struct Outcome {
    /// Counts and latencies.
    pub tally: Tally,
    /// From the first request to the last reply.
    pub elapsed: Duration,
    /// How an open loop kept to its schedule.
    pub kept: Option<Kept>,
}

/// How an open loop kept to its schedule.
#[derive(Clone, Copy, Debug)]
pub struct Kept {
    /// Requests of the whole schedule.
    pub scheduled: u64,
    /// Requests that were due and not yet sent when the schedule ended.
    pub late: u64,
    /// Requests that were not sent at all.
    pub not_sent: u64,
}

/// Connections that broke.
#[derive(Default, Debug)]
pub struct Broken {
    /// How many.
    pub count: usize,
    of: usize,
    first: Vec<String>,
}

/// All connections, and what they need.
pub struct Generator {
    poll: Poll,
    timer: Timer,
    connections: Vec<Connection>,
    servers: Vec<String>,
    buffer: Vec<u8>,
    /// Connections that broke, in all loads.
    pub broken: Broken,
}

/// A load that is under way.
struct Run<'a> {
    requests: &'a mut Requests,
    load: Load,
    schedule: Option<Schedule>,
    started: Instant,
    /// Requests that were sent.
    begun: u64,
    /// Connections that wait for replies.
    busy: usize,
    /// Connections that wait for requests, in an open loop.
    idle: VecDeque<usize>,
    /// When something was last sent or read.
    moved_ns: u64,
    /// Requests that were due and not sent at the schedule's end.
    late: Option<u64>,
    tally: Tally,
}

impl Generator {
    /// Opens all connections.
    ///
    /// # Errors
    /// A server that cannot be reached, by name.
    pub fn connect(servers: &[Server], clients: usize) -> miette::Result<Generator> {
        let poll = Poll::new().into_diagnostic()?;
        let timer = Timer::new(&poll).into_diagnostic()?;
        let mut connections = Vec::with_capacity(clients);
        for number in 0..clients {
            let server = number % servers.len().max(1);
            let Some(Server { name, addresses }) = servers.get(server) else {
                return Err(miette!("--addr: no server was named"));
            };
            let mut connection = Connection::open(server, addresses)
                .into_diagnostic()
                .wrap_err_with(|| format!("connection {number} to {name} cannot be opened"))?;
            let interest = Interest::READABLE | Interest::WRITABLE;
            poll.registry()
                .register(&mut connection.stream, Token(number), interest)
                .into_diagnostic()?;
            connections.push(connection);
        }
        let servers = servers.iter().map(|server| server.name.clone()).collect();
        let broken = Broken { of: clients, ..Broken::default() };
        Ok(Generator { poll, timer, connections, servers, buffer: vec![0; READ_BYTES], broken })
    }

    /// Runs a load to its end, and waits for its last reply.
    ///
    /// # Errors
    /// Where the system's waiting fails. Broken connections are in `broken`.
    pub fn run(
        &mut self,
        requests: &mut Requests,
        load: &Load,
        progress: &mut Progress,
    ) -> miette::Result<Outcome> {
        let mut run = Run::new(requests, *load, Tally::new()?);
        let mut events = Events::with_capacity(EVENTS_MAX);
        self.timer.forget();
        for number in 0..self.connections.len() {
            if !self.connections.get(number).is_none_or(|connection| connection.broken) {
                self.free(number, &mut run);
            }
        }
        loop {
            self.send_due(&mut run);
            let now_ns = run.now_ns();
            let next_ns = progress.show(now_ns, &run.tally);
            if run.busy == 0 && (run.is_over(now_ns) || self.broken.is_all()) {
                break;
            }
            if run.busy > 0 && now_ns - run.moved_ns > nanoseconds(SILENCE_MAX) {
                self.give_up(&mut run);
                break;
            }
            let wake_ns = (run.due_ns(), next_ns);
            match self.timer.poll(&mut self.poll, &mut events, now_ns, wake_ns) {
                Err(error) if error.kind() != io::ErrorKind::Interrupted => {
                    return Err(error).into_diagnostic();
                }
                _ => {}
            }
            for event in events.iter().filter(|event| event.token() != TIMER) {
                self.ready(event.token().0, event.is_writable(), &mut run);
            }
        }
        Ok(run.outcome())
    }

    /// Something has happened to a connection.
    fn ready(&mut self, number: usize, is_writable: bool, run: &mut Run<'_>) {
        let Some(connection) = self.connections.get_mut(number) else { return };
        if connection.broken {
            return;
        }
        if is_writable && let Err(error) = connection.write() {
            return self.broke(number, &error, run);
        }
        loop {
            let Some(connection) = self.connections.get_mut(number) else { return };
            let read = match connection.read(&mut self.buffer) {
                Ok(None) => return,
                Ok(Some(read)) => read,
                Err(error) => return self.broke(number, &error, run),
            };
            run.moved_ns = run.now_ns();
            let bytes = self.buffer.get(..read).unwrap_or(&[]);
            if let Err(error) = connection.take(bytes, run.moved_ns, &mut run.tally) {
                return self.broke(number, &error, run);
            }
            if connection.busy && connection.is_idle() {
                connection.busy = false;
                run.busy -= 1;
                self.free(number, run);
            }
            // A short read: epoll reports what comes later.
            if read < self.buffer.len() {
                return;
            }
        }
    }

    /// A connection has nothing to do: in a closed loop that is its next request's beginning.
    fn free(&mut self, number: usize, run: &mut Run<'_>) {
        if run.schedule.is_some() {
            run.idle.push_back(number);
            return;
        }
        let now_ns = run.now_ns();
        let count = run.allowed(now_ns);
        if count > 0 {
            self.begin(number, count, run, |_| now_ns);
        }
    }

    /// Sends what has become due, if there are free connections.
    fn send_due(&mut self, run: &mut Run<'_>) {
        let Some(schedule) = run.schedule else { return };
        let now_ns = run.now_ns();
        let due = schedule.due_until(now_ns);
        while run.begun < due && !run.is_over(now_ns) {
            let count = share(due - run.begun, run.idle.len(), run.load.pipeline);
            let Some(number) = run.idle.pop_front() else { break };
            self.begin(number, count, run, |request| schedule.due_ns(request));
        }
        if run.late.is_none() && now_ns >= schedule.end_ns() {
            run.late = Some(due - run.begun);
        }
    }

    fn begin(
        &mut self,
        number: usize,
        count: usize,
        run: &mut Run<'_>,
        began_ns: impl Fn(u64) -> u64,
    ) {
        let Some(connection) = self.connections.get_mut(number) else { return };
        let first = run.begun;
        run.begun += count as u64;
        run.busy += 1;
        run.moved_ns = run.now_ns();
        connection.begin(run.requests, (first..run.begun).map(began_ns));
        if let Err(error) = connection.write() {
            self.broke(number, &error, run);
        }
    }

    /// A connection is of no use any more.
    fn broke(&mut self, number: usize, error: &dyn std::fmt::Display, run: &mut Run<'_>) {
        let Some(connection) = self.connections.get_mut(number) else { return };
        connection.broken = true;
        // Closing it does as well, if this should fail.
        let _ = self.poll.registry().deregister(&mut connection.stream);
        if connection.busy {
            connection.busy = false;
            run.busy -= 1;
        } else {
            run.idle.retain(|idle| *idle != number);
        }
        self.broken.count += 1;
        if self.broken.first.len() < BROKEN_TOLD_MAX {
            let server = self.servers.get(connection.server).map_or("?", String::as_str);
            let unanswered = connection.unanswered();
            self.broken.first.push(format!(
                "connection {number} to {server}, with {unanswered} requests unanswered: {error}"
            ));
        }
    }

    /// Nothing comes any more.
    fn give_up(&mut self, run: &mut Run<'_>) {
        let why = format!("no reply for {} s", SILENCE_MAX.as_secs());
        for number in 0..self.connections.len() {
            if self.connections.get(number).is_some_and(|c| c.busy) {
                self.broke(number, &why, run);
            }
        }
    }
}

impl Broken {
    /// Whether none is left.
    fn is_all(&self) -> bool {
        self.count >= self.of
    }

    /// What to tell, if any broke.
    pub fn failure(&self) -> Option<miette::Report> {
        let more = self.count.checked_sub(self.first.len()).filter(|more| *more > 0);
        let more = more.map_or(String::new(), |more| format!("; and {more} more"));
        let (count, of, first) = (self.count, self.of, self.first.join("; "));
        (count > 0).then(|| miette!("{count} of {of} connections broke: {first}{more}"))
    }
}

impl<'a> Run<'a> {
    fn new(requests: &'a mut Requests, load: Load, tally: Tally) -> Run<'a> {
        let schedule = load.rate.map(|rate| match load.limit {
            Limit::Requests(total) => Schedule::of_requests(rate, total),
            Limit::Duration(duration) => Schedule::of_duration(rate, nanoseconds(duration)),
        });
        let (idle, started) = (VecDeque::new(), Instant::now());
        let (begun, busy, moved_ns, late) = (0, 0, 0, None);
        Run { requests, load, schedule, started, begun, busy, idle, moved_ns, late, tally }
    }

    fn now_ns(&self) -> u64 {
        nanoseconds(self.started.elapsed())
    }

    /// Whether nothing more is sent.
    fn is_over(&self, now_ns: u64) -> bool {
        let hopeless = self.tally.operations() == 0 && self.tally.errors >= ERRORS_FROM_START_MAX;
        let over = match (self.schedule, self.load.limit) {
            (Some(schedule), _) if self.begun >= schedule.total() => true,
            (_, Limit::Requests(total)) => self.begun >= total,
            (None, Limit::Duration(duration)) => now_ns >= nanoseconds(duration),
            (Some(_), Limit::Duration(duration)) => {
                now_ns >= nanoseconds(duration.saturating_add(BACKLOG_GRACE))
            }
        };
        over || hopeless
    }

    /// Requests that a free connection of a closed loop may send.
    fn allowed(&self, now_ns: u64) -> usize {
        let left = match self.load.limit {
            _ if self.is_over(now_ns) => 0,
            Limit::Requests(total) => total.saturating_sub(self.begun),
            Limit::Duration(_) => u64::MAX,
        };
        usize::try_from(left).unwrap_or(usize::MAX).min(self.load.pipeline)
    }

    /// When there is something to send; never if replies must come first.
    fn due_ns(&self) -> u64 {
        match self.schedule {
            Some(schedule) if !self.idle.is_empty() && self.begun < schedule.total() => {
                schedule.due_ns(self.begun)
            }
            _ => u64::MAX,
        }
    }

    fn outcome(mut self) -> Outcome {
        let now_ns = self.now_ns();
        let kept = self.schedule.map(|schedule| {
            // Their users have waited, too, and not been served at all.
            let due = schedule.due_until(now_ns);
            for request in self.begun..due {
                self.tally.not_sent(now_ns.saturating_sub(schedule.due_ns(request)));
            }
            let not_sent = schedule.total().saturating_sub(self.begun);
            let late = self.late.unwrap_or(0);
            Kept { scheduled: schedule.total(), late, not_sent }
        });
        Outcome { tally: self.tally, elapsed: Duration::from_nanos(self.moved_ns), kept }
    }
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
