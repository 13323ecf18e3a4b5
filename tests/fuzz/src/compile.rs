//! Resources made from any bytes, compiled, and connections decided.

mod grammar;
mod write;

use std::{
    net::{IpAddr, SocketAddr},
    path::Path,
};

use arbitrary::{Arbitrary as _, Unstructured};
use egressd_model::{Model, ParsedFile, parse_bytes, parse_mesh_config, resource::MeshConfig};
use egressd_tables::{
    Answers, Call, IpFamilies, NoHeaders, Node, Options, Payload, RequestHead, Tables,
    VipAllocation,
    analysis::{Subject, analyse},
    requests,
};

/// Whatever is accepted compiles, twice to the same tables, and every call gets an answer.
///
/// Bytes that begin with a zero choose from the `grammar` module; others are a text.
pub fn compile(data: &[u8]) {
    let Some((0, choices)) = data.split_first().map(|(first, rest)| (*first, rest)) else {
        return check(&parse_bytes("fuzz.yaml", data), "", Setting::default());
    };
    let mut choices = Unstructured::new(choices);
    let setting = Setting::choose(&mut choices).unwrap_or_default();
    let mesh = write::mesh(&mut choices).unwrap_or_default();
    let text = write::resources(&mut choices);
    check(&parse_bytes("fuzz.yaml", text.as_bytes()), &mesh, setting);
}

/// What decides beside the resources.
#[derive(Clone, Copy)]
struct Setting {
    strict: bool,
    vips: bool,
    istio: bool,
    families: IpFamilies,
    proxy: Option<u16>,
}

impl Default for Setting {
    fn default() -> Self {
        let families = IpFamilies::Dual;
        Self { strict: false, vips: true, istio: false, families, proxy: Some(15007) }
    }
}

impl Setting {
    fn choose(choices: &mut Unstructured<'_>) -> arbitrary::Result<Self> {
        Ok(Self {
            strict: bool::arbitrary(choices)?,
            vips: bool::arbitrary(choices)?,
            istio: bool::arbitrary(choices)?,
            families: *choices.choose(&[IpFamilies::V4, IpFamilies::V6, IpFamilies::Dual])?,
            proxy: *choices.choose(&[None, Some(15007), Some(80)])?,
        })
    }
}

fn check(file: &ParsedFile, mesh: &str, setting: Setting) {
    let (model, _) = Model::accepted([file]);
    let mesh = parse_mesh_config("mesh.yaml", mesh, &[]).map(|(mesh, _)| mesh).unwrap_or_default();
    let labels = [("app".to_owned(), "web".to_owned())].into_iter().collect();
    let node = Node { labels, families: setting.families, ..Node::default() };
    let options = Options {
        strict: setting.strict,
        dns_capture: setting.vips,
        http_proxy_port: setting.proxy,
        answers: if setting.istio { Answers::Istio } else { Answers::Ours },
        ..Options::default()
    };
    let (vips, exhausted) = match setting.vips {
        true => VipAllocation::default().allocate(&requests(&model)),
        false => (VipAllocation::default(), Vec::new()),
    };
    let tables = Tables::compile(&model, &mesh, &node, &options, &vips);
    let again = Tables::compile(&model, &mesh, &node, &options, &vips);
    assert!(tables == again, "two compilations differ");
    assert!(tables.kernel_rows().diff(again.kernel_rows()).is_empty(), "a difference of nothing");
    decide(&tables);
    let found = analyse(&subject(&model, &mesh, &node, &tables, &vips, &exhausted));
    assert!(found.iter().all(|finding| !finding.message.is_empty()), "a finding says nothing");
}

fn subject<'a>(
    model: &'a Model,
    mesh: &'a MeshConfig,
    node: &'a Node,
    tables: &'a Tables,
    vips: &'a VipAllocation,
    exhausted: &'a [egressd_tables::VipExhausted],
) -> Subject<'a> {
    let file_exists: &dyn Fn(&Path) -> bool = &|_| false;
    let vips = Some(vips);
    Subject { model, mesh, node, tables, vips, exhausted, complete: true, file_exists }
}

/// Every kind of payload at a few addresses, and at one of every listener.
fn decide(tables: &Tables) {
    let vips = tables.services().iter().flat_map(|service| &service.vips);
    let mut to: Vec<_> = vips.flat_map(|vip| vip.addresses()).take(FEW).collect();
    to.extend(grammar::ADDRESSES.iter().filter_map(|text| text.parse::<IpAddr>().ok()));
    let ports = tables.listeners().into_iter().map(|listener| listener.port).take(FEW);
    let ports: Vec<_> = ports.chain(grammar::PORTS).collect();
    for (index, ip) in to.iter().enumerate() {
        // Each address at some ports only: their product would take most of the time.
        let port = ports[index % ports.len()];
        for port in [port, 80] {
            let destination = SocketAddr::new(*ip, port);
            tables.kernel_rows().find(destination);
            for host in grammar::NAMES {
                ask(tables, destination, Payload::Tls { sni: Some(host) });
                let head = RequestHead {
                    method: "GET",
                    scheme: "http",
                    authority: host,
                    path: "/a/b?c=d",
                    headers: &NoHeaders,
                };
                ask(tables, destination, Payload::Http(head));
            }
            ask(tables, destination, Payload::Tls { sni: None });
            ask(tables, destination, Payload::Raw);
        }
    }
}

fn ask(tables: &Tables, destination: SocketAddr, payload: Payload<'_>) {
    let call = Call { destination, payload };
    let answer = tables.answer(&call);
    assert!(!answer.listener().is_empty(), "an answer without a listener");
    assert!(!answer.result().is_empty(), "an answer that says nothing");
    // A pass over all services: not for every call.
    if destination.port() == 80 {
        let explained = tables.explain(&call).answer;
        assert_eq!(explained.result(), answer.result(), "explained otherwise than decided");
    }
}

/// Virtual addresses and listeners that are asked about.
const FEW: usize = 4;
