//! Loads against servers that are made for the test: those that stand still, hang up or lie.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use super::generator::{Generator, Load, Outcome};
use super::options::{Limit, Options, Plan};
use super::processes::Used;
use super::progress::Progress;
use super::report::Report;
use super::requests::Requests;
use super::tally::Expected;
use clap::Parser;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    options: Options,
}

fn plan(arguments: &str) -> miette::Result<Plan> {
    let words = ["bench", "--seed", "1"].into_iter().chain(arguments.split_whitespace());
    Plan::new(&Line::try_parse_from(words).map_err(|error| miette::miette!("{error}"))?.options)
}

/// What a server says to its so-manieth request; none: it hangs up.
type Answer = Box<dyn FnMut(u64, &str) -> Option<String> + Send>;

/// A server that answers one request at a time, whichever connection it is from.
struct Fake {
    address: String,
    requests: Arc<Mutex<u64>>,
}

impl Fake {
    /// The threads end with the test's process.
    fn start(answer: impl FnMut(u64, &str) -> Option<String> + Send + 'static) -> Fake {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let requests = Arc::new(Mutex::new(0));
        let answer: Arc<Mutex<Answer>> = Arc::new(Mutex::new(Box::new(answer)));
        let fake = Fake { address, requests: Arc::clone(&requests) };
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (answer, requests) = (Arc::clone(&answer), Arc::clone(&requests));
                std::thread::spawn(move || serve(&stream.unwrap(), &answer, &requests));
            }
        });
        fake
    }

    fn load(&self, arguments: &str, limit: Limit) -> (Generator, Outcome, Plan) {
        let plan = plan(&format!("--addr {} {arguments}", self.address)).unwrap();
        let mut generator = Generator::connect(&plan.servers, plan.clients).unwrap();
        let load = Load { pipeline: plan.pipeline, limit, rate: plan.rate };
        let mut requests = Requests::new(&plan);
        let mut progress = Progress::new("test", &load);
        let outcome = generator.run(&mut requests, &load, &mut progress).unwrap();
        (generator, outcome, plan)
    }
}

fn serve(mut stream: &TcpStream, answer: &Mutex<Answer>, requests: &Mutex<u64>) {
    let mut reader = BufReader::new(stream);
    while let Some(request) = request(&mut reader) {
        let mut count = requests.lock().unwrap();
        let said = answer.lock().unwrap()(*count, &request);
        *count += 1;
        match said {
            Some(said) if stream.write_all(said.as_bytes()).is_ok() => {}
            _ => return,
        }
    }
}

/// The words of a request with blanks between them; none at the end of the stream.
fn request(reader: &mut impl BufRead) -> Option<String> {
    let mut line = || {
        let mut line = String::new();
        reader.read_line(&mut line).ok().filter(|length| *length > 0)?;
        Some(line.trim_end().to_owned())
    };
    let count: usize = line()?.strip_prefix('*')?.parse().ok()?;
    let mut words = Vec::new();
    for _ in 0..count {
        let length: usize = line()?.strip_prefix('$')?.parse().ok()?;
        words.push(line()?);
        assert_eq!(words.last()?.len(), length);
    }
    Some(words.join(" "))
}

fn ok() -> Option<String> {
    Some(String::from("+OK\r\n"))
}

/// Stands still for a second, once, in the middle.
fn pausing() -> Fake {
    Fake::start(|count, _| {
        if count == 500 {
            std::thread::sleep(Duration::from_secs(1));
        }
        ok()
    })
}

fn quantile_ms(outcome: &Outcome, quantile: f64) -> u64 {
    outcome.tally.latencies.value_at_quantile(quantile) / 1_000_000
}

#[test]
fn what_was_due_while_a_server_stood_still_has_waited_in_an_open_loop() {
    // 1000 of 2000 requests are due in the second: half of those wait longer than half of it.
    let (_, outcome, _) = pausing().load("--clients 5 --rate 1000", Limit::Requests(2000));
    assert_eq!(outcome.tally.operations(), 2000);
    assert!(outcome.elapsed >= Duration::from_millis(1990), "{:?}", outcome.elapsed);
    assert!(quantile_ms(&outcome, 0.76) >= 400, "{}", quantile_ms(&outcome, 0.76));
    assert!(quantile_ms(&outcome, 0.99) >= 900, "{}", quantile_ms(&outcome, 0.99));

    // A closed loop asks nothing meanwhile: only the five that were under way have waited.
    let (_, outcome, _) = pausing().load("--clients 5", Limit::Requests(2000));
    assert_eq!(outcome.tally.operations(), 2000);
    assert!(quantile_ms(&outcome, 0.99) < 500, "{}", quantile_ms(&outcome, 0.99));
    assert!(quantile_ms(&outcome, 1.0) >= 999, "{}", quantile_ms(&outcome, 1.0));
}

#[test]
fn a_rate_that_cannot_be_held_is_told_and_what_was_never_sent_has_waited() {
    let slow = Fake::start(|_, _| {
        std::thread::sleep(Duration::from_millis(10));
        ok()
    });
    let limit = Limit::Duration(Duration::from_millis(500));
    let (generator, outcome, plan) = slow.load("--clients 1 --rate 1000 --seconds 0.5", limit);
    let kept = outcome.kept.unwrap();
    assert_eq!(kept.scheduled, 500);
    assert!(kept.late > 400 && kept.not_sent > 300, "{kept:?}");
    let operations = outcome.tally.operations();
    assert_eq!(outcome.tally.latencies.len(), operations + kept.not_sent);
    assert!(quantile_ms(&outcome, 0.5) > 900);
    let report = Report::new(&plan, &outcome, &Used::default(), [None; 2], &generator.broken);
    let text = report.text();
    assert!(text.contains("THE RATE WAS NOT HELD"), "{text}");
    let json: serde_json::Value = serde_json::from_str(&report.json().unwrap()).unwrap();
    assert_eq!(json["rate_held"], false);
    assert_eq!(json["loop"], "open");
}

#[test]
fn a_rate_that_can_be_held_is_held() {
    let fake = Fake::start(|_, _| ok());
    let limit = Limit::Duration(Duration::from_millis(500));
    let (_, outcome, _) = fake.load("--clients 20 --rate 200", limit);
    assert_eq!(outcome.tally.operations(), 100);
    assert_eq!(outcome.kept.unwrap().not_sent, 0);
}

#[test]
fn so_many_requests_are_sent_and_no_more() {
    let fake = Fake::start(|_, _| ok());
    let (_, outcome, _) = fake.load("--clients 3 --pipeline 16", Limit::Requests(50));
    assert_eq!((outcome.tally.operations(), outcome.tally.errors), (50, 0));
    assert_eq!(*fake.requests.lock().unwrap(), 50);
    assert!(outcome.kept.is_none());
}

#[test]
fn a_closed_loop_ends_with_its_time() {
    let fake = Fake::start(|_, _| ok());
    let duration = Duration::from_millis(200);
    let (_, outcome, _) = fake.load("--clients 2 --pipeline 4", Limit::Duration(duration));
    assert_eq!(outcome.tally.operations(), *fake.requests.lock().unwrap());
    assert!(outcome.elapsed >= duration);
}

#[test]
fn a_connection_that_breaks_is_named_and_the_others_go_on() {
    let fake = Fake::start(|count, _| if count == 10 { None } else { ok() });
    let (generator, outcome, _) = fake.load("--clients 4", Limit::Requests(100));
    assert_eq!(outcome.tally.operations(), 99);
    let failure = generator.broken.failure().unwrap().to_string();
    for word in ["1 of 4", &fake.address, "1 requests unanswered", "closed by the server"] {
        assert!(failure.contains(word), "`{word}` is not in: {failure}");
    }
}

#[test]
fn when_all_connections_are_broken_the_run_ends() {
    for arguments in ["--clients 2", "--clients 2 --rate 1000"] {
        let fake = Fake::start(|_, _| None);
        let (generator, outcome, _) = fake.load(arguments, Limit::Duration(MINUTE));
        assert_eq!(outcome.tally.operations(), 0);
        assert!(generator.broken.failure().unwrap().to_string().contains("2 of 2"));
    }
}

#[test]
fn what_is_no_reply_and_a_reply_to_nothing_break_a_connection() {
    for (said, told) in [("HTTP/1.1 400\r\n", "no reply of RESP2"), ("+OK\r\n+OK\r\n", "nothing")] {
        let fake = Fake::start(move |_, _| Some(String::from(said)));
        let (generator, _, _) = fake.load("--clients 1", Limit::Duration(MINUTE));
        let failure = generator.broken.failure().unwrap().to_string();
        assert!(failure.contains(told), "`{told}` is not in: {failure}");
    }
}

/// Of tests that end earlier.
const MINUTE: Duration = Duration::from_secs(60);

#[test]
fn errors_from_the_start_end_the_run_with_their_text() {
    let fake = Fake::start(|_, _| Some(String::from("-NOAUTH Authentication required.\r\n")));
    let started = Instant::now();
    let (_, outcome, _) = fake.load("--clients 5", Limit::Duration(MINUTE));
    assert!(started.elapsed() < MINUTE);
    assert_eq!(outcome.tally.operations(), 0);
    let error = outcome.tally.first_error.unwrap();
    assert_eq!(error, "NOAUTH Authentication required.");
}

#[test]
fn an_answer_that_was_not_expected_is_an_error() {
    for (command, said, told) in [
        ("set", "+QUEUED\r\n", "unexpected answer: `QUEUED`"),
        ("set", "$-1\r\n", "unexpected answer: no value"),
        ("get", ":7\r\n", "unexpected answer: the number 7"),
        ("incr", "$1\r\n7\r\n", "unexpected answer: a value"),
        ("ping", "*0\r\n", "unexpected answer: an array"),
    ] {
        let fake = Fake::start(move |_, _| Some(String::from(said)));
        let arguments = format!("--command {command} --clients 1");
        let (_, outcome, _) = fake.load(&arguments, Limit::Requests(3));
        assert_eq!((outcome.tally.operations(), outcome.tally.errors), (0, 3));
        assert_eq!(outcome.tally.first_error.as_deref(), Some(told));
    }
}

#[test]
fn an_operation_ends_with_the_command_behind_its_batch() {
    let fake = Fake::start(|count, request| match (request, count) {
        // Nobody else has the third batch of four.
        ("WAIT 1 1000", 14) => Some(String::from(":0\r\n")),
        ("WAIT 1 1000", _) => {
            std::thread::sleep(Duration::from_millis(20));
            Some(String::from(":1\r\n"))
        }
        _ => ok(),
    });
    let mut plan = plan(&format!("--addr {} --clients 1 --pipeline 4", fake.address)).unwrap();
    plan.then = ["WAIT", "1", "1000"].map(String::from).to_vec();
    let mut generator = Generator::connect(&plan.servers, 1).unwrap();
    let load = Load { pipeline: 4, limit: Limit::Requests(16), rate: None };
    let mut progress = Progress::new("test", &load);
    let outcome = generator.run(&mut Requests::new(&plan), &load, &mut progress).unwrap();
    assert_eq!((outcome.tally.operations(), outcome.tally.errors), (12, 4));
    assert_eq!(*fake.requests.lock().unwrap(), 20);
    assert!(outcome.tally.latencies.min() >= 20_000_000, "{}", outcome.tally.latencies.min());
    let error = outcome.tally.first_error.unwrap();
    assert_eq!(error, "the answer was 0, not 1 or more");
}

#[test]
fn with_then_each_every_request_has_the_command_behind_it() {
    let fake = Fake::start(|count, request| match (request, count) {
        // The second request of the first batch is refused, the fourth one's command fails.
        (_, 2) => Some(String::from("-OOM no memory\r\n")),
        ("WAIT 1 1000", 7) => Some(String::from(":0\r\n")),
        ("WAIT 1 1000", _) => Some(String::from(":1\r\n")),
        _ => ok(),
    });
    let mut plan = plan(&format!("--addr {} --clients 1 --pipeline 4", fake.address)).unwrap();
    plan.then = ["WAIT", "1", "1000"].map(String::from).to_vec();
    plan.then_each = true;
    let mut generator = Generator::connect(&plan.servers, 1).unwrap();
    let load = Load { pipeline: 4, limit: Limit::Requests(8), rate: None };
    let mut progress = Progress::new("test", &load);
    let outcome = generator.run(&mut Requests::new(&plan), &load, &mut progress).unwrap();
    assert_eq!((outcome.tally.operations(), outcome.tally.errors), (6, 2));
    assert_eq!(*fake.requests.lock().unwrap(), 16);
    assert_eq!(outcome.tally.first_error.as_deref(), Some("OOM no memory"));
}

#[test]
fn keys_are_dealt_to_several_prefixes() {
    let plan =
        plan("--command get --prefix a:,bb: --key-bytes 1 --keys 4 --distribution sequential");
    let mut requests = Requests::new(&plan.unwrap());
    let mut out = Vec::new();
    for _ in 0..4 {
        requests.append(&mut out);
    }
    let text = String::from_utf8(out).unwrap();
    let keys: Vec<&str> = text.lines().filter(|line| line.contains(':')).collect();
    assert_eq!(keys, ["a:0", "bb:1", "a:2", "bb:3"]);
}

#[test]
fn reads_that_find_nothing_are_counted_apart() {
    let fake = Fake::start(|count, _| {
        Some(String::from(if count % 2 == 0 { "$-1\r\n" } else { "$3\r\na\r\n\r\n" }))
    });
    let (_, outcome, _) = fake.load("--command get --clients 1", Limit::Requests(10));
    assert_eq!((outcome.tally.operations(), outcome.tally.misses), (10, 5));
}

#[test]
fn requests_are_what_was_asked_for() {
    let text = |arguments: &str| {
        let mut out = Vec::new();
        let plan = plan(&format!("{arguments} --distribution sequential --keys 12")).unwrap();
        let mut requests = Requests::new(&plan);
        let expected: Vec<Expected> = (0..12).map(|_| requests.append(&mut out)).collect();
        let text = String::from_utf8(out).unwrap();
        (text, expected[0])
    };
    let (get, expected) = text("--command get --prefix user: --key-bytes 3");
    assert!(get.starts_with("*2\r\n$3\r\nGET\r\n$8\r\nuser:000\r\n"), "{get}");
    assert!(get.ends_with("*2\r\n$3\r\nGET\r\n$8\r\nuser:011\r\n"), "{get}");
    assert_eq!(expected, Expected::Value);
    let (set, expected) = text("--value-bytes 4 --key-bytes 2");
    assert!(set.starts_with("*3\r\n$3\r\nSET\r\n$2\r\n00\r\n$4\r\n"), "{set}");
    assert_eq!((set.len(), expected), (12 * 31, Expected::Ok));
    let (set, _) = text("--value-bytes 0");
    assert!(set.ends_with("0000000000000011\r\n$0\r\n\r\n"), "{set}");
    let (incr, _) = text("--command incr --key-bytes 2");
    assert!(incr.starts_with("*2\r\n$4\r\nINCR\r\n$2\r\n00\r\n"), "{incr}");
    assert_eq!(text("--command ping").0, "*1\r\n$4\r\nPING\r\n".repeat(12));
    assert!(!text("--command mixed:100").0.contains("SET"));
    assert!(!text("--command mixed:0").0.contains("GET"));
    let mixed = plan("--command mixed:80").unwrap();
    let (mut requests, mut out) = (Requests::new(&mixed), Vec::new());
    let reads = (0..10_000).filter(|_| requests.append(&mut out) == Expected::Value).count();
    assert!((7_800..8_200).contains(&reads), "{reads}");
}

#[test]
fn a_fill_writes_what_the_command_can_work_with() {
    let plan = plan("--command incr --keys 2 --key-bytes 1 --distribution zipfian").unwrap();
    let (mut requests, mut out) = (Requests::fill(&plan), Vec::new());
    assert_eq!(requests.append(&mut out), Expected::Ok);
    assert_eq!(requests.append(&mut out), Expected::Ok);
    let set = |key| format!("*3\r\n$3\r\nSET\r\n$1\r\n{key}\r\n$1\r\n0\r\n");
    assert_eq!(String::from_utf8(out).unwrap(), set(0) + &set(1));
}

#[test]
fn what_cannot_be_done_is_refused() {
    for (arguments, told) in [
        ("--pipeline 0", "0 is not in 1..="),
        ("--clients 0", "0 is not in 1..="),
        ("--keys 0", "0 is not in 1.."),
        ("--rate 0", "0 is not in 1..="),
        ("--requests 0", "0 is not in 1.."),
        ("--requests 5 --seconds 1", "cannot be used with"),
        ("--seconds 0", "0 seconds measure nothing"),
        ("--seconds=-1", "say a number of seconds"),
        ("--seconds nan", "say a number of seconds"),
        ("--threads 2", "2 is not in 1..=1"),
        ("--keys 101 --key-bytes 2", "101 keys need 3 digits, not 2"),
        ("--command mixed", "say set, get, incr, mixed:0 to mixed:100 or ping"),
        ("--command mixed:101", "say set"),
        ("--distribution zipfian:0", "say uniform"),
        ("--distribution zipfian:nan", "say uniform"),
        ("--value-bytes 1000000 --pipeline 100", "bytes under way"),
        ("--command ping --fill", "PING has no keys"),
        ("--addr nowhere", "`nowhere` is no address"),
    ] {
        let error = plan(arguments).unwrap_err().to_string();
        assert!(error.contains(told), "`{told}` is not in what {arguments} is told: {error}");
    }
    assert!(plan("--keys 100 --key-bytes 2").is_ok());
}
