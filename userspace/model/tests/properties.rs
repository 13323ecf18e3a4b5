//! What holds for every text and every order of files.

use proptest::prelude::*;

use egressd_model::{Model, ParsedFile, parse, parse_bytes, parse_mesh_config};

/// Pieces that make texts look enough like resources to get past the first checks.
fn piece() -> impl Strategy<Value = String> {
    let fixed = prop::sample::select(vec![
        "apiVersion: networking.istio.io/v1\n",
        "kind: ServiceEntry\n",
        "kind: VirtualService\n",
        "kind: DestinationRule\n",
        "kind: Gateway\n",
        "kind: Sidecar\n",
        "kind: List\nitems:\n",
        "metadata:\n  name: a\n",
        "metadata:\n",
        "spec:\n",
        "  hosts: [a.example.com, '*']\n",
        "  hosts: &h\n  - *h\n",
        "  http:\n  - match: [{uri: {regex: '[[:'}}]\n",
        "  ports:\n  - {number: 80, number: -1, name: ~}\n",
        "  addresses: [1.2.3.4/99, 001:db8::, ::1]\n",
        "  trafficPolicy: {circuitBreaker: [], healthCheck: 1}\n",
        "  <<: {a: b}\n",
        "---\n",
        "...\n",
        "\u{feff}",
        "\t",
        "- ",
        "{",
        "}",
        "[",
        "]",
        ": ",
        "? ",
        "| \n",
        "'",
        "\"",
        "\r\n",
        "é",
        "!!str ",
        "%YAML 1.2\n",
        "timeout: 999999999999999999999h\n",
    ]);
    prop_oneof![4 => fixed.prop_map(str::to_owned), 1 => "\\PC{0,8}"]
}

/// A resource of its own with a number for a name.
fn resource(number: u32, time: Option<u32>) -> String {
    let creation = time.map_or(String::new(), |second| {
        format!("\n  creationTimestamp: 2024-05-01T12:00:{:02}Z", second % 60)
    });
    format!(
        "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata:\n  name: s{number}\n  namespace: n{}{creation}\n\
         spec:\n  hosts: [h{number}.example.com]\n  resolution: DNS\n",
        number % 3
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..256)) {
        let file = parse_bytes("x", &bytes);
        prop_assert!(file.diagnostics().all(|diagnostic| !diagnostic.to_string().is_empty()));
    }

    #[test]
    fn no_text_makes_it_panic(pieces in prop::collection::vec(piece(), 0..40)) {
        let text = pieces.concat();
        let file = parse("x", &text);
        for diagnostic in file.diagnostics() {
            let bytes = diagnostic.bytes();
            prop_assert!(bytes.end <= text.len() && text.is_char_boundary(bytes.start), "{diagnostic}: {bytes:?}");
        }
        let found = parse_mesh_config("x", &text, &["spec"]).map_or_else(|found| found, |(_, found)| found);
        prop_assert!(found.iter().all(|diagnostic| !diagnostic.to_string().is_empty()));
    }

    #[test]
    fn the_order_of_files_does_not_matter(
        times in prop::collection::vec(prop::option::of(0_u32..4), 1..12),
        seed in any::<u64>(),
    ) {
        let files: Vec<ParsedFile> = (0_u32..).zip(&times)
            .map(|(number, time)| parse(&format!("{number}.yaml"), &resource(number, *time)))
            .collect();
        let mut order: Vec<usize> = (0..files.len()).collect();
        order.sort_by_key(|index| (*index as u64 + 1).wrapping_mul(seed | 1) % 101);
        let forward = Model::assemble(&files);
        let shuffled = Model::assemble(order.iter().map(|index| &files[*index]));
        prop_assert_eq!(forward, shuffled);
    }
}
