//! Asking our server as an application does.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream, UdpSocket},
    time::Duration,
};

use hickory_proto::{
    op::{Edns, Message, Query},
    rr::{Name, RecordType},
};

/// A query with a random id.
pub(crate) fn query(name: &str, record_type: RecordType, payload: Option<u16>) -> Message {
    let mut message = Message::query();
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_ascii(name).unwrap(), record_type));
    if let Some(payload) = payload {
        let mut edns = Edns::new();
        edns.set_max_payload(payload);
        message.set_edns(edns);
    }
    message
}

/// Sends bytes and returns the reply's; nothing after the time given.
pub(crate) fn exchange_udp(to: SocketAddr, bytes: &[u8], wait: Duration) -> Option<Vec<u8>> {
    let socket = UdpSocket::bind((to.ip(), 0)).unwrap();
    socket.set_read_timeout(Some(wait)).unwrap();
    socket.connect(to).unwrap();
    socket.send(bytes).unwrap();
    let mut buffer = vec![0; 65_535];
    let length = socket.recv(&mut buffer).ok()?;
    buffer.truncate(length);
    Some(buffer)
}

pub(crate) fn ask_udp(to: SocketAddr, message: &Message) -> Message {
    let bytes = exchange_udp(to, &message.to_vec().unwrap(), WAIT).expect("a reply over UDP");
    let reply = Message::from_vec(&bytes).unwrap();
    assert_eq!(reply.id, message.id);
    reply
}

/// One connection to our server.
pub(crate) struct Connection(TcpStream);

impl Connection {
    pub(crate) fn open(to: SocketAddr) -> Self {
        let stream = TcpStream::connect_timeout(&to, WAIT).unwrap();
        stream.set_read_timeout(Some(WAIT)).unwrap();
        Self(stream)
    }

    /// One whose address the server has not seen yet, and that address.
    pub(crate) fn open_from(to: SocketAddr) -> (Self, SocketAddr) {
        let connection = Self::open(to);
        let local = connection.0.local_addr().unwrap();
        (connection, local)
    }

    pub(crate) fn send(&mut self, message: &[u8]) {
        let length = u16::try_from(message.len()).unwrap().to_be_bytes();
        self.0.write_all(&[&length, message].concat()).unwrap();
    }

    /// The next reply; nothing if the server has closed the connection.
    pub(crate) fn receive(&mut self) -> Option<Vec<u8>> {
        let mut length = [0; 2];
        self.0.read_exact(&mut length).ok()?;
        let mut message = vec![0; u16::from_be_bytes(length).into()];
        self.0.read_exact(&mut message).ok()?;
        Some(message)
    }

    pub(crate) fn finish(&mut self) {
        self.0.shutdown(std::net::Shutdown::Write).unwrap();
    }
}

pub(crate) fn ask_tcp(to: SocketAddr, message: &Message) -> Message {
    let mut connection = Connection::open(to);
    connection.send(&message.to_vec().unwrap());
    let reply = Message::from_vec(&connection.receive().expect("a reply over TCP")).unwrap();
    assert_eq!(reply.id, message.id);
    reply
}

/// The answers as `NAME TTL IN TYPE DATA`.
pub(crate) fn answers(reply: &Message) -> Vec<String> {
    let shown = reply.answers.iter().map(|record| {
        format!("{} {} IN {} {}", record.name, record.ttl, record.record_type(), record.data)
    });
    shown.collect()
}

/// Longer than one upstream may take.
pub(crate) const WAIT: Duration = Duration::from_secs(12);
