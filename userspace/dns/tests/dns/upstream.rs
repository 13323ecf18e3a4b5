//! A DNS server that says what a test wants, over UDP and TCP on one port.

use std::{
    io::{ErrorKind, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream, UdpSocket},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use hickory_proto::{
    op::{Message, MessageType, ResponseCode},
    rr::{Name, RData, Record, rdata},
};

/// A query as the upstream saw it.
pub(crate) struct Asked {
    pub(crate) message: Message,
    pub(crate) bytes: Vec<u8>,
    pub(crate) from: SocketAddr,
    pub(crate) by_tcp: bool,
}

/// What becomes of queries that look for loops.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Probes {
    /// They get NXDOMAIN, unseen and uncounted.
    Refused,
    /// They are queries like any other.
    Seen,
}

/// What the upstream sends back; nothing keeps it silent.
type Behaviour = dyn Fn(&Asked) -> Vec<Vec<u8>> + Send + Sync;

/// The same from bytes, who sent them, and whether by TCP.
type Answer = dyn Fn(&[u8], SocketAddr, bool) -> Vec<Vec<u8>> + Send + Sync;

/// A running upstream. Stops when dropped.
pub(crate) struct Upstream {
    pub(crate) address: SocketAddr,
    seen: Arc<Mutex<Vec<SocketAddr>>>,
    queries: Arc<AtomicUsize>,
    stopped: Arc<AtomicBool>,
}

impl Upstream {
    /// An upstream whose behaviour does not see our probes, and which does not count them.
    pub(crate) fn start(
        behaviour: impl Fn(&Asked) -> Vec<Vec<u8>> + Send + Sync + 'static,
    ) -> Self {
        Self::start_at("127.0.0.1:0".parse().unwrap(), Probes::Refused, behaviour)
    }

    pub(crate) fn start_at(
        address: SocketAddr,
        probes: Probes,
        behaviour: impl Fn(&Asked) -> Vec<Vec<u8>> + Send + Sync + 'static,
    ) -> Self {
        let behaviour: Arc<Behaviour> = Arc::new(behaviour);
        let (udp, tcp) = loop {
            let udp = UdpSocket::bind(address).unwrap();
            match TcpListener::bind(udp.local_addr().unwrap()) {
                Ok(tcp) => break (udp, tcp),
                Err(error) => assert_eq!((error.kind(), address.port()), (ErrorKind::AddrInUse, 0)),
            }
        };
        let upstream = Self {
            address: udp.local_addr().unwrap(),
            seen: Arc::default(),
            queries: Arc::default(),
            stopped: Arc::default(),
        };
        udp.set_read_timeout(Some(TICK)).unwrap();
        tcp.set_nonblocking(true).unwrap();
        let (seen, queries) = (Arc::clone(&upstream.seen), Arc::clone(&upstream.queries));
        let handle = Arc::new(move |bytes: &[u8], from: SocketAddr, by_tcp: bool| {
            let Ok(message) = Message::from_vec(bytes) else { return Vec::new() };
            let asked = Asked { message, bytes: bytes.to_vec(), from, by_tcp };
            if probes == Probes::Refused && asked.name().ends_with(".loop.egressd.test.") {
                return asked.nothing();
            }
            queries.fetch_add(1, Ordering::Relaxed);
            seen.lock().unwrap().push(from);
            behaviour(&asked)
        });
        let (stopped, answer) = (Arc::clone(&upstream.stopped), Arc::clone(&handle));
        thread::spawn(move || {
            let mut buffer = [0; 65_535];
            while !stopped.load(Ordering::Relaxed) {
                if let Ok((length, from)) = udp.recv_from(&mut buffer) {
                    for reply in answer(&buffer[..length], from, false) {
                        udp.send_to(&reply, from).unwrap();
                    }
                }
            }
        });
        let stopped = Arc::clone(&upstream.stopped);
        thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                match tcp.accept() {
                    Ok((stream, from)) => {
                        let answer = Arc::clone(&handle);
                        thread::spawn(move || converse(stream, &*answer, from));
                    }
                    Err(_none) => thread::sleep(Duration::from_millis(5)),
                }
            }
        });
        upstream
    }

    /// How many queries have arrived.
    pub(crate) fn queries(&self) -> usize {
        self.queries.load(Ordering::Relaxed)
    }

    /// Where they came from.
    pub(crate) fn sources(&self) -> Vec<SocketAddr> {
        self.seen.lock().unwrap().clone()
    }

    pub(crate) fn plain(&self) -> egressd_dns::Upstream {
        egressd_dns::Upstream::plain(self.address)
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::Relaxed);
    }
}

fn converse(mut stream: TcpStream, answer: &Answer, from: SocketAddr) {
    stream.set_nonblocking(false).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    loop {
        let mut length = [0; 2];
        if stream.read_exact(&mut length).is_err() {
            return;
        }
        let mut message = vec![0; u16::from_be_bytes(length).into()];
        if stream.read_exact(&mut message).is_err() {
            return;
        }
        for reply in answer(&message, from, true) {
            let length = u16::try_from(reply.len()).unwrap().to_be_bytes();
            if stream.write_all(&[&length, reply.as_slice()].concat()).is_err() {
                return;
            }
        }
    }
}

impl Asked {
    /// The name asked for.
    pub(crate) fn name(&self) -> String {
        self.message.queries[0].name().to_string()
    }

    /// A reply to be filled in.
    pub(crate) fn reply(&self, code: ResponseCode) -> Message {
        let mut reply = self.message.clone();
        reply.metadata.message_type = MessageType::Response;
        reply.metadata.recursion_available = true;
        reply.metadata.response_code = code;
        reply
    }

    /// The reply with these addresses of the name asked for.
    pub(crate) fn addresses(&self, ttl: u32, addresses: &[&str]) -> Vec<Vec<u8>> {
        let mut reply = self.reply(ResponseCode::NoError);
        let owner = self.message.queries[0].name().clone();
        reply.add_answers(addresses.iter().map(|address| a(owner.clone(), ttl, address)));
        vec![reply.to_vec().unwrap()]
    }

    /// The reply that there is no such name.
    pub(crate) fn nothing(&self) -> Vec<Vec<u8>> {
        vec![self.reply(ResponseCode::NXDomain).to_vec().unwrap()]
    }
}

/// An A or AAAA record.
pub(crate) fn a(owner: Name, ttl: u32, address: &str) -> Record {
    let data = match address.parse().unwrap() {
        std::net::IpAddr::V4(address) => RData::A(rdata::A(address)),
        std::net::IpAddr::V6(address) => RData::AAAA(rdata::AAAA(address)),
    };
    Record::from_rdata(owner, ttl, data)
}

const TICK: Duration = Duration::from_millis(20);
