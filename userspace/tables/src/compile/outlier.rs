//! `outlierDetection` (semantics.md §4).

use std::time::Duration;

use egressd_model::resource::{MeshConfig, OutlierDetection as Settings};

use crate::cluster::OutlierDetection;

const DEFAULT_FAILURES: u32 = 5;
const DEFAULT_INTERVAL: Duration = Duration::from_secs(10);
const DEFAULT_EJECTION: Duration = Duration::from_secs(30);
const MAX_EJECTION: Duration = Duration::from_secs(300);
const DEFAULT_EJECTION_PERCENT: u32 = 10;

/// The rules of ejection; nothing without a block.
pub(crate) fn build(settings: Option<&Settings>, mesh: &MeshConfig) -> Option<OutlierDetection> {
    let settings = settings.or_else(|| of_mesh(mesh))?;
    let split = settings.split_external_local_origin_errors.value;
    let base = settings.base_ejection_time.as_deref().copied().unwrap_or(DEFAULT_EJECTION);
    let in_a_row =
        settings.consecutive_5xx_errors.as_ref().or(settings.consecutive_errors.as_ref());
    let unless_zero = |value: u32| Some(value).filter(|value| *value > 0);
    let local = settings.consecutive_local_origin_failures.as_deref().copied().unwrap_or_default();
    let percent = settings.max_ejection_percent.value;
    Some(OutlierDetection {
        consecutive_5xx: unless_zero(in_a_row.map_or(DEFAULT_FAILURES, |value| value.value)),
        consecutive_gateway_errors: settings
            .consecutive_gateway_errors
            .as_deref()
            .copied()
            .and_then(unless_zero),
        consecutive_local_failures: split.then(|| unless_zero(local).unwrap_or(DEFAULT_FAILURES)),
        split_local_errors: split,
        interval: settings.interval.as_deref().copied().unwrap_or(DEFAULT_INTERVAL),
        base_ejection_time: base,
        max_ejection_time: base.max(MAX_EJECTION),
        max_ejection_percent: if percent == 0 { DEFAULT_EJECTION_PERCENT } else { percent },
        error_codes: settings
            .outlier_detection_http_error_codes
            .iter()
            .filter_map(|code| u16::try_from(code.value).ok())
            .collect(),
    })
}

/// Below this share of healthy endpoints, in percent, health is ignored.
pub(crate) fn panic_threshold(settings: Option<&Settings>, mesh: &MeshConfig) -> f64 {
    let settings = settings.or_else(|| of_mesh(mesh));
    settings.map_or(0.0, |settings| f64::from(settings.min_health_percent.value))
}

/// The mesh's block for rules that have none.
fn of_mesh(mesh: &MeshConfig) -> Option<&Settings> {
    mesh.default_traffic_policy.as_ref()?.outlier_detection.as_deref()
}
