//! Names to addresses.

use std::{future::Future, net::IpAddr, pin::Pin, sync::Arc};

use egressd_tables::IpFamilies;

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

    /// As [`Resolver::resolve`], for a name that a connection or a request brings (DYNAMIC_DNS):
    /// anybody may bring any number, so an implementation bounds these by themselves. Default: there
    /// is no difference.
    fn resolve_asked<'a>(&'a self, name: &'a str, families: IpFamilies) -> Resolving<'a> {
        self.resolve(name, families)
    }
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
