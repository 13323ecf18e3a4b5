//! Finding resource files.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use egressd_model::ParsedFile;

use crate::config::FILE_NAME;

/// Directories inside directories are followed this far; deeper ones are an error, which also ends
/// a loop of links.
const DEPTH: usize = 16;
/// At most this many files are read.
const FILES: usize = 100_000;
/// The largest file that is read.
const FILE_BYTES: u64 = 64 << 20;

/// Why files could not be read.
#[derive(Debug, thiserror::Error)]
#[error("reading {path}: {source}")]
pub(crate) struct ReadError {
    path: PathBuf,
    source: io::Error,
}

/// Files, and every `.yaml`, `.yml` and `.json` file below directories, in the order of their names.
/// Hidden files and directories are passed over, as editors and Kubernetes' atomic writers keep
/// their working copies there.
pub(crate) fn list(paths: &[PathBuf]) -> Result<Vec<PathBuf>, ReadError> {
    let mut found = Vec::new();
    for path in paths {
        find(path, 0, &mut found)?;
    }
    Ok(found)
}

/// Reads one file, whatever is in it: what is wrong is in its findings.
pub(crate) fn parse(path: &Path) -> Result<ParsedFile, ReadError> {
    Ok(egressd_model::parse_bytes(&path.to_string_lossy(), &read_bytes(path)?))
}

/// Reads one file of text.
pub(crate) fn read_file(path: &Path) -> Result<String, ReadError> {
    let fail = |source| ReadError { path: path.to_owned(), source };
    String::from_utf8(read_bytes(path)?).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        fail(io::Error::other(format!("byte {at} is not UTF-8")))
    })
}

/// Reads one file, whatever is in it.
pub(crate) fn read_bytes(path: &Path) -> Result<Vec<u8>, ReadError> {
    let fail = |source| ReadError { path: path.to_owned(), source };
    let size = fs::metadata(path).map_err(fail)?.len();
    if size > FILE_BYTES {
        return Err(fail(io::Error::other(format!("{size} bytes are more than {FILE_BYTES}"))));
    }
    fs::read(path).map_err(fail)
}

fn find(path: &Path, depth: usize, found: &mut Vec<PathBuf>) -> Result<(), ReadError> {
    let fail = |source| ReadError { path: path.to_owned(), source };
    if !fs::metadata(path).map_err(fail)?.is_dir() {
        found.push(path.to_owned());
        return if found.len() > FILES {
            Err(fail(io::Error::other(format!("more than {FILES} files"))))
        } else {
            Ok(())
        };
    }
    if depth > DEPTH {
        return Err(fail(io::Error::other(format!("more than {DEPTH} directories deep"))));
    }
    let mut entries = fs::read_dir(path)
        .and_then(Iterator::collect::<io::Result<Vec<_>>>)
        .map_err(fail)?
        .into_iter()
        .map(|entry| entry.path())
        .filter(|path| is_wanted(path))
        .collect::<Vec<_>>();
    entries.sort();
    for entry in entries {
        find(&entry, depth + 1, found)?;
    }
    Ok(())
}

fn is_wanted(path: &Path) -> bool {
    is_resource_file(path) || (!is_hidden(path) && path.is_dir())
}

/// Whether a path in a folder of resources is read, going by its name. The daemon's own file is none,
/// wherever it lies.
pub(crate) fn is_resource_file(path: &Path) -> bool {
    let extension = path.extension().and_then(|extension| extension.to_str());
    let own = path.file_name().is_some_and(|name| name == FILE_NAME);
    !own && !is_hidden(path) && matches!(extension, Some("yaml" | "yml" | "json"))
}

fn is_hidden(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_yaml_in_order() {
        let root = tempfile::tempdir().unwrap();
        let write = |name: &str| {
            let path = root.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, name).unwrap();
        };
        let others = ["a/.hidden.yaml", "..data/x.yaml", "notes.txt", "a/egressd.yaml"];
        for name in ["b.yaml", "a/z.yml", "c.json"].into_iter().chain(others) {
            write(name);
        }
        let found = list(&[root.path().to_owned()]).unwrap();
        let expected = ["a/z.yml", "b.yaml", "c.json"].map(|name| root.path().join(name));
        assert_eq!(found, expected);
    }

    #[test]
    fn says_what_cannot_be_read() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("x.yaml");
        fs::write(&path, b"ab\xff").unwrap();
        let error = read_file(&path).unwrap_err().to_string();
        assert_eq!(error, format!("reading {}: byte 2 is not UTF-8", path.display()));
        let absent = root.path().join("absent");
        assert!(list(&[absent]).unwrap_err().to_string().contains("No such file"));
        std::os::unix::fs::symlink(root.path(), root.path().join("loop")).unwrap();
        fs::remove_file(&path).unwrap();
        let error = list(&[root.path().to_owned()]).unwrap_err().to_string();
        assert!(error.ends_with("more than 16 directories deep"), "{error}");
    }
}
