//! The configurations of the backend and of the other proxies.

use std::path::Path;

use super::{BACKEND, PORTS};

/// An nginx that answers at once, on both ports.
pub(super) fn backend(folder: &Path) -> String {
    let [one, two] = PORTS;
    format!(
        "{}\
         \x20 add_header grpc-status 0;\n\
         \x20 server {{ listen {BACKEND}:{one}; location / {{ return 200 ok; }} }}\n\
         \x20 server {{ listen {BACKEND}:{two} http2; location / {{ return 200 ok; }} }}\n\
         }}\n",
        head(folder)
    )
}

/// nginx as a proxy. Towards a backend of HTTP/2 it speaks gRPC alone.
pub(super) fn nginx(folder: &Path) -> String {
    let [one, two] = PORTS;
    let kept = format!("keepalive 64; keepalive_requests {FOREVER};");
    format!(
        "{}\
         \x20 upstream one {{ server {BACKEND}:{one}; {kept} }}\n\
         \x20 upstream two {{ server {BACKEND}:{two}; {kept} }}\n\
         \x20 server {{ listen 127.0.0.1:{one}; location / {{ proxy_pass http://one; \
         proxy_http_version 1.1; proxy_set_header Connection \"\"; }} }}\n\
         \x20 server {{ listen 127.0.0.1:{two} http2; location / {{ grpc_pass grpc://two; }} }}\n\
         }}\n",
        head(folder)
    )
}

/// One process each: workers would outlive a master that is killed.
fn head(folder: &Path) -> String {
    format!(
        "daemon off; master_process off; pid {0}/pid; error_log stderr crit;\n\
         events {{ worker_connections 1024; }}\n\
         http {{\n\
         \x20 access_log off; keepalive_requests {FOREVER}; keepalive_timeout 1h; tcp_nodelay on;\n\
         \x20 client_body_temp_path {0}/body; proxy_temp_path {0}/proxy; fastcgi_temp_path {0}/f;\n\
         \x20 uwsgi_temp_path {0}/u; scgi_temp_path {0}/s;\n",
        folder.display()
    )
}

/// HAProxy as a proxy.
pub(super) const HAPROXY: &str = "\
global
  nbthread 1
  maxconn 1000
defaults
  mode http
  timeout connect 10s
  timeout client 1h
  timeout server 1h
  http-reuse always
frontend one
  bind 127.0.0.1:8080
  default_backend one
frontend two
  bind 127.0.0.1:8081 proto h2
  default_backend two
backend one
  server s 10.78.0.1:8080
backend two
  server s 10.78.0.1:8081 proto h2
";

/// Envoy as a proxy, with the filters of a sidecar's HTTP listener that cannot be left out.
pub(super) fn envoy() -> String {
    let [one, two] = PORTS;
    let listener = |name: &str, port: u16| {
        format!(
            "  - name: {name}\n\
             \x20   address: {{socket_address: {{address: 127.0.0.1, port_value: {port}}}}}\n\
             \x20   filter_chains:\n\
             \x20   - filters:\n\
             \x20     - name: envoy.filters.network.http_connection_manager\n\
             \x20       typed_config:\n\
             \x20         \"@type\": {HTTP}.HttpConnectionManager\n\
             \x20         stat_prefix: {name}\n\
             \x20         route_config: {{virtual_hosts: [{{name: all, domains: [\"*\"], routes: \
             [{{match: {{prefix: /}}, route: {{cluster: {name}, timeout: 0s}}}}]}}]}}\n\
             \x20         http_filters: [{{name: router, typed_config: {{\"@type\": {ROUTER}}}}}]\n"
        )
    };
    let cluster = |name: &str, port: u16, protocol: &str| {
        format!(
            "  - name: {name}\n\
             \x20   type: STATIC\n\
             \x20   connect_timeout: 10s\n\
             \x20   typed_extension_protocol_options:\n\
             \x20     {OPTIONS_NAME}:\n\
             \x20       \"@type\": {OPTIONS}\n\
             \x20       explicit_http_config: {{{protocol}: {{}}}}\n\
             \x20   load_assignment: {{cluster_name: {name}, endpoints: [{{lb_endpoints: \
             [{{endpoint: {{address: {{socket_address: {{address: {BACKEND}, port_value: \
             {port}}}}}}}}}]}}]}}\n"
        )
    };
    let listeners = [listener("one", one), listener("two", two)].concat();
    let clusters = [
        cluster("one", one, "http_protocol_options"),
        cluster("two", two, "http2_protocol_options"),
    ]
    .concat();
    format!("static_resources:\n  listeners:\n{listeners}  clusters:\n{clusters}")
}

const HTTP: &str =
    "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3";
const ROUTER: &str = "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router";
const OPTIONS_NAME: &str = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
const OPTIONS: &str = "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
/// Requests on one connection.
const FOREVER: u64 = 1_000_000_000;
