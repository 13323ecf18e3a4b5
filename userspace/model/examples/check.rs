fn main() {
    for path in std::env::args().skip(1) {
        let bytes = std::fs::read(&path).unwrap();
        let file = egressd_model::parse_bytes(&path, &bytes);
        for d in file.documents() { println!("{} {} {}/{}: {}", d.api_version, d.kind, d.namespace, d.name, d.verdict()); for x in &d.diagnostics { println!("  {x}"); } }
    }
}
