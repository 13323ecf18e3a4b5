//! Model to compiled Tables, and the one decision function.
//!
//! Pure: no clock, no file, no socket, no randomness. [`Tables::compile`] turns valid resources into
//! listeners, routes, clusters, virtual addresses, DNS answers and kernel rows; [`Tables::decide`]
//! and [`RouteTable::route`] say what becomes of a connection and of a request. The proxy, the access
//! log and `explain` read the same answers.
//!
//! The crate knows nothing of tokio, of aya, of files or of sockets.

pub mod analysis;
mod answer;
mod chain;
mod cluster;
mod compile;
mod compiler;
mod decide;
mod explain;
mod fast;
mod gateway;
mod host_map;
mod listener;
mod names;
mod options;
mod overlap;
mod path;
mod route;
mod rows;
mod service;
mod tables;
mod tcp;
mod vip;

pub use answer::{Answer, Call, Payload};
pub use chain::{Chain, ChainAction, Matched};
pub use cluster::{
    BLACK_HOLE, ClientIdentity, Cluster, ClusterKind, ClusterRef, ClusterService, ConnectionPool,
    DYNAMIC_DNS, Discovery, Endpoint, EndpointGroup, HashKey, HashPolicy, HealthCheck, LbPolicy,
    LoadBalancer, OutlierDetection, PASSTHROUGH, Probe, ProxyProtocol, RetryBudget, Sni,
    TcpKeepalive, TlsMode, TlsOrigination, TlsVersion, TrustAnchors, Tunnel, UNLIMITED,
    UpstreamHttp, UpstreamTls, Verification, Warmup,
};
pub use compile::paths::PathsTaken;
pub use compiler::Compiler;
pub use decide::{Action, Decision, Flow, Original, Refusal, Sniffed};
pub use explain::{Explanation, Passed, Stage, Step};
pub use gateway::GatewayServer;
pub use listener::{
    Bind, Conflict, ConflictReason, Listener, ListenerRules, Sniff, VIRTUAL_OUTBOUND,
};
pub use names::{NameEntry, NameTable};
pub use options::{Answers, IpFamilies, Node, Options};
pub use path::{DirectRoute, MAX_DIRECT_CLUSTERS, MAX_DIRECT_PRIORITIES, NotDirect, Path};
pub use route::{
    ALLOW_ANY, Abort, AbortStatus, BLOCK_ALL, Condition, Cors, DEFAULT_BACKOFF, DEFAULT_RETRY_ON,
    DEFAULT_ROUTE, Delay, Destination, Destinations, Domains, Fault, Forward, HeaderChange,
    HeaderLookup, HeaderOps, HttpDecision, Mirror, NoHeaders, PathRedirect, PathRewrite, Pattern,
    PortRule, Redirect, RequestHead, RetryPolicy, Route, RouteAction, RouteMatch, RouteTable,
    Subject, TextMatch, UnmatchedPreflight, VhostOrigin, VirtualHost, normalize_path, strip_port,
};
pub use rows::{KernelRows, RowsDiff, UdpRows};
pub use service::{Port, Service, ServiceId};
pub use tables::Tables;
pub use tcp::{TCP_IDLE, TcpRoute};
pub use vip::{
    ALLOCATE_LABEL, DEFAULT_V4, DEFAULT_V6, Vip, VipAllocation, VipExhausted, VipRequest,
    hashed_vips, requests,
};

/// The arithmetic of load balancing, which the kernel and the proxy share.
pub mod balancing {
    pub use egressd_abi::{
        first_is_less_busy, first_wins, hash_ip, mix, ticket, turn_point, turn_step,
    };
}

// What values here are made of, for crates that see the model only through its tables.
pub use egressd_model::resource::{
    PathMode, PathNormalization, ServerTlsMode, ServerTlsSettings, TlsProtocolVersion,
};
pub use egressd_model::value::{EndpointAddress, Labels, Locality, UnixSocket};
