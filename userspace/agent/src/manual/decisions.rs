//! Choices: their context, the choice, what follows from it.
//!
//! # A pair of maps for each table, chosen by one word (2026-11)
//!
//! *Context.* A generation of rows must appear at once. Replacing an inner map of a map-in-map costs
//! about 8 ms here, and aya 0.14 has no batch update.
//!
//! *Choice.* Each table has two plain maps. The one that is not in force is brought from what it
//! holds to what is wanted, then one word is flipped, which each connect() reads once. Before the
//! other one is touched again, `membarrier(2)` waits for every program that may still read it.
//!
//! *Consequences.* A reload writes only what differs from the generation before last. Sizes are
//! fixed when the object is loaded.
//!
//! # One order for what comes and what goes (2026-11)
//!
//! *Context.* A generation reaches the proxy's tables, the kernel's rows and the names of DNS, and
//! these cannot change at one instant. Nothing may lead to a stage that does not know it yet, so what
//! is added must come from back to front; what is removed would have to go from front to back.
//!
//! *Choice.* One pass in the order of additions. The spare maps of the kernel are filled, which is all
//! that can fail; then the proxy has the new tables, then one word puts the new rows in force, then
//! DNS gives the new answers. There is no second pass for removals, because the new tables decide
//! every connection, whether a row of theirs has turned it or one that is going.
//!
//! *Consequences.* Between two of these steps, which follow one another at once, a connection to a
//! service that is going is decided as one that comes after the reload: by the policy for unknown
//! destinations. Under `REGISTRY_ONLY` it is accepted and closed with a record of
//! `BlackHoleCluster`, where an instant later connect() itself fails. A name that is going is answered
//! until the last step; whoever dials that address afterwards meets what one with an older answer
//! meets, and no other host is given it as long as there are fresh ones. Keeping a removed service
//! alive in the proxy until the rows are gone would need two generations for each reload, and let
//! connections through to what has just been taken away.
//!
//! # The rewritten-mark is shared through its name (2026-11)
//!
//! *Context.* Where one instance captures a cgroup inside another instance's, the outer program sees
//! the spread address that the inner one has put in, and would deny it as a dial to the spread
//! range.
//!
//! *Choice.* One socket-storage map for all instances of a host, found among the loaded maps by its
//! name and lent to the loader through a pin in a mount namespace that nobody else sees.
//!
//! *Consequences.* Nothing is ever pinned where it could stay behind. Another process with CAP_BPF
//! could make a map of that name first; it could as well load a program of its own.
//!
//! # Explicit excludes do not hide an exact row (2026-11)
//!
//! *Context.* `capture.excludeCidrs` may cover an address that a service has as its VIP.
//!
//! *Choice.* As with loopback: an exact row wins. The VIP leads nowhere without us.
//!
//! # aya's `Pod` through byte arrays (2026-11)
//!
//! *Context.* aya asks for `unsafe impl Pod` on key and value types, which live in another crate.
//!
//! *Choice.* Maps are opened with byte arrays of the same size; zerocopy proves the conversion.
//!
//! *Consequences.* No unsafe code at all for map access; a wrong size fails when the map is opened.
//!
//! # The DNS port follows the proxy's (2026-11)
//!
//! *Choice.* The DNS server listens 52 ports above `capture.port`: 15053 beside 15001, as in Istio.
//!
//! *Consequences.* A second daemon in the same network namespace needs one key changed, not two.
//!
//! # systemd-resolved's queries to the servers of a link are left alone (2026-11)
//!
//! *Context.* systemd-resolved sets IP_UNICAST_IF and SO_BINDTOIFINDEX on the socket that it connects
//! to a server which belongs to a link, by DHCP or `resolvectl dns LINK`, and takes the binding away
//! after connect() (seen with systemd 252; e2e test `sockets_bound_to_a_device_ask_whom_they_mean`).
//! Sockets for its global servers, `DNS=` in resolved.conf, are bound to nothing.
//!
//! *Choice.* A socket that is bound while it connects is left alone, whoever it belongs to. Taking the
//! binding away in the kernel would capture it, and would also turn queries that a VRF or a VPN keeps
//! to its own interface into queries from anywhere.
//!
//! *Consequences.* Programs that ask the stub, 127.0.0.53, are answered here: their queries are
//! captured before they reach it. Those that speak to systemd-resolved in another way (`resolve` in
//! nsswitch.conf, D-Bus, `resolvectl query`) learn the address of a service only where its servers are
//! global. On a node with servers of links, take `resolve` out of the `hosts` line of nsswitch.conf, or
//! set `DNS=` and `Domains=~.` in resolved.conf.
//!
//! # Rejected files hold everything back (2026-11)
//!
//! *Context.* After a bad edit of one file, another file may be edited well.
//!
//! *Choice.* As long as one file is rejected, nothing takes effect; every finding is logged each
//! time.
//!
//! *Consequences.* What is in force is always what the files said together at some moment.
//!
//! # One endpoint may always be ejected (2026-11)
//!
//! *Context.* `maxEjectionPercent` is 10 unless set, and Envoy's versions differ in whether a cluster of
//! fewer than ten endpoints then has outlier detection at all.
//!
//! *Choice.* At least one endpoint of a cluster may be out. Ejections begin and end when requests or
//! connections ask for the cluster, not by a timer.
//!
//! *Consequences.* `outlierDetection: {}` does something for two endpoints. A cluster of one can have
//! none left: 503 `UH` until the ejection ends; `minHealthPercent` is the way out.
//!
//! # Probes begin in good faith, and do not verify (2026-11)
//!
//! *Context.* `healthCheck` is an extension of ours. Envoy keeps traffic from an endpoint until a probe
//! has succeeded, and has no way to open TLS where applications speak it themselves.
//!
//! *Choice.* Endpoints are good until `unhealthyThreshold` probes in a row fail. On an HTTPS or TLS port
//! without a `tls` block, a probe with a path opens TLS with the service's host as its server name and
//! accepts any certificate, as Kubernetes' probes do; with a `tls` block that holds for probes too.
//!
//! *Consequences.* A start or a reload is no outage. Whether a certificate is good stays the
//! application's judgement, so no secret belongs in `healthCheck.headers`.
//!
//! # Age and namespace of resources in files (2026-11)
//!
//! *Context.* Istio lets the oldest of two resources win, and a file has neither an age that outlives a
//! copy nor a namespace of its own.
//!
//! *Choice.* `metadata.creationTimestamp` where it is written, else the order of namespace and name;
//! never the file's times. Without `metadata.namespace` a resource is in `default`, and the node is
//! where `node.namespace` says.
//!
//! *Consequences.* The same files mean the same on every node and after every copy.
//!
//! # The checks that Istio leaves out are asked for (2026-11)
//!
//! *Context.* Istio compares neither the destination of a request with the host that it asks for, nor
//! the server name of a connection with the service whose address it dials. Both are ways around
//! REGISTRY_ONLY, and both are what some configurations rest on.
//!
//! *Choice.* As Istio by default; `strict: true` compares.
//!
//! # Refusals happen inside connect() (2026-11)
//!
//! *Context.* Under REGISTRY_ONLY Istio accepts a connection to an unknown destination and closes it.
//!
//! *Choice.* ECONNREFUSED from connect(), as a firewall that rejects; the record says `UH` and
//! BlackHoleCluster as there.
//!
//! *Consequences.* Programs see at once what they would take for a broken server. Where a listener has
//! to look at the first bytes, the connection is still accepted and then closed.
//!
//! # A door has no original destination (2026-11)
//!
//! *Context.* Whoever dials a Gateway's server or the HTTP proxy dials us. A service with resolution
//! NONE, or the policy for unknown hosts, leads to where the client dialled; in Istio that is the
//! gateway itself, again.
//!
//! *Choice.* What the client asks for stands in its place: the authority of a request, the server name of
//! a ClientHello, resolved by us. Without either the connection is closed.
//!
//! *Consequences.* A wildcard service with resolution NONE works behind a gateway, for the hosts that a
//! VirtualService of the gateway names; the HTTP proxy reaches unknown hosts under ALLOW_ANY.
//! A connection that turns out to lead to a door of ours is refused: `upstream_leads_back_to_egressd`.
//! At a Unix socket (`bind: unix:///path` or `unix://@name`, port 0) records say 127.0.0.1:0 for both
//! ends; the daemon's umask and the folder say who may connect. A file that nobody listens at is replaced.
//!
//! # TLS that cannot be had closes the connection (2026-11)
//!
//! *Context.* Istio's sidecars ignore `credentialName` in a DestinationRule without a
//! `workloadSelector`, and send plaintext.
//!
//! *Choice.* A credential is a folder below `credentials`, for DestinationRules and Gateways alike. One
//! that is missing fails the connections that need it, with the reason in the record, until it is
//! there. Only mesh TLS that nobody asked for, to MESH_INTERNAL endpoints that announce it, is left out
//! where the node has no `identity`, with one warning.
//!
//! # Originated TLS that is cut short is a reset (2026-11)
//!
//! *Context.* An endpoint says inside TLS that it sends no more. If the connection below ends without
//! that, the endpoint was careless, or somebody on the way has cut its answer short. The application
//! speaks plaintext to us and cannot tell.
//!
//! *Choice.* Such an end is passed on as a reset, with `UC` and
//! `TLS_error:_closed_by_peer_without_notice` in the record, as an application's own TLS library would
//! report it. Once the application has said that it sends no more, the record says nothing: many
//! servers close without an answer to a goodbye.
//!
//! *Consequences.* Behind a server that never says goodbye, an application that reads to the end gets
//! all bytes and then a reset. Envoy passes an end on.
//!
//! # Consistent hashing without a ring (2026-11)
//!
//! *Context.* `ringHash` and `maglev` are ways to find the endpoint of a key such that few keys move
//! when endpoints come or go. Both keep a table as large as their size says.
//!
//! *Choice.* Both are weighted rendezvous hashing: each endpoint draws a number from the key and its
//! own address, and the highest wins. There is no table, weights are exact, and an endpoint that comes
//! or goes moves its own keys and no others.
//!
//! *Consequences.* `minimumRingSize` and `tableSize` are read and change nothing. A choice looks at
//! every endpoint. Which endpoint a key has differs from Envoy's choice.
//!
//! # Endpoints that are there from the start are warm (2026-11)
//!
//! *Context.* `warmup` gives a new endpoint less at first. When the daemon starts every endpoint is new
//! to it, though most have been serving all along.
//!
//! *Choice.* An endpoint is new if it joins a cluster that has been used before.
//!
//! *Consequences.* A restart of the daemon does not give warm endpoints less than one that joins soon
//! after; Envoy would give all of them the same little.
//!
//! # Who may fill the namespaces (2026-11)
//!
//! *Context.* With `capture.namespaces: all` each network namespace costs descriptors, and on most
//! hosts anybody may make namespaces.
//!
//! *Choice.* 256 in all, of which the processes of one user other than root fill 32. Reports of new ones
//! are dropped while eight are worked at: the next connection reports again. Namespaces without a
//! process are given up, and the addresses of the others learned anew, every 30 s.
//!
//! *Consequences.* Beyond the limits `capture.onProxyDown` answers.
//!
//! # Authenticated connections are their application's own (2026-11)
//!
//! *Context.* NTLM, and Negotiate as servers implement it, authenticate a connection: whoever sends the
//! next request on it acts in the name of the one before. Envoy shares such connections all the same.
//!
//! *Choice.* As HAProxy: once a request carries such an `Authorization`, or a 401 or 407 offers it, the
//! connection to the endpoint serves that application's connection alone, which also stays with that
//! endpoint, and is closed with it. An application's HTTP/2 connection may be that of many: there the
//! connection to the endpoint is closed after the exchange.
//!
//! *Consequences.* Such an application takes a connection of its own out of `maxConnections`; one that is
//! idle is closed when somebody else waits for its place.
//!
//! # Whose queries give way (2026-11)
//!
//! *Context.* What waits for upstreams is bounded, and captured queries all come from loopback: their
//! addresses tell no client from another, and any client may have any number of sockets.
//!
//! *Choice.* Sixty-four may wait before anybody looks. Beyond that the kernel's socket diagnosis (what
//! `ss` asks) says for each query whose socket sent it: user and cgroup. When there is no room, the
//! newcomer takes the place of the oldest of whoever has the most, first among users, then among the
//! cgroups of that user; a client that has the most itself waits until its oldest is 200 ms old
//! (unbound's jostle). Who has less than sixteen loses nothing to others before that time; where nobody
//! has more, the oldest of all goes. Connections to port 53 and questions over TCP and TLS go by the
//! same rule, and so do names of requests (DYNAMIC_DNS): whose they are, the kernel has said with the
//! connection; at a Gateway or the HTTP proxy it is the client's address. The next answer for a name
//! that has one counts apart from names that have none.
//!
//! *Consequences.* A few microseconds for each forwarded query of a busy node. A user who may make
//! cgroups gains nothing by it; root's services are told apart. Without CONFIG_INET_UDP_DIAG all are
//! one client.
//!
//! # Where names of requests may lead (2026-11)
//!
//! *Context.* Under DYNAMIC_DNS, at the HTTP proxy, and on a port that a host does not declare, whoever
//! answers for a name chooses what this node dials. Envoy's dynamic forward proxy dials any address
//! unless an RBAC filter forbids it; there, loopback is the sidecar's pod. Here it is the host's, also
//! for containers and for clients of a Gateway.
//!
//! *Choice.* Loopback, 0.0.0.0/8, link-local (and with it 169.254.169.254), site-local, multicast,
//! broadcast and the metadata addresses of clouds (100.100.100.200, 168.63.129.16, 192.0.0.192,
//! fd00:ec2::/32, fd20:ce::/64, fd00:c1::/64) are left out of the answer, and so are IPv6 addresses that
//! a translator (64:ff9b::/96, 64:ff9b:1::/48), 6to4 or ::/96 makes one of these, and Teredo's; and the
//! addresses of this machine's interfaces, which are as good as loopback: what comes over `lo` passes
//! rules that keep others away. Those on kube-proxy's `kube-ipvs0` are of services and stay. A name with
//! nothing else gets 403, or is closed, with `local_address_refused` in its record. Private networks are
//! not local: that is where services are. `dns.allowLocalAddresses: true` switches it off.
//!
//! *Consequences.* Translators with a prefix of their own are not known here. An ingress on this very
//! machine is not reached by such names. Addresses of this machine are listed every five seconds, in
//! our network namespace. Endpoints in resources may be anywhere, by address or by name. What is in the
//! allocated ranges or leads back to us is refused in any case.
//!
//! # Names that keep a cluster waiting (2026-11)
//!
//! *Context.* Envoy's STRICT_DNS waits for every name of a cluster before it is used; here names are
//! resolved when they are first needed, and one that nobody answers for takes ten seconds.
//!
//! *Choice.* All names are asked at once. As soon as there is one endpoint, the others get 250 ms, once:
//! after that they join when they answer. Of one name, A and AAAA wait 50 ms for one another (RFC 8305).
//!
//! *Consequences.* In the first moments a cluster may use fewer endpoints than it has.
//!
//! # Where answers differ from Istio's on purpose (2026-11)
//!
//! `answers: istio` in egressd.yaml, or `explain --answers istio`, gives Istio's own; the
//! conformance tests run with it. The cases are those under the conformance data's `routing/`.
//!
//! | what | Istio | egressd | why | case |
//! |---|---|---|---|---|
//! | a short destination host in a VirtualService | is expanded with the namespace | names the service of that very name, if there is one | there is no cluster domain here | `vs/short-name-destination` |
//! | the port in the authority of an explicit-proxy request | is stripped, so that only port 80 is found | chooses the port | `host:8080` means port 8080 | `policy/http-proxy-listener` |
//! | the port of an http rule's destination | its service is looked for among those of the listener's port | its only port, whatever the listener's | the API's documentation says so | |
//! | destinationSubnets of several matches of a tls rule | those of one match hold for the next ones too | each match has its own | an accident of iteration | |
//! | a service with an allocated VIP, dialled at its real address | passes as unknown | is found by SNI or Host | as it is without VIPs (seeds.md) | `matrix/*-auto-*` |
//! | an undeclared port of an allocated VIP | goes to 240.x, which leads nowhere | the host is resolved and the connection forwarded as PassthroughCluster (ALLOW_ANY and DNS resolution), else refused at once | declaring 80 must not break 443 | |
//! | HTTPS and SVCB queries (RFC 9460) for a host that DNS answers itself | asked upstream | no such records | their address hints and aliases would lead past the host's own address | |
//! | ports 15001 and 15006 of any destination | black hole | ordinary ports | our listeners are elsewhere | |
//! | a DestinationRule's `credentialName` on a node, without `workloadSelector` | is ignored: plaintext | is used, else the connection fails | never plaintext by accident | |
//! | resolution NONE, and unknown hosts, behind a gateway or the HTTP proxy | lead to the gateway itself | lead to what the client asks for | nothing else makes sense there | |
//! | a sniffed port whose client stays silent | is waited on for ever | for an hour, as any idle connection | a limit for everything | |
//! | whose VIP it is when two hosts share one | changes from push to push | the oldest one's, then by name | an answer must be the same twice | |
