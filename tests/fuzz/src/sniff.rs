//! The first bytes of connections, which anybody may send.

use egressd_proxy::{FirstBytes, first_bytes};
use rustls::server::Acceptor;

/// What is decided by a beginning stays decided, and where rustls finds a server name, so do we, the
/// same one.
pub fn sniff(data: &[u8]) {
    let whole = first_bytes(data);
    // All short prefixes, and some of the long ones.
    let step = (data.len() / 64).max(1);
    for length in (0..data.len().min(64)).chain((64..data.len()).step_by(step)) {
        let part = first_bytes(&data[..length]);
        assert!(
            part == FirstBytes::Undecided || part == whole,
            "{length} bytes: {part:?}, all: {whole:?}"
        );
    }
    if let Some(name) = name_by_rustls(data) {
        assert_eq!(whole, FirstBytes::Tls(Some(name.to_ascii_lowercase().into())));
    }
}

/// The server name as rustls reads it; nothing where it finds anything to object to.
fn name_by_rustls(data: &[u8]) -> Option<String> {
    let (mut acceptor, mut rest) = (Acceptor::default(), data);
    while !rest.is_empty() {
        if acceptor.read_tls(&mut rest).ok()? == 0 {
            return None;
        }
        if let Some(accepted) = acceptor.accept().ok()? {
            return accepted.client_hello().server_name().map(str::to_owned);
        }
    }
    None
}
