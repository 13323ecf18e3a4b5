//! The direct path: clusters and endpoints in the kernel, and the records of their connections.

mod blocks;
mod clusters;
mod layout;
mod memory;
mod record;
mod slots;
mod sweep;
mod view;

pub use clusters::{DirectClusters, DirectCounts};
pub(crate) use record::Records;
pub use record::{DirectEnd, DirectProtocol, DirectRecord};
pub use sweep::Swept;
pub use view::{
    DirectBalance, DirectEndpoint, DirectKeepalive, DirectLevel, DirectLimits, DirectRoute,
    DirectTarget, DirectView,
};
