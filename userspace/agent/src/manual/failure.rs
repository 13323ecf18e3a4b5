//! What breaks, what the traffic does then, how it shows, and how to undo it.
//!
//! | what | new connections | established ones | how it shows | what to do |
//! |---|---|---|---|---|
//! | the daemon is killed (SIGKILL, out of memory) | go where they were going; an allocated VIP is unreachable | through the proxy: reset by the kernel | the service manager; no process holds the links | start it again; a cgroup `egressd.self` left behind is used again |
//! | SIGTERM | left alone at once | go on for `drainTimeout` (30 s), then are reset | `draining`, `stopped` in the log | a second SIGTERM ends at once |
//! | no listener in a network namespace | as `capture.onProxyDown` or the ServiceEntry's annotation `egressd.io/on-proxy-down` says: left alone, or ECONNREFUSED | untouched | counters `passed_proxy_down`, `rejected_proxy_down` | the daemon opens listeners there when it hears of the first such connection |
//! | a bad edit of a resource | as before the edit | untouched | every diagnostic in the log; the generation does not grow | correct the file; `egressd check` says what is wrong |
//! | a generation needs more than a table of the kernel holds (65,536 rows by address and port, hosts, addresses of hosts; 16,384 networks) | as before the edit | untouched | an error with the table, its size and what is wanted; the generation does not grow | fewer resources for this node, for example by a Sidecar |
//! | a resource asks for what is not built yet (tunnels by POST, the PROXY protocol on HTTP ports) | closed; requests are answered with 503 | untouched | `tunnel_by_POST_not_supported` and the like in the access line | wait for it, or do without |
//! | TLS to an endpoint cannot be had: a file is missing, a certificate is not good enough, the endpoint speaks none | reset; never plaintext | untouched | `UF,URX` and `TLS_error:…` with the file or the fault in the access line | put it right: files are looked at again within a second |
//! | a captured process connects in another network namespace | as where nothing of ours listens; with `capture.namespaces: all` captured from the second connection on | untouched | the same counters | |
//! | a destination that nobody declared, under REGISTRY_ONLY | ECONNREFUSED inside connect() | untouched | an access line with `UH` and `BlackHoleCluster`; counter `denied` | declare a ServiceEntry, or switch to ALLOW_ANY |
//! | no endpoint answers | closed or reset at once, after the connect timeout at the latest | untouched | flag `UF` or `UH` and the reason in the access line | look at the endpoint |
//! | an upstream answers a request late, with garbage, or breaks off | 504 `UT` where a timeout is set, 502 `UPE`, 503 `UC`; tried again where the route's `retryOn` says so | other requests of the connection go on | flags and details in the request's access line | look at the upstream; `timeout` and `retries` of the VirtualService |
//! | an application sends what could be read as two requests, or a head beyond 60 KiB | 400 or 431, and its connection is closed | others untouched | flag `DPE` | |
//! | a port of a Gateway's server, or of the HTTP proxy, is taken | nobody is served there; everything else works | untouched | one error in the log, `doors` in `egressd status` | free the port: it is tried again every second |
//! | a client of a Gateway shows no good certificate, or ours cannot be read | closed, with an alert | untouched | flag `DPE`, `downstream_tls_failed`; a warning in the log where a file of ours is the reason | correct the certificate or the file; files are read again when they change |
//! | a hand-off is lost (table of 16,384 handshakes under way is full) | that one connection is reset | untouched | counter `handoff_miss` | it is bounded by the rate of handshakes that fail; the application tries again |
//! | the ring buffer of events is full | as always | untouched | counter `events_lost`: records are missing, counts are not | none needed |
//! | the DNS server hangs or dies | port 53 is left alone after one second without a sign of life | untouched | `egressd status` does not answer, or its `dns` counters stand still | start the daemon again |
//! | the stub of resolv.conf asks us what we ask it | SERVFAIL for names that are not ours; ours are answered | untouched | a warning names the upstream; counter `dns.upstream_loops` | set `dns.upstreams`, or let the stub ask others than those captured |
//! | resolv.conf becomes empty, unreadable or names no server; or the servers behind a local stub are gone | as before: the last good servers are captured and asked | untouched | one warning in the log, `dns` in `egressd status` | write it anew: within a second it counts |
//! | no upstream DNS server answers | known names keep their last addresses for up to a day; queries for other names get SERVFAIL | untouched | counters `upstream_failures`, `stale_answers` | look at the servers of resolv.conf or `dns.upstreams` |
//! | the file of virtual addresses is corrupt | hosts get new addresses | go on | an error in the log; the file is kept under another name | nothing: programs ask again within 30 s |
//! | no virtual address is left | the host resolves upstream as if it were not declared | untouched | one error with host and range | write `addresses`, or opt hosts out |
//! | the access log's disk is slow or full | as always | untouched | lines dropped are counted and said | make room |
//! | descriptors run out | wait in the listeners' queues | untouched | a warning with the system's error | raise LimitNOFILE: two for each connection |
//! | a program without our mark runs in our own cgroup | ECONNREFUSED for it | untouched | counter `unmarked` | move it to a cgroup of its own |
//! | somebody dials 127.64.0.0/10 or our ports of `::1` | ECONNREFUSED inside captured cgroups, reset outside of them | untouched | counter `direct_dial` | none needed |
