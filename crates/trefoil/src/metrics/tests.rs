//! The endpoint, with a loop that only answers.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use super::*;
use mio::{Events, Poll, Token};

/// Sends a request, and returns what comes back.
fn ask(address: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

/// An endpoint, and the loop that it wakes: one that answers with the number of the question.
fn with_loop(test: impl FnOnce(SocketAddr)) {
    let mut poll = Poll::new().unwrap();
    let waker = Arc::new(Waker::new(poll.registry(), Token(0)).unwrap());
    let metrics = Metrics::start("127.0.0.1:0".parse().unwrap(), waker.clone()).unwrap();
    let (address, ended) = (metrics.address, AtomicBool::new(false));
    std::thread::scope(|scope| {
        let ended = &ended;
        scope.spawn(move || {
            let mut events = Events::with_capacity(1);
            for question in 1.. {
                while !metrics.is_asked() {
                    if ended.load(Ordering::Acquire) {
                        return;
                    }
                    poll.poll(&mut events, None).unwrap();
                }
                metrics.publish(format!("question {question}\n"));
            }
        });
        test(address);
        ended.store(true, Ordering::Release);
        waker.wake().unwrap();
    });
    assert!(TcpStream::connect(address).is_err(), "it listens no longer");
}

#[test]
fn a_scraper_gets_a_snapshot_and_each_a_new_one() {
    with_loop(|address| {
        let first = ask(address, "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n");
        assert!(first.starts_with("HTTP/1.1 200 OK\r\n"), "{first}");
        assert!(first.contains("Content-Type: application/openmetrics-text"), "{first}");
        assert!(first.ends_with("\r\n\r\nquestion 1\n"), "{first}");
        let second = ask(address, "GET /metrics?x=1 HTTP/1.0\r\n\r\n");
        assert!(second.ends_with("\r\n\r\nquestion 2\n"), "{second}");
    });
}

#[test]
fn what_is_no_question_about_metrics_is_refused() {
    with_loop(|address| {
        for (request, status) in [
            ("GET / HTTP/1.1\r\n\r\n", "404"),
            ("POST /metrics HTTP/1.1\r\n\r\n", "405"),
            ("SET k v\r\n\r\n", "400"),
            ("GET /metrics\r\n\r\n", "400"),
            ("\r\n\r\n", "400"),
        ] {
            let answer = ask(address, request);
            assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{request:?}: {answer}");
        }
        let endless = "x".repeat(REQUEST_BYTES_MAX);
        assert!(ask(address, &endless).starts_with("HTTP/1.1 400"));
        let whole = ask(address, "GET /metrics HTTP/1.1\r\n\r\n");
        assert!(whole.ends_with("question 1\n"), "{whole}");
    });
}

#[test]
fn who_hangs_up_holds_up_nobody() {
    with_loop(|address| {
        drop(TcpStream::connect(address).unwrap());
        let answer = ask(address, "GET /metrics HTTP/1.1\r\n\r\n");
        assert!(answer.ends_with("question 1\n"), "{answer}");
    });
}
