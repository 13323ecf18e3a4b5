//! Any bytes, read as resources and as MeshConfig.

use egressd_model::{Diagnostic, Model, ParsedFile, Verdict, parse_bytes, parse_mesh_config};

/// Reading never panics, every finding points into the text, and what is accepted makes a model.
pub fn yaml(data: &[u8]) {
    let file = parse_bytes("fuzz.yaml", data);
    for diagnostic in file.diagnostics() {
        check(diagnostic, data);
    }
    check_model(&file);
    let Ok(text) = std::str::from_utf8(data) else { return };
    for path in [&[][..], &["meshConfig"]] {
        let read = parse_mesh_config("fuzz.yaml", text, path);
        for diagnostic in &read.map_or_else(|found| found, |(_, found)| found) {
            check(diagnostic, data);
        }
    }
}

fn check(diagnostic: &Diagnostic, data: &[u8]) {
    let bytes = diagnostic.bytes();
    assert!(bytes.start <= bytes.end, "{diagnostic}: {bytes:?} ends before it begins");
    assert!(bytes.end <= data.len(), "{diagnostic}: {bytes:?} is outside {} bytes", data.len());
    if let Ok(text) = std::str::from_utf8(data) {
        assert!(text.get(bytes.clone()).is_some(), "{diagnostic}: {bytes:?} splits a character");
        // A carriage return alone ends a line as well.
        let lines = text.split(['\n', '\r']).count();
        assert!(diagnostic.line() as usize <= lines, "{diagnostic}: after the last line, {lines}");
    }
    assert!(!diagnostic.message.is_empty(), "{diagnostic:?} says nothing");
}

/// A file is refused exactly if one of its documents is, or two of them are the same resource.
fn check_model(file: &ParsedFile) {
    let (accepted, twice) = Model::accepted([file]);
    let expected = file.verdict() != Verdict::Reject && twice.is_empty();
    match Model::assemble([file]) {
        Ok(model) => {
            assert!(expected, "a model in spite of errors");
            assert_eq!(model, accepted, "two models of one file");
        }
        Err(found) => {
            assert!(!expected, "no model, and no reason");
            assert!(!found.is_empty(), "refused without a finding");
        }
    }
}
