//! Names to addresses.

mod system;

use std::{future::Future, net::IpAddr, pin::Pin, sync::Arc};

use egressd_tables::IpFamilies;

pub use self::system::SystemResolver;

/// The addresses of a name, in the order of the answer. The same allocation means the same answer.
pub type Addresses = Arc<[IpAddr]>;

/// A lookup under way.
pub type Resolving<'a> = Pin<Box<dyn Future<Output = Result<Addresses, ResolveError>> + Send + 'a>>;

/// Resolves the names of endpoints.
///
/// Asked for every connection to a name, so an implementation keeps answers, and returns the same
/// allocation for the same answer: clusters rebuild their endpoints when it changes.
pub trait Resolver: Send + Sync + 'static {
    /// The addresses of `name` if they are known without waiting. Default: they are not.
    fn cached(&self, name: &str, families: IpFamilies) -> Option<Addresses> {
        let _ = (name, families);
        None
    }

    /// The addresses of `name`, of these families only and at least one.
    fn resolve<'a>(&'a self, name: &'a str, families: IpFamilies) -> Resolving<'a>;
}

/// A name has no address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("resolving {name}: {reason}")]
pub struct ResolveError {
    /// The name.
    pub name: Arc<str>,
    /// Why, in the words of whoever was asked.
    pub reason: Arc<str>,
}

/// Whether an address is of one of the families.
pub(crate) fn is_of(families: IpFamilies, ip: &IpAddr) -> bool {
    match ip {
        IpAddr::V4(_) => families.v4(),
        IpAddr::V6(_) => families.v6(),
    }
}
