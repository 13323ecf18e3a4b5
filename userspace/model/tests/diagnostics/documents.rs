//! What a document is: its envelope, its fields, its types.

use super::*;

#[test]
fn a_text_without_indentation_gets_one_finding() {
    check(
        "
apiVersion: networking.istio.io/v1alpha3
kind: ServiceEntry
metadata:
name: external-svc-https
spec:
hosts:
- api.example.com
ports:
- number: 443
name: https
protocol: TLS
resolution: DNS
",
        expect![[r#"
            ServiceEntry default/: reject
            x.yaml:5:1: error[lost-indentation]: name: `name` stands beside `metadata:`, not in it: the text lost its indentation
              help: indent what belongs to `metadata:` by two spaces, and so on further in
        "#]],
    );
    check(
        "
apiVersion: networking.istio.io/v1alpha3
kind: DestinationRule
metadata:
  name: fine
spec:
host: a.example.com
trafficPolicy:
tls:
mode: \"MUTUAL
",
        expect![[r#"
             /: reject
            x.yaml:7:1: error[lost-indentation]: host: `host` stands beside `spec:`, not in it: the text lost its indentation
              help: indent what belongs to `spec:` by two spaces, and so on further in
        "#]],
    );
}

#[test]
fn unknown_fields_are_met_with_a_proposal_and_no_consequence() {
    check(
        "
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata:
  name: a
  lables: {}
spec:
  host: [a.example.com]
  prots:
  - number: 80
  resolution: dns
  foo: 1
",
        expect![[r#"
            ServiceEntry default/a: reject
            x.yaml:6:3: error[unknown-field]: metadata.lables: unknown field `lables`
              help: did you mean `labels`?
            x.yaml:8:3: error[unknown-field]: spec.host: unknown field `host`
              help: did you mean `hosts`?
            x.yaml:9:3: error[unknown-field]: spec.prots: unknown field `prots`
              help: did you mean `ports`?
            x.yaml:11:15: error[unknown-value]: spec.resolution: unknown value "dns"
              help: did you mean `DNS`?
            x.yaml:12:3: error[unknown-field]: spec.foo: unknown field `foo`
              help: known fields: hosts, addresses, ports, location, resolution, endpoints, workloadSelector, exportTo, subjectAltNames
        "#]],
    );
    spec(
        "VirtualService",
        "hosts: [a.example.com]\nhtpp:\n- route: []",
        expect![[r#"
        VirtualService default/a: reject
        x.yaml:7:3: error[unknown-field]: spec.htpp: unknown field `htpp`
          help: did you mean `http`?
    "#]],
    );
    spec(
        "DestinationRule",
        "host: a.example.com\ntrafficPolicy:\n  connection_pool: {}",
        expect![[r#"
            DestinationRule default/a: reject
            x.yaml:8:5: error[unknown-field]: spec.trafficPolicy.connection_pool: unknown field `connection_pool`
              help: did you mean `connectionPool`?
        "#]],
    );
}

#[test]
fn wrong_types_say_what_was_found() {
    spec(
        "ServiceEntry",
        "
hosts: a.example.com
ports:
- {number: \"80\", name: 80, protocol: HTTP}
- {number: 70000, name: https, protocol: HTPS}
- null
- 5
location: 1
resolution: 2
exportTo: {a: b}
",
        expect![[r#"
            ServiceEntry default/a: reject
            x.yaml:6:10: error[wrong-type]: spec.hosts: expected a list, found the string "a.example.com"
              help: begin each item with `- `
            x.yaml:8:14: error[wrong-type]: spec.ports[0].number: expected a whole number, found the string "80"
              help: remove the quotes
            x.yaml:8:26: error[wrong-type]: spec.ports[0].name: expected a string, found the number 80
              help: put it in quotes: "80"
            x.yaml:9:14: error[out-of-range]: spec.ports[1].number: 70000 is not a port (1 to 65535)
            x.yaml:9:44: error[unknown-protocol]: spec.ports[1].protocol: unknown protocol "HTPS"
              help: did you mean `HTTPS`?
            x.yaml:10:5: error[wrong-type]: spec.ports[2]: an item is empty (null)
              help: fill it in or remove it
            x.yaml:11:5: error[wrong-type]: spec.ports[3]: expected a map of fields, found the number 5
            x.yaml:12:13: error[unknown-value]: spec.location: unknown value "1"
              help: one of MESH_EXTERNAL, MESH_INTERNAL
            x.yaml:13:15: error[unknown-value]: spec.resolution: unknown value "2"
              help: one of NONE, STATIC, DNS, DNS_ROUND_ROBIN, DYNAMIC_DNS
            x.yaml:14:14: error[wrong-type]: spec.exportTo: expected a list, found a map
              help: begin each item with `- `
        "#]],
    );
    spec(
        "VirtualService",
        "
hosts: [a.example.com]
http:
- timeout: 5
  retries: {attempts: -1, perTryTimeout: 2 seconds}
  match: [{ignoreUriCase: \"true\"}]
  route:
  - destination: {host: a.example.com, port: 80}
    weight: 1.5
",
        expect![[r#"
            VirtualService default/a: reject
            x.yaml:8:14: error[wrong-type]: spec.http[0].timeout: expected a duration, found the number 5
              help: write the unit, for example "5s"
            x.yaml:9:25: error[out-of-range]: spec.http[0].retries.attempts: -1 is negative
            x.yaml:9:44: error[invalid-duration]: spec.http[0].retries.perTryTimeout: "2 seconds" is not a duration
              help: a number and a unit, for example "1.5s", "100ms" or "1h"
            x.yaml:10:29: error[wrong-type]: spec.http[0].match[0].ignoreUriCase: expected true or false, found the string "true"
              help: remove the quotes
            x.yaml:12:48: error[wrong-type]: spec.http[0].route[0].destination.port: expected a map of fields, found the number 80
            x.yaml:13:15: error[wrong-type]: spec.http[0].route[0].weight: expected a whole number, found the number 1.5
        "#]],
    );
}

#[test]
fn envelopes() {
    check(
        "spec:\n  hosts: [a]\n",
        expect![[r#"
         default/: reject
        x.yaml:1:1: error[missing-field]: apiVersion: `apiVersion` is required
          help: for example `apiVersion: networking.istio.io/v1`
        x.yaml:1:1: error[missing-field]: kind: `kind` is required
          help: for example `kind: ServiceEntry`
    "#]],
    );
    check(
        "hosts: [a]\n",
        expect![[r#"
         default/: reject
        x.yaml:1:1: error[missing-field]: apiVersion: `apiVersion` is required
          help: for example `apiVersion: networking.istio.io/v1`
        x.yaml:1:1: error[missing-field]: kind: `kind` is required
          help: for example `kind: ServiceEntry`
    "#]],
    );
    check(
        "apiVersion: networking.istio.io/v1\nkind: ServiceEntri\n",
        expect![[r#"
        ServiceEntri default/: reject
        x.yaml:2:7: error[unknown-kind]: kind: networking.istio.io has no kind "ServiceEntri"
          help: did you mean `ServiceEntry`?
    "#]],
    );
    check(
        "apiVersion: networking.istio.io/v2\nkind: ServiceEntry\n",
        expect![[r#"
        ServiceEntry default/: reject
        x.yaml:1:13: error[unknown-version]: apiVersion: unknown version "v2" of networking.istio.io
          help: one of v1, v1beta1, v1alpha3
    "#]],
    );
    check(
        "apiVersion: networking.istio.io/v1\nkind: EnvoyFilter\nmetadata: {name: a}\n",
        expect![[r#"
            EnvoyFilter default/a: warn
            x.yaml:2:7: warning[unsupported-kind]: kind: EnvoyFilter does not act on outgoing traffic here and is ignored
        "#]],
    );
    check(
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: d, namespace: n}\n",
        expect![[r#"
            Deployment n/d: warn
            x.yaml:1:1: warning[foreign-document]: not a resource that egressd knows (Deployment of apps/v1); ignored
        "#]],
    );
    check(
        "groups:\n- name: alerts\n",
        expect![[r#"
         default/: warn
        x.yaml:1:1: warning[foreign-document]: not a resource that egressd knows (neither apiVersion nor kind); ignored
    "#]],
    );
    check(
        "just words\n",
        expect![[r#"
         /: reject
        x.yaml:1:1: error[wrong-type]: expected a resource (a map with apiVersion, kind, metadata and spec), found the string "just words"
    "#]],
    );
    check(
        "apiVersion: networking.istio.io/v1\nkind: WorkloadEntry\n",
        expect![[r#"
        WorkloadEntry default/: reject
        x.yaml:1:1: error[missing-field]: metadata: `metadata` is required
        x.yaml:1:1: error[missing-field]: spec: `spec` is required
    "#]],
    );
    check(
        "
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: A_b, namespace: a.b, creationTimestamp: yesterday, uid: 1}
spec: {address: 10.0.0.1}
status: {anything: goes}
",
        expect![[r#"
            WorkloadEntry a.b/A_b: reject
            x.yaml:4:18: error[invalid-name]: metadata.name: "A_b" is not a resource name
              help: lower-case letters, digits, `-` and `.`, beginning and ending with a letter or digit
            x.yaml:4:34: error[invalid-name]: metadata.namespace: "a.b" is not a namespace
              help: at most 63 lower-case letters, digits and `-`
            x.yaml:4:58: error[invalid-timestamp]: metadata.creationTimestamp: "yesterday" is not a time in RFC 3339 form
              help: for example 2024-05-01T12:00:00Z
        "#]],
    );
    check("# nothing but a comment\n---\n", expect![[r#""#]]);
}

#[test]
fn several_documents_and_lists() {
    check(
        "
a: [b
---
apiVersion: v1
kind: List
items:
- apiVersion: networking.istio.io/v1beta1
  kind: WorkloadEntry
  metadata: {name: one}
  spec: {address: 10.0.0.1, adress: x}
- null
- apiVersion: v1
  kind: Pod
  metadata: {name: two}
  status: {podIP: 10.0.0.2}
---
metadata:
\tname: tab
",
        expect![[r#"
             /: reject
            x.yaml:2:5: error[syntax]: not YAML: while parsing a flow sequence, expected ',' or ']'
            WorkloadEntry default/one: reject
            x.yaml:10:29: error[unknown-field]: items[0].spec.adress: unknown field `adress`
              help: did you mean `address`?
             /: reject
            x.yaml:11:3: error[wrong-type]: items[1]: an item is empty (null)
              help: fill it in or remove it
            Pod default/two: accept
             /: reject
            x.yaml:18:2: error[syntax]: not YAML: tabs disallowed within this context (block indentation)
              help: indent with spaces: YAML allows no tabs there
        "#]],
    );
}

#[test]
fn keys_that_stand_twice() {
    spec(
        "ServiceEntry",
        "
hosts: [a.example.com]
resolution: NONE
ports:
- {number: 80, name: http, protocol: HTTP, number: 81}
resolution: DNS
",
        expect![[r#"
            ServiceEntry default/a: reject
            x.yaml:9:46: error[duplicate-key]: spec.ports[0].number: `number` is already set in line 9
              help: keep one of the two
            x.yaml:10:3: error[duplicate-key]: spec.resolution: `resolution` is already set in line 7
              help: keep one of the two
        "#]],
    );
}

#[test]
fn the_extensions_of_the_seeds() {
    spec(
        "DestinationRule",
        "
host: a.example.com
trafficPolicy:
  connectionPool:
    tcp:
      maxConnections: 10
      connectTimeout: 30s
      keepAlive: {time: 600s, interval: 60s}
  circuitBreaker: {consecutiveGatewayErrors: 5, interval: 30s}
  healthCheck: {interval: 30s, timeout: 5s, unhealthyThreshold: 3, healthyThreshold: 2, path: /health}
",
        expect![[r#"
            DestinationRule default/a: warn
            x.yaml:12:21: warning[extension]: spec.trafficPolicy.connectionPool.tcp.keepAlive: `keepAlive` is not a field of the API
              help: write `tcpKeepalive`
            x.yaml:13:22: warning[extension]: spec.trafficPolicy.circuitBreaker: `circuitBreaker` is not a field of the API
              help: write `outlierDetection`
            x.yaml:14:19: warning[extension]: spec.trafficPolicy.healthCheck: `healthCheck` is not a field of the API, but an extension of egressd
              help: the API has no active probes; the nearest standard field is `outlierDetection`
        "#]],
    );
    spec(
        "DestinationRule",
        "
host: a.example.com
trafficPolicy:
  circuitBreaker: {interval: 30s}
  outlierDetection: {}
  healthCheck: {path: health, healthyThreshold: 0}
",
        expect![[r#"
            DestinationRule default/a: reject
            x.yaml:8:22: warning[extension]: spec.trafficPolicy.circuitBreaker: `circuitBreaker` is not a field of the API
              help: write `outlierDetection`
            x.yaml:8:22: error[conflicting-fields]: spec.trafficPolicy.circuitBreaker: `outlierDetection` says the same and is set too
            x.yaml:10:19: warning[extension]: spec.trafficPolicy.healthCheck: `healthCheck` is not a field of the API, but an extension of egressd
              help: the API has no active probes; the nearest standard field is `outlierDetection`
            x.yaml:10:25: error[invalid-path]: spec.trafficPolicy.healthCheck.path: "health" is not a path
              help: begin it with `/`
            x.yaml:10:51: error[out-of-range]: spec.trafficPolicy.healthCheck.healthyThreshold: at least 1 is needed
        "#]],
    );
}
