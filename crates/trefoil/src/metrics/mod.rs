//! The metrics endpoint: `GET /metrics` on an address of its own, in the text format that
//! Prometheus reads (OpenMetrics 1.0).
//!
//! One thread takes one connection after another, with blocking calls: a scraper comes every few
//! seconds. It knows nothing of the node. It wakes the event loop, which writes a snapshot between
//! two of its turns (`collect.rs`), and only when somebody asks. While the loop stands still there
//! is no answer but 503: what it would say is of no use then.
//!
//! Whoever can reach the address can read the figures: there is no password and no encryption.

mod collect;
#[cfg(test)]
mod tests;

pub use collect::snapshot;

use mio::Waker;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// A longer request is none; bytes.
const REQUEST_BYTES_MAX: usize = 8 << 10;
/// How long a request may take to come, and its answer to go.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(2);
/// How long the loop may take for a snapshot.
const SNAPSHOT_TIMEOUT: Duration = Duration::from_secs(2);
/// How long nobody is taken after the system had no room for another connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// OpenMetrics, which Prometheus asks for by itself.
const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What the thread and the loop share.
struct Shared {
    asked: AtomicBool,
    closed: AtomicBool,
    snapshot: Mutex<Option<String>>,
    is_there: Condvar,
}

/// The loop's side. Dropped, it ends the thread.
pub struct Metrics {
    shared: Arc<Shared>,
    address: SocketAddr,
    thread: Option<JoinHandle<()>>,
}

impl Metrics {
    /// Listens, and answers from now on; `waker` makes the loop look.
    ///
    /// # Errors
    /// The address cannot be listened on, or there can be no further thread.
    pub fn start(address: SocketAddr, waker: Arc<Waker>) -> io::Result<Metrics> {
        let listener = TcpListener::bind(address)?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            asked: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            snapshot: Mutex::new(None),
            is_there: Condvar::new(),
        });
        let theirs = shared.clone();
        let serve = move || serve(&listener, &theirs, &waker);
        let thread = std::thread::Builder::new().name(String::from("metrics")).spawn(serve)?;
        Ok(Metrics { shared, address, thread: Some(thread) })
    }

    /// Whether somebody waits for a snapshot; asked once a turn.
    pub fn is_asked(&self) -> bool {
        self.shared.asked.load(Ordering::Acquire)
    }

    /// Hands a snapshot to whoever waits.
    pub fn publish(&self, text: String) {
        self.shared.asked.store(false, Ordering::Release);
        *self.shared.snapshot.lock().unwrap_or_else(PoisonError::into_inner) = Some(text);
        self.shared.is_there.notify_all();
    }
}

impl Drop for Metrics {
    fn drop(&mut self) {
        self.shared.closed.store(true, Ordering::Release);
        self.shared.is_there.notify_all();
        // The thread waits for a connection: this is one.
        let is_awake = TcpStream::connect_timeout(&self.address, REQUEST_TIMEOUT).is_ok();
        if let Some(thread) = self.thread.take().filter(|_| is_awake) {
            // It has nothing to say at its end.
            let _ = thread.join();
        }
    }
}

fn serve(listener: &TcpListener, shared: &Shared, waker: &Waker) {
    loop {
        let stream = listener.accept();
        if shared.closed.load(Ordering::Acquire) {
            return;
        }
        match stream {
            // Whoever asks and goes away has only himself to blame.
            Ok((stream, _)) => drop(answer(stream, shared, waker)),
            Err(_) => std::thread::sleep(ACCEPT_PAUSE),
        }
    }
}

fn answer(mut stream: TcpStream, shared: &Shared, waker: &Waker) -> io::Result<()> {
    stream.set_write_timeout(Some(REQUEST_TIMEOUT))?;
    let head = read_head(&mut stream)?;
    let (status, kind, body) = match path_of(&head) {
        Some((true, "/metrics")) => match snapshot_of(shared, waker) {
            Some(text) => ("200 OK", CONTENT_TYPE, text),
            None => plain("503 Service Unavailable", "the event loop does not answer\n"),
        },
        Some((true, _)) => plain("404 Not Found", "there is only /metrics\n"),
        Some((false, _)) => plain("405 Method Not Allowed", "there is only GET\n"),
        None => plain("400 Bad Request", "this is not a request\n"),
    };
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes())?;
    stream.write_all(body.as_bytes())?;
    stream.shutdown(Shutdown::Write)
}

fn plain(status: &'static str, text: &str) -> (&'static str, &'static str, String) {
    (status, "text/plain; charset=utf-8", text.to_owned())
}

/// The request up to its empty line, or as much of it as there may be.
fn read_head(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let deadline = Instant::now() + REQUEST_TIMEOUT;
    let mut head = Vec::new();
    let mut bytes = [0; 1 << 10];
    while head.len() < REQUEST_BYTES_MAX && !head.windows(4).any(|end| end == b"\r\n\r\n") {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        stream.set_read_timeout(Some(left))?;
        let count = stream.read(&mut bytes)?;
        if count == 0 {
            break;
        }
        head.extend_from_slice(bytes.get(..count).unwrap_or_default());
    }
    Ok(head)
}

/// Whether a request is a GET, and its path without what follows a question mark; `None` where it
/// is no request.
fn path_of(head: &[u8]) -> Option<(bool, &str)> {
    let line = head.split(|byte| *byte == b'\r').next()?;
    let mut words = std::str::from_utf8(line).ok()?.split(' ');
    let (method, target, version) = (words.next()?, words.next()?, words.next()?);
    if !version.starts_with("HTTP/1.") || words.next().is_some() {
        return None;
    }
    Some((method == "GET", target.split('?').next()?))
}

/// A snapshot that is made after now.
fn snapshot_of(shared: &Shared, waker: &Waker) -> Option<String> {
    let mut snapshot = shared.snapshot.lock().unwrap_or_else(PoisonError::into_inner);
    *snapshot = None;
    shared.asked.store(true, Ordering::Release);
    waker.wake().ok()?;
    let waits =
        |text: &mut Option<String>| text.is_none() && !shared.closed.load(Ordering::Acquire);
    let waited = shared.is_there.wait_timeout_while(snapshot, SNAPSHOT_TIMEOUT, waits);
    let (mut snapshot, _) = waited.unwrap_or_else(PoisonError::into_inner);
    snapshot.take()
}
