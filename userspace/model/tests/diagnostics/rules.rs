//! What each kind may say.

use super::*;

#[test]
fn service_entries_of_the_seeds() {
    spec(
        "ServiceEntry",
        "
hosts: [database.example.com]
addresses: [240.0.0.1]
ports:
- {number: 3306, name: mysql, protocol: TCP}
- {number: 3307, name: mysql-ssl, protocol: TLS}
resolution: DNS
endpoints: [{address: 192.168.1.100, ports: {mysql: 3306}}]
workloadSelector: {labels: {app: db}}
",
        expect![[r#"
            ServiceEntry default/a: reject
            x.yaml:13:22: error[conflicting-fields]: spec.workloadSelector: only one of `endpoints` and `workloadSelector` may be set
        "#]],
    );
    spec(
        "ServiceEntry",
        "
hosts: [geo.example.com]
ports: [{number: 443, name: https, protocol: HTTPS}]
resolution: STATIC
endpoints:
- {address: api-us.example.com, labels: {region: us, zone: a}}
- {address: api-eu.example.com, labels: {region: eu}}
- {address: unix:///run/x.sock, ports: {https: 1, http: 2}}
",
        expect![[r#"
            ServiceEntry default/a: reject
            x.yaml:10:15: error[invalid-address]: spec.endpoints[0].address: "api-us.example.com" is not an IP address, which resolution STATIC needs
              help: use resolution DNS for endpoints with names
            x.yaml:11:15: error[invalid-address]: spec.endpoints[1].address: "api-eu.example.com" is not an IP address, which resolution STATIC needs
              help: use resolution DNS for endpoints with names
            x.yaml:12:43: error[unix-socket-ports]: spec.endpoints[2].ports: a Unix socket has no ports
            x.yaml:12:59: error[unknown-port]: spec.endpoints[2].ports[http]: the service has no port named "http"
        "#]],
    );
    spec(
        "ServiceEntry",
        "hosts: [a.example.com]\nports: [{number: 6379, name: redis, protocol: tcp}]",
        expect![[r#"
            ServiceEntry default/a: accept
            x.yaml:6:3: info[resolution-absent]: spec.resolution: `resolution` is absent, which means NONE
              help: write it out; DNS resolves the host
            x.yaml:7:12: info[address-needed]: spec.ports[0]: without an address this port takes every connection to port 6379, whatever its destination
              help: give the entry `addresses`
        "#]],
    );
}

#[test]
fn advice_comes_only_with_what_is_accepted() {
    spec(
        "ServiceEntry",
        "
hosts: [geo.example.com]
ports: [{number: 443, name: https, protocol: HTTPS}]
resolution: DNS
endpoints:
- {address: api-us.example.com, labels: {region: us, zone: a}}
- {address: api-eu.example.com, labels: {region: eu}}
",
        expect![[r#"
            ServiceEntry default/a: accept
            x.yaml:10:44: info[labels-set-no-locality]: spec.endpoints[0].labels: labels (region, zone) set no locality
              help: write `locality: REGION/ZONE` beside them
        "#]],
    );
    spec(
        "VirtualService",
        "
hosts: [a.example.com]
http:
- route: [{destination: {host: a.example.com}}]
- match: [{uri: {exact: /never}}]
  redirect: {uri: /x, redirectCode: 304}
",
        expect![[r#"
            VirtualService default/a: accept
            x.yaml:9:5: info[unreachable-rule]: spec.http[1]: never acts: rule 0 has no match and takes everything
              help: put it before that rule
            x.yaml:10:39: info[no-effect]: spec.http[1].redirect.redirectCode: 304 is accepted, but the rule then does nothing
              help: one of 301, 302, 303, 307 and 308
        "#]],
    );
}

#[test]
fn service_entry_rules() {
    spec(
        "ServiceEntry",
        "
hosts: ['*', '*foo.com', 'foo.*.com', 1.2.3.4.5, a_b.example.com]
addresses: [10.0.0.0/8, 1.2.3, 10.0.0.1/33]
ports:
- {number: 80, name: http, protocol: HTTP}
- {number: 80, name: http, protocol: TCP, targetPort: 0}
resolution: DNS
exportTo: ['.', default, '*', 'a b']
",
        expect![[r#"
            ServiceEntry default/a: reject
            x.yaml:6:11: error[invalid-host]: spec.hosts[0]: `*` is not allowed as a host
              help: for example `*.example.com`
            x.yaml:6:16: warning[partial-wildcard]: spec.hosts[1]: "*foo.com" is a wildcard for a part of a label
              help: write `*.` followed by whole labels
            x.yaml:6:16: error[invalid-host]: spec.hosts[1]: "*foo.com" cannot be resolved: resolution DNS needs full names
              help: add `endpoints`, or use resolution NONE or DYNAMIC_DNS
            x.yaml:6:28: error[invalid-host]: spec.hosts[2]: "foo.*.com" is not a host name: the label "*" is not valid
            x.yaml:6:41: error[invalid-host]: spec.hosts[3]: "1.2.3.4.5" is not a host name: its last label "5" is all digits
            x.yaml:6:52: error[invalid-host]: spec.hosts[4]: "a_b.example.com" is not a host name: the label "a_b" is not valid
            x.yaml:7:15: error[invalid-address]: spec.addresses[0]: 10.0.0.0/8 is a block, which resolution DNS does not allow
              help: use single addresses, or resolution NONE or STATIC
            x.yaml:7:27: error[invalid-address]: spec.addresses[1]: "1.2.3" is neither an IP address nor a CIDR block
              help: an address such as 192.0.2.1 or 2001:db8::1, or a block such as 192.0.2.0/24
            x.yaml:7:34: error[invalid-address]: spec.addresses[2]: "10.0.0.1/33" is neither an IP address nor a CIDR block
              help: an address such as 192.0.2.1 or 2001:db8::1, or a block such as 192.0.2.0/24
            x.yaml:10:14: error[duplicate-value]: spec.ports[1].number: another port has the number 80
            x.yaml:10:24: error[duplicate-value]: spec.ports[1].name: another port is named "http"
            x.yaml:10:40: error[ambiguous-host]: spec.ports[1].protocol: 5 hosts cannot share a port with TCP: it names no host
              help: write one entry a host
            x.yaml:10:57: error[out-of-range]: spec.ports[1].targetPort: 0 is not a port (1 to 65535)
            x.yaml:12:19: error[duplicate-value]: spec.exportTo[1]: `default` is already in the list
            x.yaml:12:28: error[conflicting-values]: spec.exportTo[2]: `*` must stand alone
            x.yaml:12:33: error[invalid-namespace]: spec.exportTo[3]: "a b" is not a namespace
              help: the name of a namespace, `.` for the own one or `*` for all
        "#]],
    );
    spec(
        "ServiceEntry",
        "
hosts: ['*.example.com', api.example.com]
addresses: [10.0.0.1]
endpoints: [{address: 10.0.0.2}]
ports: [{number: 443, name: https, protocol: HTTPS}]
resolution: DYNAMIC_DNS
",
        expect![[r#"
            ServiceEntry default/a: reject
            x.yaml:6:28: error[invalid-host]: spec.hosts[1]: "api.example.com" is no wildcard, which resolution DYNAMIC_DNS needs
              help: use resolution DNS
            x.yaml:7:15: error[conflicting-fields]: spec.addresses: resolution DYNAMIC_DNS takes no addresses
            x.yaml:8:16: error[conflicting-fields]: spec.endpoints: resolution DYNAMIC_DNS takes no endpoints
            x.yaml:9:48: error[unsupported-protocol]: spec.ports[0].protocol: resolution DYNAMIC_DNS does not take HTTPS: only HTTP, HTTP2, GRPC and TLS
              help: write TLS
        "#]],
    );
}

#[test]
fn virtual_service_rules() {
    spec(
        "VirtualService",
        "
hosts: [a.example.com, '*.example.com', '*']
gateways: [mesh, gw.ns.svc.cluster.local, 'ns/*']
http:
- name: first
  match:
  - {uri: {prefix: /a}, headers: {'::': {exact: x}, ok: {prefix: ''}, re: {regex: '('}}}
  route:
  - {destination: {host: '*'}, weight: 0}
  - {destination: {host: a.example.com, subset: A_, port: {number: 0}}, weight: 0}
  fault: {abort: {percentage: {value: 200}}, delay: {exponentialDelay: 1s}}
  timeout: 0.5ms
- match:
  - {uri: {prefix: /a/b}}
  redirect: {uri: /x, prefixRewrite: /y, redirectCode: 200, scheme: ftp}
  route: [{destination: {host: a.example.com}}]
- route: [{destination: {host: a.example.com}}]
- match: [{uri: {exact: /never}}]
  rewrite: {uri: /x, uriRegexRewrite: {match: a, rewrite: b}}
  retries: {retryOn: '5xx, gateway-error'}
- {}
",
        expect![[r#"
            VirtualService default/a: reject
            x.yaml:6:43: error[invalid-host]: spec.hosts[2]: `*` is allowed only on gateways, not for the mesh
              help: name the hosts, or set `gateways` to gateways other than `mesh`
            x.yaml:7:20: warning[legacy-name]: spec.gateways[1]: `gw.ns.svc.cluster.local` is the old form of a gateway's name
              help: write `ns/gw`
            x.yaml:7:45: error[invalid-name]: spec.gateways[2]: "ns/*" is not a gateway
              help: write `NAMESPACE/NAME`, both without wildcards
            x.yaml:11:44: error[invalid-header]: spec.http[0].match[0].headers[::]: "::" is not a header name
            x.yaml:11:68: error[empty-prefix]: spec.http[0].match[0].headers[ok].prefix: a prefix must not be empty here
              help: write `{}` to ask only whether it is there
            x.yaml:11:85: error[invalid-regex]: spec.http[0].match[0].headers[re].regex: "(" is not a regular expression: unclosed group
              help: the syntax is RE2's
            x.yaml:13:8: error[no-weight]: spec.http[0].route: all weights are 0, so that nothing is ever chosen
              help: give each destination its share; they need not sum to 100
            x.yaml:13:28: error[invalid-host]: spec.http[0].route[0].destination.host: `*` is not a destination
            x.yaml:14:51: error[invalid-name]: spec.http[0].route[1].destination.subset: "A_" is not the name of a subset
              help: 1 to 63 letters, digits and `-`, beginning and ending with a letter or digit
            x.yaml:14:70: error[out-of-range]: spec.http[0].route[1].destination.port.number: 0 is not a port (1 to 65535)
            x.yaml:15:21: warning[no-effect]: spec.http[0].fault.abort: without `httpStatus` or `grpcStatus` nothing is aborted
            x.yaml:15:41: error[out-of-range]: spec.http[0].fault.abort.percentage.value: 200 is neither 0 nor from 0.0001 to 100
            x.yaml:15:74: error[not-implemented]: spec.http[0].fault.delay.exponentialDelay: Istio never implemented this field
              help: use `fixedDelay`
            x.yaml:16:14: error[invalid-duration]: spec.http[0].timeout: 500µs is too short: at least 1ms
            x.yaml:19:40: error[conflicting-fields]: spec.http[1].redirect.prefixRewrite: only one of `uri` and `prefixRewrite` may be set
            x.yaml:19:58: error[out-of-range]: spec.http[1].redirect.redirectCode: 200 is not the status of a redirect (300 to 399)
            x.yaml:19:71: error[unknown-value]: spec.http[1].redirect.scheme: "ftp" is not a scheme for a redirect
              help: `http` or `https`
            x.yaml:20:14: error[conflicting-fields]: spec.http[1].route: `route` and `redirect` cannot be set together
            x.yaml:22:5: error[missing-field]: spec.http[3]: one of `route`, `redirect`, `directResponse` and `delegate` is required
            x.yaml:23:42: error[conflicting-fields]: spec.http[3].rewrite.uriRegexRewrite: only one of `uri` and `uriRegexRewrite` may be set
            x.yaml:24:24: error[conflicting-fields]: spec.http[3].retries.retryOn: `retryOn` has no use while `attempts` is 0, which switches retries off
              help: set `attempts`
            x.yaml:24:24: error[unknown-value]: spec.http[3].retries.retryOn: " gateway-error" is no condition for a retry
              help: write the list without spaces
            x.yaml:25:5: error[missing-field]: spec.http[4]: one of `route`, `redirect`, `directResponse` and `delegate` is required
            x.yaml:25:5: warning[unreachable-rule]: spec.http[4]: never acts: rule 2 already takes everything
              help: only the last rule can do without a match
        "#]],
    );
    spec(
        "VirtualService",
        "
hosts: [a.example.com]
tls:
- match: [{sniHosts: [b.example.com, 1.2.3.4], destinationSubnets: [x]}]
  route: []
tcp:
- match: [{port: 0, sourceLabels: {'a b': c}}]
",
        expect![[r#"
            VirtualService default/a: reject
            x.yaml:8:5: error[missing-field]: spec.tls[0]: `route` is required
            x.yaml:8:25: error[host-not-covered]: spec.tls[0].match[0].sniHosts[0]: "b.example.com" is not covered by the hosts of the service (a.example.com)
              help: add it to `hosts`
            x.yaml:8:40: warning[ip-as-server-name]: spec.tls[0].match[0].sniHosts[1]: 1.2.3.4 is an address: clients do not send addresses as server names
            x.yaml:8:71: error[invalid-address]: spec.tls[0].match[0].destinationSubnets[0]: "x" is neither an IP address nor a CIDR block
              help: an address such as 192.0.2.1 or 2001:db8::1, or a block such as 192.0.2.0/24
            x.yaml:11:5: error[missing-field]: spec.tcp[0]: `route` is required
            x.yaml:11:45: error[invalid-label]: spec.tcp[0].match[0].sourceLabels[a b]: "a b" is not a label key
              help: letters, digits, `-`, `_` and `.`, optionally after a DNS name and `/`
        "#]],
    );
}

#[test]
fn gateway_and_sidecar_rules() {
    spec(
        "Gateway",
        "
selector: {istio: egressgateway}
servers:
- port: {number: 80, name: http, protocol: HTTP}
  hosts: [short, 'ns/*foo.com', '~/a.example.com']
  tls: {mode: SIMPLE}
- port: {number: 443, name: http, protocol: HTTPS}
  hosts: ['*']
  tls: {mode: MUTUAL, credentialName: a, credentialNames: [b]}
",
        expect![[r#"
            Gateway default/a: reject
            x.yaml:9:13: error[invalid-host]: spec.servers[0].hosts[0]: "short" is a short name, a full one is needed
            x.yaml:9:20: error[partial-wildcard]: spec.servers[0].hosts[1]: "*foo.com" is a wildcard for a part of a label
              help: write `*.` followed by whole labels
            x.yaml:9:35: error[invalid-namespace]: spec.servers[0].hosts[2]: "~" is not a namespace
            x.yaml:10:11: error[conflicting-fields]: spec.servers[0].tls: protocol HTTP cannot have TLS
              help: use protocol HTTPS or TLS
            x.yaml:11:31: error[duplicate-value]: spec.servers[1].port.name: the port of another server is named "http"
            x.yaml:13:62: error[conflicting-fields]: spec.servers[1].tls.credentialNames: certificates come from one place, `credentialName` and `credentialNames` are set
        "#]],
    );
    spec(
        "Sidecar",
        "
egress:
- hosts: ['*/*', 'ns1/*', '~ns2/*', bare]
- port: {number: 0, protocol: HTTP, name: http}
  bind: 1.2.3.4
  hosts: ['./*']
outboundTrafficPolicy:
  mode: REGISTRY_ONLY
  egressProxy: {host: a.example.com}
",
        expect![[r#"
            Sidecar default/a: reject
            x.yaml:7:5: error[not-last]: spec.egress[0]: a listener without a port takes all other traffic and must be the last
            x.yaml:7:13: warning[no-effect]: spec.egress[0].hosts: `*/*` takes everything, other hosts beside it do nothing
              help: to leave something out, write `~NAMESPACE/*` or `~/HOST`
            x.yaml:7:39: error[invalid-host]: spec.egress[0].hosts[3]: "bare" has no namespace
              help: write `NAMESPACE/HOST`, `./HOST` or `*/HOST`
            x.yaml:8:20: error[out-of-range]: spec.egress[1].port.number: a port without a number needs a Unix socket in `bind`
            x.yaml:13:19: error[conflicting-fields]: spec.outboundTrafficPolicy.egressProxy: `egressProxy` needs `mode: ALLOW_ANY`
        "#]],
    );
}
