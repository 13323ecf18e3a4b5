//! The PROXY protocol's header, which tells an endpoint whose connection it is: what the application
//! is, and what it dialled (semantics.md §4, proxyProtocol).
//!
//! Version 1 is a line of text, version 2 is binary; both begin a connection, before any TLS.

use std::{
    future::poll_fn,
    io,
    net::{IpAddr, Ipv6Addr, SocketAddr},
};

use egressd_tables::ProxyProtocol;

use crate::{
    addrs::{ClientAddr, LocalAddr, OriginalDst},
    socket::Stream,
};

/// The header of a connection from `client`, which dialled `dialled`. `ours` is our end of the
/// connection to the endpoint.
pub(crate) fn write(
    version: ProxyProtocol,
    client: ClientAddr,
    ours: Option<LocalAddr>,
    dialled: OriginalDst,
) -> Vec<u8> {
    let source = SocketAddr::new(source(client, ours), client.0.port());
    let (source, destination) = same_family(source, dialled.0);
    match version {
        ProxyProtocol::V1 => text(source, destination),
        ProxyProtocol::V2 => binary(source, destination),
    }
}

/// Sends a header before anything else.
///
/// # Errors
/// The connection broke.
pub(crate) async fn send(stream: &mut Stream, header: &[u8]) -> io::Result<()> {
    let mut rest = header;
    while !rest.is_empty() {
        let sent = poll_fn(|cx| stream.poll_send(cx, rest)).await?;
        rest = rest.get(sent..).unwrap_or_default();
    }
    Ok(())
}

/// The application's address. Captured, it has a loopback address that means nothing elsewhere; then
/// it is the one that this machine shows to the endpoint.
fn source(client: ClientAddr, ours: Option<LocalAddr>) -> IpAddr {
    let shown = || ours.map(|ours| ours.0.ip());
    client.explicit_source().or_else(shown).unwrap_or_else(|| client.0.ip()).to_canonical()
}

/// Both in one family, as the header has room for one only.
fn same_family(source: SocketAddr, destination: SocketAddr) -> (SocketAddr, SocketAddr) {
    let destination = SocketAddr::new(destination.ip().to_canonical(), destination.port());
    if source.is_ipv4() == destination.is_ipv4() {
        return (source, destination);
    }
    let wide = |addr: SocketAddr| SocketAddr::new(IpAddr::V6(mapped(addr.ip())), addr.port());
    (wide(source), wide(destination))
}

fn mapped(ip: IpAddr) -> Ipv6Addr {
    match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped(),
        IpAddr::V6(ip) => ip,
    }
}

fn text(source: SocketAddr, destination: SocketAddr) -> Vec<u8> {
    let family = if source.is_ipv4() { "TCP4" } else { "TCP6" };
    let (from, to) = (source.ip(), destination.ip());
    let ports = (source.port(), destination.port());
    format!("PROXY {family} {from} {to} {} {}\r\n", ports.0, ports.1).into_bytes()
}

fn binary(source: SocketAddr, destination: SocketAddr) -> Vec<u8> {
    let mut addresses = Vec::with_capacity(2 * (16 + 2));
    for addr in [source, destination] {
        match addr.ip() {
            IpAddr::V4(ip) => addresses.extend_from_slice(&ip.octets()),
            IpAddr::V6(ip) => addresses.extend_from_slice(&ip.octets()),
        }
    }
    for addr in [source, destination] {
        addresses.extend_from_slice(&addr.port().to_be_bytes());
    }
    let mut header = Vec::with_capacity(SIGNATURE.len() + 4 + addresses.len());
    header.extend_from_slice(&SIGNATURE);
    header.push(VERSION_2_PROXIED);
    header.push(if source.is_ipv4() { STREAM_V4 } else { STREAM_V6 });
    // 12 or 36 bytes.
    header.extend_from_slice(&(addresses.len() as u16).to_be_bytes());
    header.extend_from_slice(&addresses);
    header
}

const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// Version 2, on somebody else's behalf.
const VERSION_2_PROXIED: u8 = 0x21;
const STREAM_V4: u8 = 0x11;
const STREAM_V6: u8 = 0x21;

#[cfg(test)]
mod tests {
    use super::*;

    fn header(version: ProxyProtocol, client: &str, ours: &str, dialled: &str) -> Vec<u8> {
        let addr = |text: &str| text.parse().unwrap();
        let ours = (!ours.is_empty()).then(|| LocalAddr(addr(ours)));
        write(version, ClientAddr(addr(client)), ours, OriginalDst(addr(dialled)))
    }

    fn line(client: &str, ours: &str, dialled: &str) -> String {
        String::from_utf8(header(ProxyProtocol::V1, client, ours, dialled)).unwrap()
    }

    #[test]
    fn version_1_is_a_line() {
        assert_eq!(
            line("10.1.2.3:40000", "10.1.2.3:50000", "192.0.2.1:443"),
            "PROXY TCP4 10.1.2.3 192.0.2.1 40000 443\r\n"
        );
        assert_eq!(
            line("[2001:db8::1]:1", "", "[2001:db8::2]:65535"),
            "PROXY TCP6 2001:db8::1 2001:db8::2 1 65535\r\n"
        );
    }

    #[test]
    fn a_captured_application_has_the_address_that_the_endpoint_sees() {
        assert_eq!(
            line("127.0.0.1:40000", "10.77.0.1:50000", "192.0.2.1:443"),
            "PROXY TCP4 10.77.0.1 192.0.2.1 40000 443\r\n"
        );
        // Towards a Unix socket there is none.
        assert_eq!(
            line("127.0.0.1:40000", "", "192.0.2.1:443"),
            "PROXY TCP4 127.0.0.1 192.0.2.1 40000 443\r\n"
        );
    }

    #[test]
    fn families_are_made_one() {
        assert_eq!(
            line("127.0.0.1:1", "10.0.0.1:2", "[2001:db8::2]:443"),
            "PROXY TCP6 ::ffff:10.0.0.1 2001:db8::2 1 443\r\n"
        );
        assert_eq!(
            line("[::ffff:10.0.0.1]:1", "", "[::ffff:192.0.2.1]:443"),
            "PROXY TCP4 10.0.0.1 192.0.2.1 1 443\r\n"
        );
    }

    #[test]
    fn version_2_is_binary() {
        let bytes = header(ProxyProtocol::V2, "10.1.2.3:258", "", "192.0.2.1:443");
        let mut expected = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c".to_vec();
        expected.extend([10, 1, 2, 3, 192, 0, 2, 1, 1, 2, 1, 187]);
        assert_eq!(bytes, expected);
        let wide = header(ProxyProtocol::V2, "[2001:db8::1]:1", "", "192.0.2.1:443");
        assert_eq!(wide[13..16], [STREAM_V6, 0, 36]);
        assert_eq!(wide.len(), 16 + 36);
        let destination = &wide[32..48];
        assert_eq!(destination, "::ffff:192.0.2.1".parse::<Ipv6Addr>().unwrap().octets());
    }

    #[test]
    fn a_line_is_never_longer_than_the_protocol_allows() {
        let widest = "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535";
        assert!(line(widest, "", widest).len() <= 107);
    }
}
