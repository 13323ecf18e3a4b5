//! Localities: which endpoints come first, and by what shares (semantics.md §4, localityLbSetting).

use std::collections::{BTreeMap, BTreeSet};

use egressd_model::Spanned;
use egressd_model::resource::{
    LoadBalancer, LocalityDistribute, LocalityFailover, LocalityLoadBalancer, MeshConfig,
};
use egressd_model::value::Locality;

use crate::cluster::{Endpoint, EndpointGroup};
use crate::compile::endpoints::Located;
use crate::options::Node;

/// What decides about the localities of one cluster.
pub(crate) struct Setting<'a> {
    pub(crate) balancer: Option<&'a LoadBalancer>,
    pub(crate) mesh: &'a MeshConfig,
    pub(crate) node: &'a Node,
    /// Whether endpoints are ever taken out: without that nothing fails over.
    pub(crate) ejects: bool,
    /// `networking.istio.io/traffic-distribution` of the ServiceEntry.
    pub(crate) distribution: Option<&'a str>,
}

/// The rules in force.
#[derive(Default)]
struct InForce<'a> {
    distribute: &'a [Spanned<LocalityDistribute>],
    failover: &'a [Spanned<LocalityFailover>],
    priorities: Vec<&'a str>,
    /// Whether endpoints are ranked by how near they are.
    ranks: bool,
}

impl Setting<'_> {
    /// Whether the groups of one priority are chosen by weight.
    pub(crate) fn is_weighted(&self) -> bool {
        let rules = self.in_force();
        !rules.distribute.is_empty()
            || (rules.ranks && !(rules.failover.is_empty() && rules.priorities.is_empty()))
    }

    /// The endpoints in groups, nearest first.
    pub(crate) fn group(&self, found: Vec<Located>) -> Vec<EndpointGroup> {
        let rules = self.in_force();
        let mut groups: BTreeMap<(u32, Locality), Vec<Endpoint>> = BTreeMap::new();
        for one in found {
            let rank = rules.rank(&one, self.node);
            groups.entry((rank, one.locality)).or_default().push(one.endpoint);
        }
        let ranks: BTreeSet<u32> = groups.keys().map(|(rank, _)| *rank).collect();
        let mut groups: Vec<_> = groups
            .into_iter()
            .map(|((rank, locality), endpoints)| EndpointGroup {
                // Priorities are numbered without gaps.
                priority: u32::try_from(ranks.range(..rank).count()).unwrap_or(u32::MAX),
                weight: endpoints.iter().fold(0, |sum, one| sum.saturating_add(one.weight)),
                locality,
                endpoints,
            })
            .collect();
        rules.distribute(&mut groups, &self.node.locality);
        groups
    }

    fn in_force(&self) -> InForce<'_> {
        if let Some(zones) = self.balancer.and_then(|b| b.zone_aware_lb_setting.as_ref()) {
            let on = zones.enabled.as_deref().copied().unwrap_or(true);
            return InForce {
                failover: if on { &zones.failover } else { &[] },
                priorities: labels(if on { &zones.failover_priority } else { &[] }),
                ranks: on && self.ejects && self.knows_place(&zones.failover_priority),
                ..InForce::default()
            };
        }
        let of_rule = self.balancer.and_then(|b| b.locality_lb_setting.as_deref());
        if of_rule.is_none() && self.distribution.is_some_and(|text| text.starts_with("Prefer")) {
            return InForce {
                priorities: self.nearest(),
                ranks: !self.node.locality.is_empty(),
                ..InForce::default()
            };
        }
        match of_rule.or(self.mesh.locality_lb_setting.as_deref()) {
            Some(setting) if !is_on(setting) => InForce::default(),
            Some(setting) => InForce {
                distribute: &setting.distribute,
                failover: &setting.failover,
                priorities: labels(&setting.failover_priority),
                ranks: self.ejects
                    && setting.distribute.is_empty()
                    && self.knows_place(&setting.failover_priority),
            },
            // The mesh's default is on.
            None => InForce { ranks: self.ejects && self.knows_place(&[]), ..InForce::default() },
        }
    }

    /// A node that does not know where it is ranks nothing, except by labels.
    fn knows_place(&self, priorities: &[Spanned<String>]) -> bool {
        !self.node.locality.is_empty() || !priorities.is_empty()
    }

    /// The labels that `traffic-distribution` ranks by.
    fn nearest(&self) -> Vec<&'static str> {
        let node = ["topology.istio.io/network", REGION, ZONE, SUBZONE, "kubernetes.io/hostname"];
        match self.distribution {
            Some("PreferSameNode") => node.to_vec(),
            Some(_) | None => node.into_iter().take(4).collect(),
        }
    }
}

const REGION: &str = "topology.kubernetes.io/region";
const ZONE: &str = "topology.kubernetes.io/zone";
const SUBZONE: &str = "topology.istio.io/subzone";

fn is_on(setting: &LocalityLoadBalancer) -> bool {
    setting.enabled.as_deref().copied().unwrap_or(true)
}

fn labels(written: &[Spanned<String>]) -> Vec<&str> {
    written.iter().map(|label| label.as_str()).collect()
}

impl InForce<'_> {
    /// How far away an endpoint is: 0 is nearest.
    fn rank(&self, one: &Located, node: &Node) -> u32 {
        if !self.ranks {
            return 0;
        }
        if self.priorities.is_empty() {
            return self.distance(&one.locality, node);
        }
        let by_label = self.label_rank(&one.endpoint, node);
        if self.failover.is_empty() {
            return by_label;
        }
        by_label * DISTANCES + self.distance(&one.locality, node)
    }

    /// The number of labels from the first that differs.
    fn label_rank(&self, endpoint: &Endpoint, node: &Node) -> u32 {
        let differs = |label: &&str| {
            let (name, wanted) = match label.split_once('=') {
                Some((name, value)) => (name, value),
                None => (*label, label_of(node, label)),
            };
            endpoint.labels.get(name).map_or("", String::as_str) != wanted
        };
        let first = self.priorities.iter().position(differs);
        let rank = first.map_or(0, |first| self.priorities.len() - first);
        u32::try_from(rank).unwrap_or(u32::MAX)
    }

    /// 0 for the same subzone, 1 the same zone, 2 the same region, 3 elsewhere; 4 for a region that
    /// the node's own does not fail over to.
    fn distance(&self, there: &Locality, node: &Node) -> u32 {
        let here = &node.locality;
        if here.region == there.region {
            return match (here.zone == there.zone, here.subzone == there.subzone) {
                (true, true) => 0,
                (true, false) => 1,
                (false, _) => 2,
            };
        }
        let rule = self.failover.iter().find(|rule| *rule.from.value == here.region);
        if rule.is_some_and(|rule| *rule.to.value != there.region) { 4 } else { 3 }
    }

    /// Sets the shares that the first rule for the node's locality gives to others. Localities that
    /// no entry of it covers get nothing.
    fn distribute(&self, groups: &mut Vec<EndpointGroup>, here: &Locality) {
        let rule = self.distribute.iter().find(|rule| covers(&rule.from, here));
        let Some(rule) = rule else { return };
        let mut shares: Vec<Option<u32>> = vec![None; groups.len()];
        for (to, share) in &rule.to {
            let free = |(place, group): &(usize, &EndpointGroup)| {
                shares.get(*place).is_some_and(Option::is_none) && covers(to, &group.locality)
            };
            let mine: Vec<usize> =
                groups.iter().enumerate().filter(free).map(|(place, _)| place).collect();
            let weight = |place: &usize| groups.get(*place).map_or(0, |group| group.weight);
            let total: u64 = mine.iter().map(|place| u64::from(weight(place))).sum();
            for place in &mine {
                // One entry may cover several localities: they share by the weight of what is there.
                let part = u64::from(weight(place)) * u64::from(share.value);
                let part = part.div_ceil(total.max(1));
                if let Some(slot) = shares.get_mut(*place) {
                    *slot = Some(u32::try_from(part).unwrap_or(u32::MAX));
                }
            }
        }
        let mut shares = shares.into_iter();
        groups.retain_mut(|group| match shares.next().flatten() {
            Some(share) => {
                group.weight = share;
                true
            }
            None => false,
        });
    }
}

/// How many values [`InForce::distance`] has.
const DISTANCES: u32 = 5;

/// The node's own value of a label that ranks endpoints.
fn label_of<'n>(node: &'n Node, label: &str) -> &'n str {
    let place = match label {
        REGION => node.locality.region.as_str(),
        ZONE => &node.locality.zone,
        SUBZONE => &node.locality.subzone,
        _ => "",
    };
    node.labels.get(label).map_or(place, String::as_str)
}

/// Whether a locality as rules write it (`*` or missing levels stand for any) covers a place.
fn covers(rule: &str, place: &Locality) -> bool {
    let rule = Locality::parse(rule);
    let any = |written: &str| written.is_empty() || written == "*";
    (rule.region == "*" || rule.region == place.region)
        && (any(&rule.zone) || rule.zone == place.zone)
        && (any(&rule.subzone) || rule.subzone == place.subzone)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use egressd_model::value::{EndpointAddress, Labels};

    use super::*;

    fn located(locality: &str, weight: u32) -> Located {
        Located {
            endpoint: Endpoint {
                address: EndpointAddress::parse("192.0.2.1"),
                port: 80,
                weight,
                labels: Arc::new(Labels::new()),
                mesh_tls: false,
                service_account: None,
                workload: None,
            },
            locality: Locality::parse(locality),
        }
    }

    fn check(balancer: &LoadBalancer, ejects: bool, expect: &[(&str, u32, u32)]) {
        let node = Node { locality: Locality::parse("us/a/1"), ..Node::default() };
        let setting = Setting {
            balancer: Some(balancer),
            mesh: &MeshConfig::default(),
            node: &node,
            ejects,
            distribution: None,
        };
        let found = ["us/a/1", "us/a/2", "us/b/1", "eu/a/1", "as/a/1", ""];
        let groups = setting.group(found.iter().map(|place| located(place, 2)).collect());
        let seen: Vec<_> = groups
            .iter()
            .map(|group| (group.locality.to_string(), group.priority, group.weight))
            .collect();
        let seen: Vec<_> = seen.iter().map(|(a, b, c)| (a.as_str(), *b, *c)).collect();
        assert_eq!(seen, expect);
    }

    #[test]
    fn nothing_fails_over_without_ejection() {
        let all = ["", "as/a/1", "eu/a/1", "us/a/1", "us/a/2", "us/b/1"].map(|at| (at, 0, 2));
        check(&LoadBalancer::default(), false, &all);
    }

    #[test]
    fn nearest_first() {
        check(
            &LoadBalancer::default(),
            true,
            &[
                ("us/a/1", 0, 2),
                ("us/a/2", 1, 2),
                ("us/b/1", 2, 2),
                ("", 3, 2),
                ("as/a/1", 3, 2),
                ("eu/a/1", 3, 2),
            ],
        );
    }

    #[test]
    fn regions_fail_over_where_told() {
        let failover =
            LocalityFailover { from: "us".to_owned().into(), to: "eu".to_owned().into() };
        let setting = LocalityLoadBalancer {
            failover: vec![failover.into()],
            ..LocalityLoadBalancer::default()
        };
        let balancer =
            LoadBalancer { locality_lb_setting: Some(setting.into()), ..LoadBalancer::default() };
        check(
            &balancer,
            true,
            &[
                ("us/a/1", 0, 2),
                ("us/a/2", 1, 2),
                ("us/b/1", 2, 2),
                ("eu/a/1", 3, 2),
                ("", 4, 2),
                ("as/a/1", 4, 2),
            ],
        );
    }

    #[test]
    fn shares_are_distributed() {
        let to = [("us/a/*", 70), ("eu", 30)];
        let distribute = LocalityDistribute {
            from: "us/*".to_owned().into(),
            to: to.map(|(to, share)| (to.to_owned(), share.into())).into(),
        };
        let setting = LocalityLoadBalancer {
            distribute: vec![distribute.into()],
            ..LocalityLoadBalancer::default()
        };
        let balancer =
            LoadBalancer { locality_lb_setting: Some(setting.into()), ..LoadBalancer::default() };
        let expect = [("eu/a/1", 0, 30), ("us/a/1", 0, 35), ("us/a/2", 0, 35)];
        check(&balancer, false, &expect);
    }
}
