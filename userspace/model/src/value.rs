//! Typed values that several resources share. Each is checked while it is read; what exists is valid.

mod address;
mod export;
mod grpc;
mod host;
mod locality;
mod matcher;
mod percent;
mod protocol;
mod re2;
mod timestamp;

pub use address::{EndpointAddress, InvalidIpRange, IpRange, UnixSocket};
pub use export::{ExportTarget, ExportTo};
pub use grpc::grpc_status;
pub use host::{HostPattern, NamespacedHost};
pub use locality::Locality;
pub use matcher::StringMatch;
pub use percent::Percent;
pub use protocol::{Protocol, ProtocolFamily};
pub use re2::{InvalidRegex, Re2};
pub use timestamp::{InvalidTimestamp, Timestamp};

/// Kubernetes labels or annotations.
pub type Labels = std::collections::BTreeMap<String, String>;

/// Whether every pair of `selector` is among `labels`. An empty selector selects everything.
pub fn selects(selector: &Labels, labels: &Labels) -> bool {
    selector.iter().all(|(key, value)| labels.get(key) == Some(value))
}
