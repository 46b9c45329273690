//! Tests of the request parser: Redis's errors, any chunking, any bytes.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use super::parse::*;
use proptest::prelude::*;

type Commands = Vec<Vec<Vec<u8>>>;

/// Feeds chunks as the event loop does, and returns the commands and the error.
fn parse_chunks(chunks: &[&[u8]]) -> (Commands, Option<ProtocolError>) {
    let (mut parser, mut carry, mut commands) = (Parser::default(), Vec::new(), Vec::new());
    for chunk in chunks {
        carry.extend_from_slice(chunk);
        let mut batch = Batch::default();
        let parsed = parser.parse(&mut carry, BULK_BYTES_DEFAULT, &mut batch);
        let mut start = 0;
        for end in &batch.ends {
            let spans = &batch.spans[start..*end as usize];
            let argument = |span: &replication::Span| {
                carry[span.start as usize..(span.start + span.length) as usize].to_vec()
            };
            commands.push(spans.iter().map(argument).collect());
            start = *end as usize;
        }
        assert_eq!(start, batch.spans.len(), "spans of an incomplete request must not show");
        carry.drain(..parsed.consumed);
        if parsed.error.is_some() {
            return (commands, parsed.error);
        }
    }
    (commands, None)
}

fn parse(bytes: &[u8]) -> (Commands, Option<ProtocolError>) {
    parse_chunks(&[bytes])
}

fn error_of(bytes: &[u8]) -> String {
    parse(bytes).1.map_or(String::new(), |error| error.to_string())
}

fn encode(commands: &Commands) -> Vec<u8> {
    let mut bytes = Vec::new();
    for command in commands {
        bytes.extend(format!("*{}\r\n", command.len()).bytes());
        for argument in command {
            bytes.extend(format!("${}\r\n", argument.len()).bytes());
            bytes.extend_from_slice(argument);
            bytes.extend_from_slice(b"\r\n");
        }
    }
    bytes
}

#[test]
fn redis_protocol_errors() {
    let prefix = "Protocol error: ";
    for (bytes, text) in [
        (&b"*x\r\n"[..], "invalid multibulk length"),
        (b"*\r\n", "invalid multibulk length"),
        (b"*01\r\n", "invalid multibulk length"),
        (b"*+1\r\n", "invalid multibulk length"),
        (b"*20000000\r\n", "invalid multibulk length"),
        (b"*99999999999999999999\r\n", "invalid multibulk length"),
        (b"*1\r\n:3\r\n", "expected '$', got ':'"),
        (b"*1\r\n$-1\r\n", "invalid bulk length"),
        (b"*1\r\n$x\r\n", "invalid bulk length"),
        (b"*1\r\n$2000000000\r\n", "invalid bulk length"),
        (b"*1\r\n$4\r\nPINGxx", "expected CRLF after an argument"),
        (b"SET k \"v\r\n", "unbalanced quotes in request"),
        (b"SET k \"v\"v\r\n", "unbalanced quotes in request"),
    ] {
        assert_eq!(error_of(bytes), format!("{prefix}{text}"), "{}", bytes.escape_ascii());
    }
    assert_eq!(error_of(&[b'a'; INLINE_BYTES_MAX + 1]), format!("{prefix}too big inline request"));
    let endless = [b"*".as_slice(), &[b'x'; 100]].concat();
    assert_eq!(error_of(&endless), format!("{prefix}too big mbulk count string"));
}

#[test]
fn commands_before_an_error_are_kept() {
    let (commands, error) = parse(b"PING\r\n*1\r\n$4\r\nPING\r\n*1\r\n!");
    assert_eq!(commands.len(), 2);
    assert_eq!(error, Some(ProtocolError::ExpectedDollar(b'!')));
}

#[test]
fn empty_requests_ask_nothing_and_leave_no_state() {
    let (commands, error) = parse(b"\r\n*0\r\n*-1\r\n\n   \r\nPING\r\n*0\r\n*1\r\n$1\r\na\r\n");
    assert_eq!(error, None);
    assert_eq!(commands, vec![vec![b"PING".to_vec()], vec![b"a".to_vec()]]);
}

#[test]
fn inline_quotes_as_in_redis() {
    let (commands, _) = parse(b"SET  'it\\'s' \"a\\x41\\n\\\"\\q\" '' pre\"fix\"\n");
    let expected: Vec<&[u8]> = vec![b"SET", b"it's", b"aA\n\"q", b"", b"prefix"];
    assert_eq!(commands, vec![expected.iter().map(|a| a.to_vec()).collect::<Vec<_>>()]);
}

#[test]
fn a_claimed_length_allocates_nothing() {
    let (mut parser, mut batch) = (Parser::default(), Batch::default());
    let mut bytes = b"*1048576\r\n$67108864\r\nx".to_vec();
    assert_eq!(parser.parse(&mut bytes, BULK_BYTES_DEFAULT, &mut batch).consumed, 0);
    assert!(batch.spans.capacity() <= 2_048);
}

#[test]
fn a_request_of_many_large_arguments_is_refused_however_it_comes() {
    let bulk_max = 1_000;
    let command = vec![vec![b'x'; bulk_max]; REQUEST_BYTES_SLACK / bulk_max + 2];
    let whole = encode(&vec![command]);
    for pieces in [whole.len(), 100_000] {
        let (mut parser, mut carry, mut error) = (Parser::default(), Vec::new(), None);
        for chunk in whole.chunks(pieces) {
            carry.extend_from_slice(chunk);
            let parsed = parser.parse(&mut carry, bulk_max, &mut Batch::default());
            error = error.or(parsed.error);
        }
        assert_eq!(error, Some(ProtocolError::TooBigRequest));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_chunking_gives_the_same_commands(
        commands in prop::collection::vec(
            prop::collection::vec(prop::collection::vec(any::<u8>(), 0..20), 1..6), 0..8),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..12),
        inline in any::<bool>(),
    ) {
        let mut bytes = encode(&commands);
        let mut expected = commands;
        if inline {
            bytes.extend_from_slice(b"\r\nECHO \"a b\"\r\n");
            expected.push(vec![b"ECHO".to_vec(), b"a b".to_vec()]);
        }
        let mut places: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
        places.push(bytes.len());
        places.sort_unstable();
        let mut chunks = Vec::new();
        let mut start = 0;
        for place in places {
            chunks.push(&bytes[start..place]);
            start = place;
        }
        prop_assert_eq!(parse_chunks(&chunks), (expected, None));
    }

    #[test]
    fn random_bytes_never_panic(
        chunks in prop::collection::vec(
            prop::collection::vec(prop::sample::select(b"*$0123-\r\n\"'\\xa ".to_vec()), 0..40),
            0..6),
    ) {
        let chunks: Vec<&[u8]> = chunks.iter().map(Vec::as_slice).collect();
        let whole = chunks.concat();
        prop_assert_eq!(parse_chunks(&chunks).0, parse(&whole).0);
    }
}
