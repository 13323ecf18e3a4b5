//! What holds for every configuration: the order of files does not matter, a diff leads from one
//! generation to the next, and whatever the proxy would give to a service reaches the proxy.

use std::net::SocketAddr;

use egressd_abi::{Matched, RowVerdict};
use egressd_model::{Model, ParsedFile, parse, parse_mesh_config};
use egressd_tables::{
    Action, Answers, BLACK_HOLE, Compiler, Flow, IpFamilies, Node, Options, PASSTHROUGH, PathMode,
    Sniffed, Tables, VipAllocation, requests,
};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};

/// Documents, each for a file of its own, and the settings beside them.
#[derive(Clone, Debug)]
struct Config {
    documents: Vec<String>,
    mesh: &'static str,
    options: Options,
    families: IpFamilies,
    allocate: bool,
}

const HOSTS: [&str; 7] =
    ["a.example", "b.example", "x.a.example", "*.example", "*.a.example", "c.test", "*.test"];
const BLOCKS: [&str; 4] = ["10.0.0.1", "10.1.0.0/16", "10.1.2.0/24", "0.0.0.0/0"];
const PORTS: [u16; 4] = [80, 443, 3306, 8080];
const MESHES: [&str; 4] = [
    "",
    "outboundTrafficPolicy: {mode: REGISTRY_ONLY}",
    "outboundTrafficPolicy: {mode: ALLOW_ANY_DYNAMIC_DNS}",
    "defaultServiceExportTo: ['.']\nrootNamespace: other",
];

fn quoted(items: &[&str]) -> String {
    items.iter().map(|item| format!("'{item}'")).collect::<Vec<_>>().join(", ")
}

/// A document without its name: kind, and what comes after `spec:`. `EDITION` in it stands for a
/// number whose change leaves everything in its place.
fn document() -> impl Strategy<Value = (&'static str, String)> {
    prop_oneof![
        8 => entry().prop_map(|spec| ("ServiceEntry", spec)),
        3 => virtual_service().prop_map(|spec| ("VirtualService", spec)),
        3 => destination_rule().prop_map(|spec| ("DestinationRule", spec)),
        2 => workload().prop_map(|spec| ("WorkloadEntry", spec)),
        1 => sidecar().prop_map(|spec| ("Sidecar", spec)),
    ]
}

fn hosts(most: usize) -> impl Strategy<Value = String> {
    subsequence(&HOSTS[..], 1..=most).prop_map(|hosts| quoted(&hosts))
}

fn export() -> impl Strategy<Value = &'static str> {
    select(&["", "", "", ", exportTo: ['.']", ", exportTo: ['*']", ", exportTo: [default]"][..])
}

fn entry() -> impl Strategy<Value = String> {
    let protocol = select(
        &["HTTP", "HTTP2", "GRPC", "TLS", "HTTPS", "TCP", "MONGO", "MYSQL", "UDP", "''"][..],
    );
    let ports =
        (subsequence(&PORTS[..], 1..=3), vec(protocol, 3)).prop_map(|(ports, protocols)| {
            let port = |(number, protocol): (u16, &str)| {
                format!("{{number: {number}, name: p{number}, protocol: {protocol}}}")
            };
            ports.into_iter().zip(protocols).map(port).collect::<Vec<_>>().join(", ")
        });
    let rest = select(
        &[
            "resolution: DNS",
            "resolution: DNS, endpoints: [{address: eEDITION.test}, {address: f.test, weight: 3}]",
            "resolution: DNS, endpoints: [{address: e.test, weight: EDITION}]",
            "resolution: STATIC, workloadSelector: {labels: {app: x}}",
            "resolution: DNS, addresses: [10.0.0.1]",
            "resolution: DNS, addresses: [10.0.0.2, '2001:db8::1']",
            "resolution: NONE",
            "resolution: NONE, addresses: [10.0.0.1]",
            "resolution: NONE, addresses: [10.1.0.0/16, 10.0.0.2]",
            "resolution: NONE, addresses: [10.0.0.0/8]",
            "resolution: STATIC, endpoints: [{address: 192.0.2.EDITION, labels: {v: '1'}}]",
            "resolution: STATIC, addresses: [10.1.2.0/24], endpoints: [{address: 192.0.2.2}]",
            "resolution: DNS_ROUND_ROBIN",
            "resolution: DYNAMIC_DNS",
        ][..],
    );
    (prop_oneof![3 => hosts(1), 1 => hosts(2)], ports, rest, export()).prop_map(
        |(hosts, ports, rest, export)| {
            format!(
                "{{hosts: [{hosts}], ports: [{ports}], subjectAltNames: [sEDITION.test], \
                 {rest}{export}}}"
            )
        },
    )
}

fn virtual_service() -> impl Strategy<Value = String> {
    let host = || select(&HOSTS[..]);
    let destination = || {
        (host(), select(&PORTS[..])).prop_map(|(host, port)| {
            format!("{{destination: {{host: '{host}', port: {{number: {port}}}}}}}")
        })
    };
    let http = destination().prop_map(|to| {
        format!("http: [{{name: one, match: [{{uri: {{regex: /aEDITION}}}}], route: [{to}]}}, {{timeout: EDITIONs, route: [{to}]}}]")
    });
    let tls = (host(), destination(), select(&PORTS[..])).prop_map(|(name, to, port)| {
        format!("hosts: ['{name}'], tls: [{{match: [{{sniHosts: ['{name}'], port: {port}}}], route: [{to}]}}]")
    });
    let tcp = (destination(), select(&PORTS[..]), select(&BLOCKS[..])).prop_map(
        |(to, port, block)| {
            format!(
                "tcp: [{{match: [{{port: {port}, destinationSubnets: ['{block}']}}], route: [{to}]}}]"
            )
        },
    );
    let opaque = prop_oneof![http, tcp];
    let opaque = (hosts(2), opaque).prop_map(|(hosts, rules)| format!("hosts: [{hosts}], {rules}"));
    (prop_oneof![2 => opaque, 1 => tls], export())
        .prop_map(|(rules, export)| format!("{{{rules}{export}}}"))
}

fn destination_rule() -> impl Strategy<Value = String> {
    let policy = select(
        &[
            "trafficPolicy: {tls: {mode: SIMPLE}}",
            "trafficPolicy: {connectionPool: {tcp: {maxConnections: 3}}}",
            "subsets: [{name: v1, labels: {v: '1'}}]",
            "trafficPolicy: {loadBalancer: {consistentHash: {httpHeaderName: x}}}",
        ][..],
    );
    (select(&HOSTS[..]), policy, export())
        .prop_map(|(host, policy, export)| format!("{{host: '{host}', {policy}{export}}}"))
}

fn workload() -> impl Strategy<Value = String> {
    select(&["app: x", "app: x, version: vEDITION", "app: other"][..])
        .prop_map(|labels| format!("{{address: 192.0.2.1EDITION, labels: {{{labels}}}}}"))
}

fn sidecar() -> impl Strategy<Value = String> {
    select(
        &[
            "{egress: [{hosts: ['./*']}]}",
            "{egress: [{hosts: ['*/*.example']}]}",
            "{egress: [{port: {number: 80, name: http, protocol: HTTP}, hosts: ['*/*']}, {hosts: ['other/*']}]}",
            "{outboundTrafficPolicy: {mode: REGISTRY_ONLY}}",
        ][..],
    )
    .prop_map(str::to_owned)
}

/// What happens to a file.
#[derive(Clone, Debug)]
enum Change {
    None,
    /// Another edition of the same.
    Edition(u8),
    /// Another resource of the same name.
    Other,
}

fn resource(kind: &str, place: usize, namespace: &str, age: &str, spec: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: {kind}\n\
         metadata: {{name: r{place}, namespace: {namespace}{age}}}\nspec: {spec}\n"
    )
}

/// Configurations whose next editions can be made from them: those that are compiled as a whole
/// anyway are rare.
fn plain_config() -> impl Strategy<Value = Config> {
    let document = prop_oneof![
        8 => entry().prop_map(|spec| ("ServiceEntry", spec)),
        4 => virtual_service().prop_map(|spec| ("VirtualService", spec)),
        2 => destination_rule().prop_map(|spec| ("DestinationRule", spec)),
        2 => workload().prop_map(|spec| ("WorkloadEntry", spec)),
    ];
    let documents = vec(document, 2..16).prop_map(|all| {
        let all = all.into_iter().enumerate();
        all.map(|(place, (kind, spec))| resource(kind, place, "default", "", &spec)).collect()
    });
    (config(), documents).prop_map(|(config, documents)| Config {
        documents,
        options: Options { answers: Answers::Ours, ..config.options },
        ..config
    })
}

fn config() -> impl Strategy<Value = Config> {
    let namespace = select(&["default", "other", "third"][..]);
    let age = select(&["", ", creationTimestamp: '2024-01-01T00:00:00Z'"][..]);
    let documents = vec((document(), namespace, age), 1..16).prop_map(|all| {
        let all = all.into_iter().enumerate();
        let all = all.map(|(place, ((kind, spec), namespace, age))| {
            resource(kind, place, namespace, age, &spec)
        });
        all.collect()
    });
    let path = select(&[PathMode::Auto, PathMode::Proxy, PathMode::Direct][..]);
    let options = (any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>(), path).prop_map(
        |(strict, dns_capture, proxy, istio, path)| Options {
            path,
            strict,
            dns_capture,
            http_proxy_port: proxy.then_some(15007),
            answers: if istio { Answers::Istio } else { Answers::Ours },
            detection_timeout: None,
        },
    );
    let families = select(&[IpFamilies::V4, IpFamilies::V6, IpFamilies::Dual][..]);
    (documents, select(&MESHES[..]), options, families, any::<bool>()).prop_map(
        |(documents, mesh, options, families, allocate)| Config {
            documents,
            mesh,
            options,
            families,
            allocate,
        },
    )
}

impl Config {
    fn files(&self) -> Vec<ParsedFile> {
        (0..self.documents.len()).map(|place| self.file(place, 1)).collect()
    }

    fn file(&self, place: usize, edition: u8) -> ParsedFile {
        let text = self.documents[place].replace("EDITION", &edition.to_string());
        parse(&format!("{place}.yaml"), &text)
    }

    fn compile(&self, files: &[ParsedFile]) -> Tables {
        self.compile_with(files, &mut Compiler::default(), &mut VipAllocation::default())
    }

    fn compile_with(
        &self,
        files: &[ParsedFile],
        compiler: &mut Compiler,
        vips: &mut VipAllocation,
    ) -> Tables {
        // What is rejected is left out: the rest is a configuration too.
        let (model, _) = Model::accepted(files);
        let (mesh, _) = parse_mesh_config("mesh.yaml", self.mesh, &[]).unwrap();
        if self.allocate {
            *vips = vips.allocate(&requests(&model)).0;
        }
        let node = Node { families: self.families, ..Node::default() };
        let tables = compiler.compile(&model, &mesh, &node, &self.options, vips);
        // Whatever was compiled before, the result is that of compiling for the first time.
        assert!(tables == Tables::compile(&model, &mesh, &node, &self.options, vips));
        tables
    }

    fn tables(&self) -> Tables {
        self.compile(&self.files())
    }
}

/// Connections to every address and port that a configuration could name, and to others.
fn flows() -> impl Iterator<Item = Flow<'static>> {
    let addresses = [
        "10.0.0.1",
        "10.0.0.2",
        "10.0.0.3",
        "10.1.2.3",
        "10.1.3.3",
        "203.0.113.1",
        "2001:db8::1",
        "2001:db8::2",
        "240.240.0.1",
        "240.240.0.2",
        "240.240.9.9",
        "2001:2::1",
        "2001:2::99",
    ];
    let ports = PORTS.into_iter().chain([22]);
    let sniffed = [
        Sniffed::Raw,
        Sniffed::Nothing,
        Sniffed::Http,
        Sniffed::Tls { sni: None },
        Sniffed::Tls { sni: Some("a.example") },
        Sniffed::Tls { sni: Some("y.a.example") },
        Sniffed::Tls { sni: Some("other.invalid") },
    ];
    addresses.into_iter().flat_map(move |address| {
        ports.clone().flat_map(move |port| {
            let destination = SocketAddr::new(address.parse().unwrap(), port);
            sniffed.into_iter().map(move |sniffed| Flow { destination, sniffed })
        })
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_order_of_files_does_not_matter(
        (config, order) in config().prop_flat_map(|config| {
            let places: Vec<usize> = (0..config.documents.len()).collect();
            (Just(config), Just(places).prop_shuffle())
        })
    ) {
        let files = config.files();
        let tables = config.compile(&files);
        let shuffled: Vec<_> = order.iter().filter_map(|place| files.get(*place)).cloned().collect();
        prop_assert!(tables == config.compile(&shuffled));
    }

    #[test]
    fn what_was_compiled_before_does_not_matter(
        (mut config, others, rounds) in config().prop_flat_map(|config| {
            let all = config.documents.len();
            let change = prop_oneof![
                12 => Just(Change::None),
                4 => (1_u8..4).prop_map(Change::Edition),
                1 => Just(Change::Other),
            ];
            let rounds = vec(vec(change, all), 1..5);
            (Just(config), vec(document(), all), rounds)
        })
    ) {
        let mut files = config.files();
        let (mut compiler, mut vips) = (Compiler::default(), VipAllocation::default());
        config.compile_with(&files, &mut compiler, &mut vips);
        for changes in rounds {
            for (place, change) in changes.into_iter().enumerate() {
                match change {
                    Change::None => {}
                    Change::Edition(edition) => files[place] = config.file(place, edition),
                    Change::Other => {
                        let (kind, spec) = &others[place];
                        config.documents[place] = resource(kind, place, "default", "", spec);
                        files[place] = config.file(place, 1);
                    }
                }
            }
            config.compile_with(&files, &mut compiler, &mut vips);
        }
    }

    #[test]
    fn what_the_edition_before_was_does_not_matter(
        (config, rounds) in plain_config().prop_flat_map(|config| {
            let change = prop_oneof![2 => Just(None), 1 => (1_u8..4).prop_map(Some)];
            let rounds = vec(vec(change, config.documents.len()), 1..6);
            (Just(config), rounds)
        })
    ) {
        let mut files = config.files();
        let (mut compiler, mut vips) = (Compiler::default(), VipAllocation::default());
        config.compile_with(&files, &mut compiler, &mut vips);
        for changes in rounds {
            for (place, edition) in changes.into_iter().enumerate() {
                if let Some(edition) = edition {
                    files[place] = config.file(place, edition);
                }
            }
            config.compile_with(&files, &mut compiler, &mut vips);
        }
    }

    #[test]
    fn a_diff_leads_to_the_next_rows(a in config(), b in config()) {
        let (a, b) = (a.tables(), b.tables());
        let mut rows = a.kernel_rows().clone();
        rows.apply(&a.kernel_rows().diff(b.kernel_rows()));
        prop_assert_eq!(&rows, b.kernel_rows());
        prop_assert!(rows.diff(b.kernel_rows()).is_empty());
    }

    #[test]
    fn what_a_service_gets_reaches_the_proxy(config in config()) {
        let tables = config.tables();
        for flow in flows() {
            let decision = tables.decide(&flow);
            let (matched, row) = tables.kernel_rows().find(flow.destination);
            if let Some(direct) = tables.kernel_rows().route(&row) {
                // The kernel goes where the proxy would go, and draws by the same weights.
                let Action::Tcp(route) = &decision.action else {
                    return Err(TestCaseError::fail(format!("{flow:?}")));
                };
                let drawn = route.clusters.iter().filter(|(_, weight)| *weight > 0);
                let proxied: Vec<_> = drawn.map(|(to, weight)| (to.name().clone(), *weight)).collect();
                prop_assert_eq!(&direct.clusters, &proxied, "{:?}", flow);
            } else if !decision.chain.catch_all {
                prop_assert_eq!(row.verdict(), Some(RowVerdict::Proxy), "{:?}", flow);
            }
            // What has no row is what the policy alone decides.
            if matched == Matched::Nothing {
                let denies = tables.kernel_rows().deny_unknown;
                let policy = if denies { BLACK_HOLE } else { PASSTHROUGH };
                prop_assert!(decision.chain.catch_all);
                prop_assert_eq!(decision.result(), Some(policy), "{:?}", flow);
            }
        }
    }
}
