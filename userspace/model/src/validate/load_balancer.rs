//! `loadBalancer`: one algorithm, one hash key, one locality policy.

use std::collections::HashSet;

use crate::Spanned;
use crate::decode::{At, Cx};
use crate::resource::{ConsistentHash, LoadBalancer, Warmup};
use crate::validate::{duration, locality};

/// Maglev tables are smaller than this.
const LARGEST_TABLE: u64 = 5_000_011;

/// Checks a load balancer; `outlier` says whether the same policy has outlier detection.
pub(super) fn load_balancer(
    balancer: Option<&Spanned<LoadBalancer>>,
    outlier: bool,
    at: &At<'_>,
    cx: &mut Cx,
) {
    let Some(balancer) = balancer else { return };
    if balancer.simple.is_some() && balancer.consistent_hash.is_some() {
        let message = "only one of `simple` and `consistentHash` may be set";
        cx.error(&at.field("consistentHash"), "conflicting-fields", message);
    }
    if let Some(hash) = &balancer.consistent_hash {
        consistent_hash(hash, &at.field("consistentHash"), cx);
    }
    let zone = at.field("zoneAwareLbSetting");
    if balancer.locality_lb_setting.is_some() && balancer.zone_aware_lb_setting.is_some() {
        let message = "only one of `localityLbSetting` and `zoneAwareLbSetting` may be set";
        cx.error(&zone, "conflicting-fields", message);
    }
    let setting = balancer.locality_lb_setting.as_deref();
    locality::locality(setting, outlier, &at.field("localityLbSetting"), cx);
    locality::zone_aware(balancer.zone_aware_lb_setting.as_deref(), outlier, &zone, cx);
    duration::written(balancer.warmup_duration_secs.as_ref(), &at.field("warmupDurationSecs"), cx);
    warmup(balancer.warmup.as_ref(), &at.field("warmup"), cx);
}

fn consistent_hash(hash: &ConsistentHash, at: &At<'_>, cx: &mut Cx) {
    let keys = [
        ("httpHeaderName", hash.http_header_name.is_written()),
        ("httpCookie", hash.http_cookie.is_some()),
        ("useSourceIp", hash.use_source_ip.is_written()),
        ("httpQueryParameterName", hash.http_query_parameter_name.is_written()),
    ];
    let mut set = keys.into_iter().filter(|(_, set)| *set).map(|(name, _)| name);
    if let (Some(first), Some(second)) = (set.next(), set.next()) {
        let message = format!("only one key may be hashed, `{first}` and `{second}` are set");
        cx.error(&at.field(second), "conflicting-fields", message);
    }
    if let Some(cookie) = &hash.http_cookie {
        let at = at.field("httpCookie");
        if cookie.name.is_written() && cookie.name.is_empty() {
            cx.error(&at.field("name"), "missing-field", "the name must not be empty");
        }
        let mut names = HashSet::new();
        for (index, attribute) in cookie.attributes.iter().enumerate() {
            if !names.insert(attribute.name.value.as_str()) {
                let message = format!("another attribute is named {:?}", attribute.name.value);
                let at = at.field("attributes");
                cx.error(&at.index(index).field("name"), "duplicate-value", message);
            }
        }
    }
    if hash.minimum_ring_size.value != 0 {
        let deprecated = at.field("minimumRingSize");
        cx.warning(&deprecated, "deprecated", "`minimumRingSize` is deprecated")
            .help("use `ringHash.minimumRingSize`");
        if hash.ring_hash.is_some() || hash.maglev.is_some() {
            let message = "only one of `minimumRingSize`, `ringHash` and `maglev` may be set";
            cx.error(&deprecated, "conflicting-fields", message);
        }
    }
    if hash.ring_hash.is_some() && hash.maglev.is_some() {
        cx.error(
            &at.field("maglev"),
            "conflicting-fields",
            "only one of `ringHash` and `maglev` may be set",
        );
    }
    if let Some(maglev) = &hash.maglev {
        table_size(
            maglev.table_size.as_deref().copied().unwrap_or(0),
            &at.field("maglev").field("tableSize"),
            cx,
        );
    }
}

fn table_size(size: u64, at: &At<'_>, cx: &mut Cx) {
    if size == 0 {
        cx.lacking(at, "missing-field", "`tableSize` is required").help("for example 65537");
    } else if size >= LARGEST_TABLE {
        cx.error(at, "out-of-range", format!("{size} is too large: less than {LARGEST_TABLE}"));
    } else if !is_prime(size) {
        cx.error(at, "not-prime", format!("{size} is not a prime number"))
            .help("for example 65537");
    }
}

/// As Envoy counts: 1 is a prime. Numbers are below [`LARGEST_TABLE`], so that the loop is short.
fn is_prime(number: u64) -> bool {
    number < 4
        || (number % 2 == 1
            && (3..).step_by(2).take_while(|f| f * f <= number).all(|f| !number.is_multiple_of(f)))
}

fn warmup(warmup: Option<&Spanned<Warmup>>, at: &At<'_>, cx: &mut Cx) {
    let Some(warmup) = warmup else { return };
    duration::written(warmup.duration.as_ref(), &at.field("duration"), cx);
    let percent = warmup.minimum_percent.as_deref().copied();
    if let Some(percent) = percent.filter(|percent| !(0.0..=100.0).contains(percent)) {
        cx.error(
            &at.field("minimumPercent"),
            "out-of-range",
            format!("{percent} is not a percentage (0 to 100)"),
        );
    }
    if let Some(aggression) = warmup.aggression.as_deref().copied().filter(|value| *value <= 0.0) {
        cx.error(&at.field("aggression"), "out-of-range", format!("{aggression} is not above 0"));
    }
}
