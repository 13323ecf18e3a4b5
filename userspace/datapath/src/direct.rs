//! The direct path: clusters and endpoints in the kernel, and the records of their connections.

mod clusters;
mod record;
mod view;

pub use clusters::{DirectClusters, DirectCounts, Swept};
pub use record::{DirectEnd, DirectProtocol, DirectRecord};
pub use view::{
    DirectBalance, DirectEndpoint, DirectKeepalive, DirectLevel, DirectLimits, DirectRoute,
    DirectTarget, DirectView,
};
