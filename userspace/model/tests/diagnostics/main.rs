//! The exact words of findings, and that one mistake gets one of them.

use expect_test::{Expect, expect};

use egressd_model::parse;

mod documents;
mod rules;

/// Every document as `kind namespace/name: verdict`, each followed by its findings.
fn check(text: &str, expected: Expect) {
    let file = parse("x.yaml", text);
    let mut shown = String::new();
    for document in file.documents() {
        let (kind, namespace, name) = (&document.kind, &document.namespace, &document.name);
        shown += &format!("{kind} {namespace}/{name}: {}\n", document.verdict());
        for diagnostic in &document.diagnostics {
            shown += &format!("{diagnostic}\n");
        }
    }
    expected.assert_eq(&shown);
}

/// A document of a kind with `spec` as written, indented by two spaces.
fn spec(kind: &str, spec: &str, expected: Expect) {
    let head =
        format!("apiVersion: networking.istio.io/v1\nkind: {kind}\nmetadata:\n  name: a\nspec:\n");
    let body: String = spec.trim_matches('\n').lines().map(|line| format!("  {line}\n")).collect();
    check(&format!("{head}{body}"), expected);
}
