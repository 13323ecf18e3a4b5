//! MeshConfig: in egressd.yaml, or in a file of its own.

use std::path::Path;

use egressd_model::{Diagnostic, parse_mesh_config, resource::MeshConfig};

use crate::resources::{self, ReadError};

/// Why a MeshConfig is no good.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MeshError {
    /// Its file could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// It is rejected; every finding is here.
    #[error("the mesh's settings are no good")]
    Rejected(Vec<Diagnostic>),
}

/// Reads a file that holds a MeshConfig as a whole, under `meshConfig`, or under `spec.meshConfig` as in an
/// IstioOperator.
pub(super) fn read(path: &Path) -> Result<(MeshConfig, Vec<Diagnostic>), MeshError> {
    let text = resources::read_file(path)?;
    let value: serde_yaml::Value = serde_yaml::from_str(&text).unwrap_or_default();
    let inside = value.get("spec").is_some_and(|spec| spec.get("meshConfig").is_some());
    let place: &[&str] = match (value.get("meshConfig").is_some(), inside) {
        (true, _) => &["meshConfig"],
        (false, true) => &["spec", "meshConfig"],
        (false, false) => &[],
    };
    parse(path, &text, place)
}

/// Reads the map at a place in a text.
pub(super) fn parse(
    path: &Path,
    text: &str,
    place: &[&str],
) -> Result<(MeshConfig, Vec<Diagnostic>), MeshError> {
    parse_mesh_config(&path.to_string_lossy(), text, place).map_err(MeshError::Rejected)
}
