//! `--addr`: where servers are, by IP address or by name, the same for every subcommand.

use miette::miette;
use std::net::{SocketAddr, ToSocketAddrs};

/// The addresses of a server. A name may have several.
///
/// # Errors
/// It is no address, or nobody knows the name.
pub fn resolve_one(text: &str) -> miette::Result<Vec<SocketAddr>> {
    let found = text.to_socket_addrs().map_err(|error| {
        miette!(
            help = "an IP address or a name, and a port, for example 127.0.0.1:7001",
            "--addr: `{text}` is no address: {error}"
        )
    })?;
    Ok(found.collect())
}

/// The addresses of several servers, in order.
///
/// # Errors
/// One of them is no address.
pub fn resolve(texts: &[String]) -> miette::Result<Vec<SocketAddr>> {
    let found: miette::Result<Vec<Vec<SocketAddr>>> =
        texts.iter().map(|text| resolve_one(text)).collect();
    Ok(found?.into_iter().flatten().collect())
}
