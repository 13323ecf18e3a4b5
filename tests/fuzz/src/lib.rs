//! What must hold for any input, whoever wrote it: one function a target. `cargo xtask fuzz` looks
//! for inputs that break it, guided by coverage; the tests of this crate repeat those that are
//! committed.
//!
//! Inputs are in `seeds/TARGET`; `yaml` and `compile` also begin with the resources of
//! `tests/data/seeds`. An input that has broken something is committed as `seeds/TARGET/found-WHAT`
//! with the repair.
//!
//! A target panics when something does not hold.

mod compile;
mod dns;
mod sniff;
mod yaml;

pub use compile::compile;
pub use dns::dns;
pub use sniff::sniff;
pub use yaml::yaml;

#[cfg(test)]
mod tests {
    use std::{
        fs,
        path::{Path, PathBuf},
    };

    /// Every file below a folder of this crate.
    fn files(folder: &str) -> Vec<PathBuf> {
        let mut found = Vec::new();
        let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join(folder)];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() { &mut folders } else { &mut found }.push(path);
            }
        }
        found
    }

    fn repeat(target: fn(&[u8]), folders: &[&str]) {
        for folder in folders {
            let files = files(folder);
            assert!(!files.is_empty(), "{folder} holds no inputs");
            for file in files {
                // Shown when the target panics.
                println!("{}", file.display());
                target(&fs::read(file).unwrap());
            }
        }
    }

    #[test]
    fn yaml() {
        repeat(super::yaml, &["seeds/yaml", "../data/seeds"]);
    }

    #[test]
    fn compile() {
        repeat(super::compile, &["seeds/compile", "../data/seeds"]);
    }

    #[test]
    fn dns() {
        repeat(super::dns, &["seeds/dns"]);
    }

    #[test]
    fn sniff() {
        repeat(super::sniff, &["seeds/sniff"]);
    }
}
