//! Load for etcd, so that Trefoil can be compared with it: puts over gRPC, as etcd's own clients
//! send them. Each client has a connection of its own and one put under way.
//!
//! `scripts/compare.sh` runs it; the last line says which arguments it takes. It prints one JSON
//! object with the fields of `trefoil bench --json` that a client alone can know.
//!
//! gRPC is little here: an HTTP/2 POST whose body is a byte 0, a length of four bytes, and a
//! protobuf message `PutRequest { 1: key, 2: value }`; how it went is in the trailer `grpc-status`.

use bytes::{BufMut, Bytes, BytesMut};
use h2::client::SendRequest;
use std::error::Error;
use std::time::{Duration, Instant};
use tokio::net::TcpStream;

const USAGE: &str = "etcd_load --addr HOST:PORT [--clients N] [--seconds S] [--keys N] \
                     [--key-bytes N] [--value-bytes N]";
/// The largest message that is sent; bytes.
const MESSAGE_BYTES_MAX: usize = 1 << 20;

type Failure = Box<dyn Error + Send + Sync>;

#[derive(Clone)]
struct Options {
    address: String,
    clients: u64,
    seconds: f64,
    keys: u64,
    key_bytes: usize,
    value_bytes: usize,
}

/// What one client saw.
#[derive(Default)]
struct Seen {
    /// How long each put took that was answered OK; microseconds.
    took_us: Vec<u64>,
    errors: u64,
    first_error: Option<String>,
}

fn main() -> Result<(), Failure> {
    let options = options(std::env::args().skip(1))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (seen, seconds) = runtime.block_on(load(&options))?;
    println!("{}", report(seen, seconds));
    Ok(())
}

fn options(mut arguments: impl Iterator<Item = String>) -> Result<Options, Failure> {
    let mut options = Options {
        address: String::new(),
        clients: 50,
        seconds: 3.0,
        keys: 1_000_000,
        key_bytes: 16,
        value_bytes: 100,
    };
    while let Some(name) = arguments.next() {
        let value = arguments.next().ok_or(USAGE)?;
        match name.as_str() {
            "--addr" => options.address = value,
            "--clients" => options.clients = value.parse()?,
            "--seconds" => options.seconds = value.parse()?,
            "--keys" => options.keys = value.parse()?,
            "--key-bytes" => options.key_bytes = value.parse()?,
            "--value-bytes" => options.value_bytes = value.parse()?,
            _ => return Err(USAGE.into()),
        }
    }
    let bytes = options.key_bytes.saturating_add(options.value_bytes);
    if options.address.is_empty() || options.keys == 0 || bytes > MESSAGE_BYTES_MAX {
        return Err(USAGE.into());
    }
    Ok(options)
}

/// Connects all clients, then lets them put until the time is over.
async fn load(options: &Options) -> Result<(Vec<Seen>, f64), Failure> {
    let mut connections = Vec::new();
    for _ in 0..options.clients {
        let stream = TcpStream::connect(&options.address).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) = h2::client::handshake(stream).await?;
        // It moves the frames of its connection; how it ends shows in the puts.
        tokio::spawn(connection);
        connections.push(sender);
    }
    let started = Instant::now();
    let end = started + Duration::from_secs_f64(options.seconds);
    let tasks: Vec<_> = (1..)
        .zip(connections)
        .map(|(number, sender)| tokio::spawn(client(options.clone(), sender, number, end)))
        .collect();
    let mut seen = Vec::new();
    for task in tasks {
        seen.push(task.await?);
    }
    Ok((seen, started.elapsed().as_secs_f64()))
}

/// One client; the first error ends it.
async fn client(
    options: Options,
    mut sender: SendRequest<Bytes>,
    number: u64,
    end: Instant,
) -> Seen {
    let uri = format!("http://{}/etcdserverpb.KV/Put", options.address);
    let value = vec![b'x'; options.value_bytes];
    let mut seen = Seen::default();
    // Any seed but 0 will do.
    let mut random = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    while Instant::now() < end {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let key = format!("{:0width$}", random % options.keys, width = options.key_bytes);
        let started = Instant::now();
        match put(&mut sender, &uri, message(key.as_bytes(), &value)).await {
            Ok(()) => seen.took_us.push(started.elapsed().as_micros() as u64),
            Err(error) => {
                seen.errors += 1;
                seen.first_error = Some(error.to_string());
                break;
            }
        }
    }
    seen
}

async fn put(sender: &mut SendRequest<Bytes>, uri: &str, message: Bytes) -> Result<(), Failure> {
    std::future::poll_fn(|context| sender.poll_ready(context)).await?;
    let request = http::Request::post(uri)
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(())?;
    let (response, mut body) = sender.send_request(request, false)?;
    body.send_data(message, true)?;
    let response = response.await?;
    // A failure without a body has its status in the head.
    let mut status = response.headers().get("grpc-status").cloned();
    let mut body = response.into_body();
    while let Some(chunk) = body.data().await {
        let bytes = chunk?.len();
        body.flow_control().release_capacity(bytes)?;
    }
    if let Some(trailers) = body.trailers().await? {
        status = trailers.get("grpc-status").cloned().or(status);
    }
    match status {
        Some(status) if status == "0" => Ok(()),
        status => Err(format!("grpc-status {status:?}").into()),
    }
}

/// A PutRequest in its frame.
fn message(key: &[u8], value: &[u8]) -> Bytes {
    let mut fields = BytesMut::new();
    for (number, field) in [(1u8, key), (2, value)] {
        // A field's number, and that bytes with their length follow.
        fields.put_u8(number << 3 | 2);
        put_varint(&mut fields, field.len() as u64);
        fields.put_slice(field);
    }
    let mut message = BytesMut::with_capacity(5 + fields.len());
    // Not compressed.
    message.put_u8(0);
    message.put_u32(fields.len() as u32);
    message.put_slice(&fields);
    message.freeze()
}

fn put_varint(out: &mut BytesMut, mut number: u64) {
    while number >= 0x80 {
        out.put_u8(number as u8 | 0x80);
        number >>= 7;
    }
    out.put_u8(number as u8);
}

fn report(seen: Vec<Seen>, seconds: f64) -> serde_json::Value {
    let errors: u64 = seen.iter().map(|seen| seen.errors).sum();
    let first_error = seen.iter().find_map(|seen| seen.first_error.clone());
    let mut took_us: Vec<u64> = seen.into_iter().flat_map(|seen| seen.took_us).collect();
    took_us.sort_unstable();
    let at = |share: f64| {
        let place = (took_us.len() as f64 * share) as usize;
        took_us.get(place.min(took_us.len().saturating_sub(1))).copied()
    };
    serde_json::json!({
        "operations": took_us.len(),
        "seconds": seconds,
        "ops_per_second": took_us.len() as f64 / seconds,
        "p50_us": at(0.5),
        "p90_us": at(0.9),
        "p99_us": at(0.99),
        "p999_us": at(0.999),
        "max_us": took_us.last(),
        "errors": errors,
        "first_error": first_error,
    })
}
