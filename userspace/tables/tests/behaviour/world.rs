//! Resources in short, and what becomes of calls.

use std::fmt::Write;

use egressd_model::{Model, ParsedFile, Verdict, parse, parse_mesh_config};
use egressd_tables::{
    Answer, Call, NoHeaders, Node, Options, Payload, RequestHead, Tables, VipAllocation, requests,
};

/// Resources and who looks at them.
#[derive(Clone, Default)]
pub(crate) struct World {
    documents: String,
    mesh: String,
    node: Node,
    options: Options,
    allocate: bool,
}

impl World {
    /// A resource: kind, `[namespace/]name`, and its spec in YAML's flow style.
    pub(crate) fn with(self, kind: &str, name: &str, spec: &str) -> Self {
        self.annotated(kind, name, "{}", spec)
    }

    pub(crate) fn annotated(
        mut self,
        kind: &str,
        name: &str,
        annotations: &str,
        spec: &str,
    ) -> Self {
        let (namespace, name) = name.split_once('/').unwrap_or(("default", name));
        writeln!(
            self.documents,
            "apiVersion: networking.istio.io/v1\nkind: {kind}\nmetadata: {{name: {name}, namespace: \
             {namespace}, annotations: {annotations}}}\nspec: {spec}\n---"
        )
        .unwrap();
        self
    }

    /// A ServiceEntry.
    pub(crate) fn entry(self, name: &str, spec: &str) -> Self {
        self.with("ServiceEntry", name, &format!("{{{spec}}}"))
    }

    /// A VirtualService.
    pub(crate) fn service(self, name: &str, spec: &str) -> Self {
        self.with("VirtualService", name, &format!("{{{spec}}}"))
    }

    /// A DestinationRule.
    pub(crate) fn rule(self, name: &str, spec: &str) -> Self {
        self.with("DestinationRule", name, &format!("{{{spec}}}"))
    }

    /// A Sidecar.
    pub(crate) fn sidecar(self, name: &str, spec: &str) -> Self {
        self.with("Sidecar", name, &format!("{{{spec}}}"))
    }

    /// MeshConfig.
    pub(crate) fn mesh(mut self, text: &str) -> Self {
        self.mesh = text.to_owned();
        self
    }

    pub(crate) fn registry_only(self) -> Self {
        self.mesh("outboundTrafficPolicy: {mode: REGISTRY_ONLY}")
    }

    /// Virtual addresses are allocated, and names answered by us.
    pub(crate) fn vips(mut self) -> Self {
        self.allocate = true;
        self.options.dns_capture = true;
        self
    }

    pub(crate) fn node(mut self, node: Node) -> Self {
        self.node = node;
        self
    }

    pub(crate) fn options(mut self, options: Options) -> Self {
        self.options = options;
        self
    }

    pub(crate) fn strict(mut self) -> Self {
        self.options.strict = true;
        self
    }

    pub(crate) fn model(&self) -> Model {
        Model::assemble([&self.file()]).unwrap()
    }

    pub(crate) fn file(&self) -> ParsedFile {
        let file = parse("x.yaml", &self.documents);
        for document in file.documents() {
            assert_ne!(document.verdict(), Verdict::Reject, "{document:#?}\n{}", self.documents);
        }
        file
    }

    pub(crate) fn tables(&self) -> Tables {
        let model = self.model();
        let (mesh, _) = parse_mesh_config("mesh.yaml", &self.mesh, &[]).unwrap();
        let vips = match self.allocate {
            true => VipAllocation::default().allocate(&requests(&model)).0,
            false => VipAllocation::default(),
        };
        Tables::compile(&model, &mesh, &self.node, &self.options, &vips)
    }
}

/// Bytes that are neither TLS nor HTTP.
pub(crate) fn raw(to: &str) -> Call<'static> {
    Call { destination: to.parse().unwrap(), payload: Payload::Raw }
}

/// A ClientHello.
pub(crate) fn tls<'a>(to: &str, sni: &'a str) -> Call<'a> {
    Call { destination: to.parse().unwrap(), payload: Payload::Tls { sni: Some(sni) } }
}

/// `GET PATH` of an authority.
pub(crate) fn get<'a>(to: &str, authority: &'a str, path: &'a str) -> Call<'a> {
    let head = RequestHead { method: "GET", scheme: "http", authority, path, headers: &NoHeaders };
    Call { destination: to.parse().unwrap(), payload: Payload::Http(head) }
}

/// What becomes of a call: `RESULT @ LISTENER [ROUTE]`.
pub(crate) fn told(answer: &Answer) -> String {
    format!("{} @ {} [{}]", answer.result(), answer.listener(), answer.route())
}

/// The same for one call.
pub(crate) fn call(tables: &Tables, call: Call<'_>) -> String {
    told(&tables.answer(&call))
}
