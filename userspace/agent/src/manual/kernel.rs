//! Which kernel features are used, and from which version on.
//!
//! The floor is Linux 6.1; an older kernel is refused by name of what it lacks. Tested on 6.1, 6.12
//! and newer.
//!
//! # Minimum kernel version
//!
//! | feature | first kernel | used for | without it |
//! |---|---|---|---|
//! | cgroup/connect4, connect6 | 4.17 | turning a connection | nothing works |
//! | BPF_MAP_TYPE_SK_STORAGE in cgroup programs | 5.8 | what a socket was dialled for | nothing works |
//! | cgroup/sendmsg4, sendmsg6 | 4.18 | DNS queries of unconnected sockets | nothing works |
//! | cgroup/recvmsg4, recvmsg6 | 5.2 | answers from the server that was asked | nothing works |
//! | cgroup bpf_link | 5.7 | programs that go with the process | nothing works |
//! | cgroup/getpeername4, getpeername6 | 5.8 | showing what was dialled | nothing works |
//! | ring buffer | 5.8 | records of denied connections | nothing works |
//! | bpf_sk_lookup_tcp in connect programs | 5.3 | is our listener alive in this namespace? | nothing works |
//! | cgroup/sock_release | 5.9 | taking back hand-offs of failed handshakes | nothing works |
//! | bpf_get_netns_cookie in sock_ops | 5.15 | telling namespaces apart | nothing works |
//! | bpf_set_retval in cgroup/connect | 6.1 | ECONNREFUSED and EHOSTUNREACH in place of EPERM | refused: this is the floor |
//!
//! # What cannot be seen or turned
//!
//! - A socket belongs to the cgroup it was made in: one made outside a captured cgroup and passed
//!   inside is not captured, one made inside and passed outside still is.
//! - getsockname() shows a loopback address on a captured connection, unless the application bound
//!   one of its own.
//! - getpeername() of an MPTCP socket may show the spread address: the storage is on its subflow.
//! - `ss`, `/proc/net/tcp` and captures on `lo` show the spread address; getpeername() does not.
//! - Sockets bound to a device other than `lo` are left alone; towards an allocated VIP they get
//!   EHOSTUNREACH.
//! - A UDP socket with IP_UNICAST_IF and no binding to a device gets no answer from a server whose
//!   queries are captured: the kernel sends what is turned to loopback by that interface, and a
//!   program cannot see the option. systemd-resolved, which uses it, binds the socket as well.
//! - A service's name that is looked up through nss-resolve or D-Bus reaches us by what systemd-resolved
//!   asks then, and only where its servers are global ones; see "systemd-resolved" in
//!   [`decisions`](super::decisions).
//! - Which server a DNS query was meant for does not reach the daemon, only the answer seems to come
//!   from there. Under `dns.capture: all`, a name that is not ours is therefore asked at our upstreams,
//!   also when a program has named another server, as in `dig @192.0.2.53`.
//! - Raw and packet sockets make no connect() and are not captured.
