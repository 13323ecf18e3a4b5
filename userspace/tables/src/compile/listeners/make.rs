//! The chains of one port of a service, and where they are listened for.

use std::sync::Arc;

use egressd_model::Spanned;
use egressd_model::resource::Resolution;
use egressd_model::value::{IpRange, ProtocolFamily};

use crate::chain::{Chain, ChainAction};
use crate::compile::listeners::{Declared, Inputs};
use crate::compile::memo::{Id, KnownChains};
use crate::compile::services::View;
use crate::compile::tcp_rules::{Place, TcpRules};
use crate::compile::vhosts::Vhosts;
use crate::listener::Bind;
use crate::service::Service;

/// One service port to make chains of.
pub(super) struct Make<'a, 'c, 'm> {
    pub(super) inputs: &'a Inputs<'c, 'm>,
    pub(super) view: &'a View<'m>,
    pub(super) service: &'a Arc<Service>,
    pub(super) port: Declared,
}

impl Make<'_, '_, '_> {
    /// Where opaque bytes are listened for, and the blocks they must be for.
    pub(super) fn places(&self, fixed: Option<Bind>) -> Vec<(Bind, Vec<IpRange>)> {
        if let Some(bind) = fixed {
            return vec![(bind, Vec::new())];
        }
        let own = &self.view.entry.addresses;
        if own.is_empty() {
            let vips = self.service.vips.iter().flat_map(|vip| vip.addresses());
            let mut places: Vec<_> = vips.map(|ip| (Bind::Address(ip), Vec::new())).collect();
            if places.is_empty() {
                places.push((Bind::Wildcard, Vec::new()));
            }
            return places;
        }
        let place = |range: &Spanned<IpRange>| match range.is_single() {
            true => (Bind::Address(range.address().to_canonical()), Vec::new()),
            false => (Bind::Wildcard, vec![range.masked()]),
        };
        own.iter().map(place).collect()
    }

    /// All chains of a place.
    pub(super) fn chains(
        &self,
        bind: Bind,
        blocks: &[IpRange],
        vhosts: &mut Vhosts<'_, '_>,
    ) -> Vec<Arc<Chain>> {
        let opaque = match bind {
            Bind::Address(_) => self.opaque_at_vip(),
            Bind::Wildcard | Bind::Socket(_) => None,
        };
        let opaque = opaque.unwrap_or_else(|| self.opaque(bind, blocks));
        let mut chains: Vec<_> = opaque.into_iter().map(Arc::new).collect();
        if self.port.protocol.family() == ProtocolFamily::Unset {
            let table = match bind {
                Bind::Wildcard => vhosts.shared(self.port.number),
                Bind::Address(_) | Bind::Socket(_) => {
                    vhosts.private(self.service, self.port.number)
                }
            };
            chains.push(Arc::new(self.http(ChainAction::Http(table), true)));
        }
        chains
    }

    /// The chains for opaque bytes to any destination: those of the compilation before, if nothing of
    /// them has changed.
    pub(super) fn anywhere(&self) -> Arc<[Arc<Chain>]> {
        let make = || self.opaque(Bind::Wildcard, &[]).into_iter().map(Arc::new).collect();
        if self.port.protocol.family() != ProtocolFamily::Tls {
            return make();
        }
        let Some(clusters) = self.alone() else { return make() };
        let (id, memo) = (self.view.service, &self.inputs.context.memo.chains);
        let key = (Id::of(&**self.service), self.port.number);
        let holds = |known: &KnownChains| known.id == id && Arc::ptr_eq(&known.clusters, clusters);
        if let Some(known) = memo.get(&key, holds) {
            return known.chains;
        }
        let chains = make();
        let clusters = Arc::clone(clusters);
        memo.keep(key, KnownChains { id, clusters, chains: Arc::clone(&chains) });
        chains
    }

    /// The chains at an allocated address of a service that is found anywhere by its name: the same
    /// but for that name, and made of the same parts. Nothing if there is more to it.
    fn opaque_at_vip(&self) -> Option<Vec<Chain>> {
        let entry = self.view.entry;
        let plain = self.port.protocol.family() == ProtocolFamily::Tls
            && entry.addresses.is_empty()
            && entry.resolution.value != Resolution::DynamicDns
            && !self.inputs.context.options.strict;
        self.alone().filter(|_| plain)?;
        let anywhere = self.anywhere();
        let chain = |chain: &Arc<Chain>| Chain { server_names: Vec::new(), ..Chain::clone(chain) };
        Some(anywhere.iter().map(chain).collect())
    }

    /// The clusters of the service, if its chains depend on nothing else.
    pub(super) fn alone(&self) -> Option<&Arc<[Arc<crate::Cluster>]>> {
        let clusters = self.inputs.context.clusters_of(self.view.service)?;
        let ruled = self.inputs.rules.is_opaque(&self.service.host);
        (!ruled && self.inputs.egress.port.is_none()).then_some(clusters)
    }

    /// The chains for everything but sniffed HTTP.
    pub(super) fn opaque(&self, bind: Bind, blocks: &[IpRange]) -> Vec<Chain> {
        let by_name = self.view.entry.resolution.value == Resolution::DynamicDns;
        let place = Place {
            service: self.service,
            id: self.view.service,
            port: self.port.number,
            tls: self.port.protocol.is_tls(),
            blocks,
            // Without an address of its own only the name tells one service from another.
            by_name: by_name || !blocks.is_empty() || bind == Bind::Wildcard,
        };
        let rules = TcpRules { context: self.inputs.context, rules: self.inputs.rules };
        let mut chains = rules.chains(&place);
        if self.inputs.context.options.strict && matches!(bind, Bind::Address(_)) {
            for chain in chains.iter_mut().filter(|chain| chain.server_names.is_empty()) {
                chain.expect(self.service, self.port.protocol);
            }
        }
        chains
    }

    /// The chain for requests.
    pub(super) fn http(&self, action: ChainAction, http_only: bool) -> Chain {
        Chain {
            name: Arc::from(format!("{}:{}", self.service.host, self.port.number)),
            destinations: Vec::new(),
            server_names: Vec::new(),
            http_only,
            catch_all: false,
            service: Some(self.view.service),
            action,
            terminate: None,
            expected: None,
        }
    }
}
