//! A grammar of resources: most of what it makes is accepted, and what belongs together often meets,
//! because hosts, ports and addresses are few.
//!
//! Each symbol has productions, in which `<other>` stands for another symbol. `<text>` is any text.
//! `a?` after a symbol's name (`<fields?>`) leaves it out half of the time.

/// Names that calls are made for.
pub(super) const NAMES: [&str; 4] = ["a.test", "x.a.test:80", "b.test", "other.test"];
/// Addresses that calls are made to.
pub(super) const ADDRESSES: [&str; 5] =
    ["10.0.0.1", "10.1.2.3", "2001:db8::1", "192.0.2.1", "127.0.0.1"];
/// Ports that calls are made to.
pub(super) const PORTS: [u16; 4] = [80, 443, 3306, 8080];

/// A symbol and its productions.
pub(super) type Rule = (&'static str, &'static [&'static str]);

pub(super) const GRAMMAR: &[Rule] = &[
    (
        "document",
        &[
            "kind: ServiceEntry\nmetadata: <meta>\nspec: {hosts: [<hosts>], ports: [<ports>], resolution: <resolution><entry_more>}\n",
            "kind: ServiceEntry\nmetadata: <meta>\nspec: {hosts: [<host>], ports: [<ports>], resolution: STATIC, endpoints: [<endpoint>]<entry_more>}\n",
            "kind: ServiceEntry\nmetadata: <meta>\nspec: {hosts: [<host>], ports: [<ports>], resolution: NONE<entry_more>}\n",
            "kind: VirtualService\nmetadata: <meta>\nspec: {hosts: [<hosts>], http: [<http>]<export?><gateways?>}\n",
            "kind: VirtualService\nmetadata: <meta>\nspec: {hosts: [<hosts>], tls: [<tls_rule>]<export?><gateways?>}\n",
            "kind: VirtualService\nmetadata: <meta>\nspec: {hosts: [<hosts>], tcp: [<tcp_rule>]<export?><gateways?>}\n",
            "kind: VirtualService\nmetadata: {name: child}\nspec: {http: [<http>]}\n",
            "kind: DestinationRule\nmetadata: <meta>\nspec: {host: <host>, trafficPolicy: <policy><subsets?><export?>}\n",
            "kind: Sidecar\nmetadata: <meta>\nspec: {egress: [<egress>]<outbound?>}\n",
            "kind: WorkloadEntry\nmetadata: <meta>\nspec: <endpoint>\n",
            "kind: Gateway\nmetadata: {name: gateway}\nspec: {selector: {app: web}, servers: [<server>]}\n",
            "kind: Telemetry\nmetadata: <meta>\nspec: {accessLogging: [{disabled: <boolean>}]}\n",
            "kind: ServiceEntry\nmetadata: <meta>\nspec: {<text>: <text>, hosts: <text>, ports: [<text>]}\n",
        ],
    ),
    (
        "meta",
        &[
            "{name: a}",
            "{name: b}",
            "{name: c, namespace: other}",
            "{name: d, namespace: istio-system}",
            "{name: e, labels: {app: web}, creationTimestamp: '2024-05-01T12:00:00Z'}",
            "{name: f, annotations: {egressd.io/on-proxy-down: reject, networking.istio.io/exportTo: '.'}}",
        ],
    ),
    ("hosts", &["<host>", "<host>, <host>", "<host>, <host>, <host>"]),
    (
        "host",
        &["a.test", "x.a.test", "b.test", "'*.a.test'", "'*.test'", "'*'", "c", "A.test", "<text>"],
    ),
    ("port", &["80", "443", "3306", "8080", "65535", "0"]),
    ("ports", &["<one_port>", "<one_port>, <one_port>"]),
    (
        "one_port",
        &[
            "{number: <port>, name: p<port>, protocol: <protocol>}",
            "{number: <port>, name: http}",
            "{number: <port>, name: tls-x, targetPort: <port>}",
        ],
    ),
    (
        "protocol",
        &["HTTP", "HTTP2", "GRPC", "HTTPS", "TLS", "TCP", "MONGO", "MYSQL", "UDP", "''", "<text>"],
    ),
    ("resolution", &["DNS", "NONE", "STATIC", "DNS_ROUND_ROBIN", "DYNAMIC_DNS"]),
    (
        "entry_more",
        &[
            "",
            ", addresses: [<block>]",
            ", addresses: [<block>, <block>]<export?>",
            ", location: MESH_INTERNAL, subjectAltNames: [<text>]",
            ", endpoints: [<endpoint>, <endpoint>]<export?>",
            ", workloadSelector: {labels: {v: one}}",
            "<export?>",
        ],
    ),
    (
        "block",
        &[
            "10.0.0.1",
            "10.1.0.0/16",
            "10.1.2.0/24",
            "0.0.0.0/0",
            "'2001:db8::/32'",
            "'2001:db8::1'",
            "240.240.0.1",
            "127.0.0.1",
            "'::/0'",
            "'::ffff:10.0.0.1'",
        ],
    ),
    (
        "export",
        &[", exportTo: ['.']", ", exportTo: ['*']", ", exportTo: [other]", ", exportTo: ['~']"],
    ),
    ("gateways", &[", gateways: [mesh]", ", gateways: [gateway]", ", gateways: [mesh, gateway]"]),
    (
        "endpoint",
        &[
            "{address: 192.0.2.1, labels: {v: one}}",
            "{address: '2001:db8::9', weight: 3, locality: a/b/c}",
            "{address: e.test, ports: {p80: 8080}}",
            "{address: 192.0.2.2, labels: {v: two, security.istio.io/tlsMode: istio}, serviceAccount: sa, network: n}",
            "{address: 'unix:///tmp/x'}",
            "{address: 10.0.0.1, weight: 4294967295}",
        ],
    ),
    ("http", &["<http_rule>", "<http_rule>, <http_rule>", "<http_rule>, <http_rule>, <http_rule>"]),
    (
        "http_rule",
        &[
            "{route: [<to>]<http_more>}",
            "{match: [<http_match>], route: [<to>]<http_more>}",
            "{match: [<http_match>, <http_match>], route: [<to>, <to>]<http_more>}",
            "{name: r, match: [<http_match>], redirect: <redirect>}",
            "{directResponse: {status: 200, body: {string: <text>}}}",
            "{match: [<http_match>], delegate: {name: child}}",
            "{delegate: {name: child, namespace: default}}",
        ],
    ),
    (
        "redirect",
        &[
            "{uri: <text>}",
            "{uriRegexRewrite: {match: <regex>, rewrite: '\\1<text_plain>'}}",
            "{authority: b.test, redirectCode: 308}",
            "{scheme: https, derivePort: FROM_REQUEST_PORT}",
            "{port: 8443}",
        ],
    ),
    (
        "http_match",
        &[
            "{uri: <match>}",
            "{uri: <match>, ignoreUriCase: true}",
            "{method: <match>, scheme: <match>}",
            "{authority: <match>}",
            "{headers: {x-a: <match>}, withoutHeaders: {x-b: <match>}}",
            "{queryParams: {c: <match>}}",
            "{port: <port>}",
            "{sourceLabels: {app: web}, sourceNamespace: default}",
            "{gateways: [mesh], uri: <match>}",
            "{statPrefix: s}",
        ],
    ),
    (
        "match",
        &[
            "{exact: /a/b}",
            "{prefix: /}",
            "{prefix: /a}",
            "{regex: <regex>}",
            "{exact: <text>}",
            "{prefix: <text>}",
            "{}",
        ],
    ),
    ("regex", &["'.*'", "'/a/(.*)'", "'(?i)[a-z]+'", "'a{1,1000}'", "'\\\\d+$'", "<text>"]),
    (
        "to",
        &[
            "{destination: {host: <host>}}",
            "{destination: {host: <host>, port: {number: <port>}}, weight: <weight>}",
            "{destination: {host: <host>, subset: one}, weight: <weight>, headers: <headers>}",
        ],
    ),
    ("weight", &["0", "1", "50", "100", "2147483647"]),
    (
        "headers",
        &[
            "{request: {set: {x-a: <text>}, remove: [x-b]}}",
            "{response: {add: {x-c: '%START_TIME%'}}}",
            "{request: {set: {host: b.test, ':authority': c}}}",
        ],
    ),
    (
        "http_more",
        &[
            "",
            ", timeout: <duration>",
            ", retries: {attempts: 3, perTryTimeout: <duration>, retryOn: '5xx,503,gateway-error'}",
            ", fault: {delay: {fixedDelay: <duration>, percentage: {value: 12.5}}, abort: {httpStatus: 503, percentage: {value: 100}}}",
            ", mirror: {host: <host>}, mirrorPercentage: {value: 50}",
            ", mirrors: [{destination: {host: <host>}, percentage: {value: 1}}]",
            ", rewrite: {uri: <text>, authority: b.test}",
            ", rewrite: {uriRegexRewrite: {match: <regex>, rewrite: '/\\1'}}",
            ", corsPolicy: {allowOrigins: [<match>], allowMethods: [GET], maxAge: <duration>, allowCredentials: <boolean>}",
            ", headers: <headers>",
        ],
    ),
    ("duration", &["1s", "0s", "1h2m3.5s", "1ms", "999999h", "-1s", "<text>"]),
    (
        "tls_rule",
        &[
            "{match: [{sniHosts: [<hosts>]}], route: [<l4_to>]}",
            "{match: [{sniHosts: [<host>], port: <port>, destinationSubnets: [<block>]}], route: [<l4_to>]}",
            "{match: [{sniHosts: [<host>], sourceLabels: {app: web}}], route: [<l4_to>, <l4_to>]}",
        ],
    ),
    (
        "tcp_rule",
        &[
            "{route: [<l4_to>]}",
            "{match: [{port: <port>}], route: [<l4_to>, <l4_to>]}",
            "{match: [{destinationSubnets: [<block>], port: <port>}, {gateways: [gateway]}], route: [<l4_to>]}",
        ],
    ),
    (
        "l4_to",
        &[
            "{destination: {host: <host>}}",
            "{destination: {host: <host>, port: {number: <port>}, subset: two}, weight: <weight>}",
        ],
    ),
    (
        "policy",
        &[
            "{tls: <client_tls>}",
            "{loadBalancer: <balancer>}",
            "{connectionPool: {tcp: {maxConnections: 1, connectTimeout: <duration>, tcpKeepalive: {probes: 3, time: <duration>}}, http: {http2MaxRequests: 5, h2UpgradePolicy: UPGRADE, idleTimeout: <duration>}}}",
            "{outlierDetection: {consecutive5xxErrors: 3, interval: <duration>, baseEjectionTime: <duration>, maxEjectionPercent: 100}, loadBalancer: <balancer>}",
            "{portLevelSettings: [{port: {number: <port>}, tls: <client_tls>, loadBalancer: <balancer>}], tls: <client_tls>}",
            "{tunnel: {protocol: CONNECT, targetHost: b.test, targetPort: <port>}}",
            "{proxyProtocol: {version: V2}}",
            "{connectionPool: {tcp: {keepAlive: {time: <duration>}}}, healthCheck: {}, circuitBreaker: {}}",
        ],
    ),
    (
        "client_tls",
        &[
            "{mode: DISABLE}",
            "{mode: SIMPLE, sni: <host>, caCertificates: /ca.pem}",
            "{mode: MUTUAL, clientCertificate: /c.pem, privateKey: /k.pem, subjectAltNames: [<text>]}",
            "{mode: ISTIO_MUTUAL}",
            "{mode: SIMPLE, credentialName: secret, insecureSkipVerify: <boolean>}",
        ],
    ),
    (
        "balancer",
        &[
            "{simple: ROUND_ROBIN, warmup: {duration: <duration>, minimumPercent: 10, aggression: 1.5}}",
            "{simple: LEAST_REQUEST}",
            "{simple: RANDOM}",
            "{simple: PASSTHROUGH}",
            "{consistentHash: {httpHeaderName: x-a, ringHash: {minimumRingSize: 1024}}}",
            "{consistentHash: {useSourceIp: true, maglev: {tableSize: 65537}}}",
            "{consistentHash: {httpCookie: {name: c, ttl: <duration>}}}",
            "{localityLbSetting: {distribute: [{from: 'a/*', to: {'a/b/*': 100}}]}}",
            "{localityLbSetting: {failover: [{from: a, to: b}]}, simple: ROUND_ROBIN}",
            "{localityLbSetting: {failoverPriority: [v, 'app=web']}}",
        ],
    ),
    (
        "subsets",
        &[
            ", subsets: [{name: one, labels: {v: one}, trafficPolicy: <policy>}, {name: two, labels: {v: two}}]",
            ", subsets: [{name: one}]",
        ],
    ),
    (
        "egress",
        &[
            "{hosts: ['*/*']}",
            "{hosts: ['./*', 'other/<host_plain>']}",
            "{hosts: ['*/<host_plain>'], port: {number: <port>, protocol: <protocol>, name: x}, bind: <bind>, captureMode: <capture>}",
            "{hosts: ['~/*']}",
            "{hosts: ['*/*'], port: {number: <port>, protocol: HTTP_PROXY, name: y}}, {hosts: ['./*']}",
        ],
    ),
    ("bind", &["''", "127.0.0.1", "10.0.0.1", "'::1'", "'unix:///tmp/y'"]),
    ("capture", &["DEFAULT", "NONE", "IPTABLES"]),
    (
        "outbound",
        &[
            ", outboundTrafficPolicy: {mode: REGISTRY_ONLY}",
            ", outboundTrafficPolicy: {mode: ALLOW_ANY}",
            ", workloadSelector: {labels: {app: web}}",
        ],
    ),
    ("host_plain", &["a.test", "*.test", "b.test", "*"]),
    ("text_plain", &["", "x", "/y"]),
    ("boolean", &["true", "false"]),
    (
        "server",
        &[
            "{port: {number: <port>, name: s, protocol: <protocol>}, hosts: [<hosts>]}",
            "{port: {number: <port>, name: s, protocol: HTTPS}, hosts: [<host>], tls: {mode: PASSTHROUGH}}",
            "{port: {number: <port>, name: s, protocol: TLS}, hosts: ['./<host_plain>'], tls: {mode: SIMPLE, serverCertificate: /c, privateKey: /k}}",
            "{port: {number: <port>, name: s, protocol: HTTP}, hosts: [<host>], tls: {httpsRedirect: true}}",
        ],
    ),
    (
        "mesh",
        &[
            "{}",
            "outboundTrafficPolicy: {mode: REGISTRY_ONLY}\n",
            "outboundTrafficPolicy: {mode: ALLOW_ANY}\ndefaultServiceExportTo: ['.']\nrootNamespace: other\n",
            "defaultHttpRetryPolicy: {attempts: 0}\nprotocolDetectionTimeout: <duration>\n",
            "localityLbSetting: {enabled: <boolean>}\nproxyHttpPort: <port>\n",
            "defaultDestinationRuleExportTo: ['.']\ndefaultVirtualServiceExportTo: ['*']\n",
            "tcpKeepalive: {probes: 3}\nconnectTimeout: <duration>\n",
        ],
    ),
];
