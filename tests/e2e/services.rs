//! ServiceEntries as text, for tests that do not care about more than addresses.

/// A STATIC service for TCP named `NAME.example`, with a port and endpoints of the form
/// `ADDRESS:PORT` or `unix:///PATH`.
pub(crate) fn tcp(name: &str, addresses: &[&str], port: u16, endpoints: &[&str]) -> String {
    let addresses: Vec<_> = addresses.iter().map(|address| format!("\"{address}\"")).collect();
    let endpoints: Vec<_> = endpoints.iter().map(|endpoint| endpoint_line(endpoint)).collect();
    format!(
        "apiVersion: networking.istio.io/v1\n\
         kind: ServiceEntry\n\
         metadata: {{name: {name}}}\n\
         spec:\n\
         \x20 hosts: [{name}.example]\n\
         \x20 addresses: [{}]\n\
         \x20 ports: [{{number: {port}, name: tcp, protocol: TCP}}]\n\
         \x20 resolution: STATIC\n\
         \x20 endpoints:\n{}",
        addresses.join(", "),
        endpoints.concat()
    )
}

/// A DestinationRule for `NAME.example` with this `trafficPolicy`, in YAML's flow style.
pub(crate) fn rule(name: &str, policy: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\n\
         kind: DestinationRule\n\
         metadata: {{name: {name}}}\n\
         spec: {{host: {name}.example, trafficPolicy: {{{policy}}}}}\n"
    )
}

fn endpoint_line(endpoint: &str) -> String {
    if endpoint.starts_with("unix:") {
        return format!("  - {{address: \"{endpoint}\"}}\n");
    }
    let (address, port) = endpoint.rsplit_once(':').expect("ADDRESS:PORT");
    let address = address.trim_matches(['[', ']']);
    format!("  - {{address: \"{address}\", ports: {{tcp: {port}}}}}\n")
}
