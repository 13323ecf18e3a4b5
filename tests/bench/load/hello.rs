//! A ClientHello, which the backend sends back like any other request: what routing by SNI costs,
//! without the TLS handshake behind it.

/// A TLS 1.3 ClientHello of 517 bytes, the size browsers pad theirs to, that asks for `name`.
pub(crate) fn client_hello(name: &str) -> Vec<u8> {
    let mut server_name = list16(&[&[0], &*list16(name.as_bytes())].concat());
    let mut extensions = extension(0, &std::mem::take(&mut server_name));
    extensions.extend(extension(10, &[0, 2, 0, 29])); // x25519
    extensions.extend(extension(13, &[0, 4, 4, 3, 8, 4])); // ECDSA P-256, RSA-PSS
    extensions.extend(extension(43, &[2, 3, 4])); // TLS 1.3
    let share = [&[0, 29][..], &list16(&[7; 32])].concat();
    extensions.extend(extension(51, &list16(&share)));
    let fixed = 4 + 2 + 32 + 1 + 32 + 4 + 2 + 2;
    let padding = SIZE - 5 - fixed - extensions.len() - 4;
    extensions.extend(extension(21, &vec![0; padding]));

    let mut body = vec![3, 3];
    body.extend([1; 32]); // random
    body.push(32);
    body.extend([2; 32]); // session
    body.extend(list16(&[0x13, 0x01])); // AES-128-GCM
    body.extend([1, 0]); // no compression
    body.extend(list16(&extensions));
    let handshake = [&[1, 0][..], &list16(&body)].concat();
    [&[22, 3, 1][..], &list16(&handshake)].concat()
}

fn extension(kind: u16, content: &[u8]) -> Vec<u8> {
    [&kind.to_be_bytes()[..], &list16(content)].concat()
}

/// The bytes behind their length.
fn list16(bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as u16).to_be_bytes()[..], bytes].concat()
}

/// Bytes of the record with its header.
const SIZE: usize = 517;
