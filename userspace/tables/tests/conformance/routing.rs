//! Every call of `routing/`: result, listener and route as Istio's pilot and simulator have them.

use crate::calls::CallRow;
use crate::data::routing_cases;
use crate::folder::{conformance, say};

#[test]
fn every_deterministic_call_is_answered_as_istio_does() {
    let Some(folder) = conformance() else { return };
    let (mut rows, mut deterministic) = (0, 0);
    let mut wrong = Vec::new();
    for case in routing_cases(&folder) {
        let tables = case.compile();
        for line in case.read("calls.tsv").unwrap().lines().skip(1) {
            let cells: Vec<_> = line.split('\t').collect();
            let [call, result, listener, route, stable] = cells[..] else {
                panic!("{}: {line}", case.name);
            };
            rows += 1;
            if stable != "True" {
                continue;
            }
            deterministic += 1;
            let call: CallRow = serde_json::from_str(call).unwrap();
            let answer = call.answer(&tables);
            let seen = (answer.result(), answer.listener(), answer.route());
            if (seen.0.as_str(), &*seen.1, seen.2) != (result, listener, route) {
                wrong.push(format!(
                    "{} {:?}: expected {result} | {listener} | {route}, got {} | {} | {}",
                    case.name, call.name, seen.0, seen.1, seen.2
                ));
            }
        }
    }
    let agree = deterministic - wrong.len();
    say(&format_args!("routing: {agree} of {deterministic} deterministic calls of {rows} agree"));
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(rows > 0);
}
