//! The direct path: the kernel chooses the endpoint inside connect(), and nothing stands between.
//!
//! # Which connections take it
//!
//! Those whose endpoint the address and port dialled decide alone: ports of the TCP family, and of TLS and
//! HTTPS at an address of the service's own; resolution STATIC, DNS, DNS_ROUND_ROBIN, or NONE with
//! `targetPort`. Not those that something is done for: TLS origination, PROXY headers, tunnels, Unix
//! sockets, rules by server name, `strict`, requests of HTTP. `egressd explain` says which way a connection
//! takes and why not the direct one; `egressd config clusters` says it of every cluster, in one word.
//!
//! `path` in egressd.yaml is `auto`, `proxy` or `direct`; a ServiceEntry's annotation `egressd.io/path` goes
//! first. `direct` where it cannot be is an error of `egressd check`, and keeps a generation from coming into
//! force. Both are followed by a reload. Ports with `protocol: UDP` are an extension: Istio builds nothing for
//! them. They take the direct path or are left alone; a service needs an address for them.
//!
//! # What is the same
//!
//! The endpoints and how often each is chosen (weights, subsets, localities, least request, turns, random,
//! source address), ejections, probes, warm-ups, DNS, `maxConnections`, `connectTimeout`, `tcpKeepalive`,
//! `idleTimeout`, `maxConnectionDuration`, flags, and the fields of records and metrics. `getpeername()`
//! shows what was dialled. A name is resolved by its first connection, which the proxy carries; from then on
//! the kernel knows its addresses, for as long as connections are made (`dns.cache.idle`).
//!
//! # What differs
//!
//! | | by the proxy | straight |
//! |---|---|---|
//! | no endpoint (`UH`), too many connections (`UO`) | accepted, then closed | connect() fails |
//! | an endpoint refuses, or does not answer | up to three endpoints are tried, then closed | connect() fails, with ECONNREFUSED or ETIMEDOUT; the record has the same flags |
//! | `idleTimeout`, `maxConnectionDuration` | ends in order, to the millisecond | reset, up to a second late |
//! | an endpoint of the family that the socket cannot reach | reached | another one is chosen; if there is none, the proxy carries the connection |
//! | both families of a name | raced (RFC 8305) | one of the socket's own |
//! | the source that the endpoint sees | the daemon's choice, or what the application is bound to | the application's |
//! | records | `upstream_local` is the daemon's end | the application's; in JSON also `egressd_path`, `upstream_rtt_us`, `upstream_retransmits`, and after an abort `bytes_received_are: acknowledged` |
//! | `maxConnections` of a cluster that both paths lead to | counted by each path for itself | |
//! | the daemon ends | after `drainTimeout` the connection is reset | nothing happens to it |
//!
//! # Pins
//!
//! Programs, counts and what is known of connections are pinned under `capture.pinDirectory`
//! (`/sys/fs/bpf/egressd`), where a bpffs is mounted. After SIGKILL programs stay attached: direct
//! connections go on, new ones go to the endpoints that were good last, and `capture.onProxyDown` holds for
//! proxied ones. The next daemon adopts all of it. SIGTERM removes the pins unless the daemon was started with
//! `--keep`; `egressd cleanup` removes what a dead one has left. Until the next daemon comes nobody follows
//! DNS, probes or ejections: where that is worse than no capture, let the service manager run
//! `egressd cleanup` when the daemon has died (`ExecStopPost=` in systemd).
//!
//! # How to run an experiment in the kernel
//!
//! 1. Measure what there is: `egressd config programs --measure 10` while a load runs. It switches bpf_stats
//!    on for that time and shows how often each program ran, nanoseconds a run, and how many instructions the
//!    verifier went through.
//! 2. Change a program under `ebpf/src`; decisions belong in `egressd-abi`, where the host tests them.
//! 3. `cargo nextest run -p egressd-datapath` loads it, runs it in namespaces of its own, and fails where the
//!    verifier's count passes its bound; `cargo xtask test kernels` does so on Debian's kernels.
//! 4. `cargo xtask test e2e direct::` shows that both paths still agree.
//! 5. Measure again with the same load. To compare paths with everything else equal, write another `path` into
//!    egressd.yaml: it takes effect by itself, for new connections, and running ones stay as they are.
