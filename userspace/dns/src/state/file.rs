//! The file: versioned JSON, replaced as a whole.

use std::{
    fs::{self, File},
    io::{self, BufWriter, Write as _},
    net::{Ipv4Addr, Ipv6Addr},
    path::{Path, PathBuf},
    sync::Arc,
};

use egressd_tables::Vip;
use serde::{Deserialize, Serialize};

/// The name of the file in the state directory.
pub(crate) const NAME: &str = "vips.json";
/// What is written before it takes the place of the file.
const DRAFT: &str = "vips.json.new";
/// The format that this module writes, and the only one it reads.
const VERSION: u32 = 1;

/// The file, key by key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct StateFile {
    pub(crate) version: u32,
    /// The offset in the ranges that is tried next.
    pub(crate) next: u32,
    /// By namespace, entry and host. Shared, as what is true and what the file says are mostly the same.
    #[serde(with = "shared")]
    pub(crate) given: Arc<[Row]>,
    /// Freed addresses, the longest resting first.
    #[serde(with = "shared")]
    pub(crate) resting: Arc<[Resting]>,
}

/// An address pair and its host.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Row {
    /// Of the ServiceEntry.
    #[serde(with = "shared")]
    pub(crate) namespace: Arc<str>,
    /// The name of the ServiceEntry.
    #[serde(with = "shared")]
    pub(crate) entry: Arc<str>,
    #[serde(with = "shared")]
    pub(crate) host: Arc<str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) v4: Option<Ipv4Addr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) v6: Option<Ipv6Addr>,
}

/// An address pair that was given and is not any more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Resting {
    /// Whose it was: it gets the pair back if it returns.
    pub(crate) was: Row,
    /// Nobody else gets it before, in seconds since 1970.
    pub(crate) until: u64,
}

/// Shared values, as if they were not.
mod shared {
    use std::sync::Arc;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<T: Serialize + ?Sized, S: Serializer>(
        value: &Arc<T>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        T::serialize(value, serializer)
    }

    pub(super) fn deserialize<'de, T: ?Sized, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Arc<T>, D::Error>
    where
        Box<T>: Deserialize<'de>,
    {
        Box::<T>::deserialize(deserializer).map(Arc::from)
    }
}

impl Default for StateFile {
    fn default() -> Self {
        Self { version: VERSION, next: 1, given: Arc::default(), resting: Arc::default() }
    }
}

impl Row {
    /// Namespace, entry and host.
    pub(crate) fn key(&self) -> [&str; 3] {
        [&self.namespace, &self.entry, &self.host]
    }

    pub(crate) fn vip(&self) -> Vip {
        Vip { v4: self.v4, v6: self.v6 }
    }
}

/// Why there is no state to be had from a file.
#[derive(Debug)]
pub(crate) enum Unusable {
    /// The system does not let us read it.
    Unreadable(io::Error),
    /// It is not ours, or damaged.
    Wrong(String),
}

/// Reads the file; nothing if there is none.
pub(crate) fn read(path: &Path) -> Result<Option<StateFile>, Unusable> {
    let text = match fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        text => text.map_err(Unusable::Unreadable)?,
    };
    // The version first: the rest may mean something else in another one.
    let version: Version =
        serde_json::from_slice(&text).map_err(|error| Unusable::Wrong(error.to_string()))?;
    if version.version != VERSION {
        let reason = format!("its version is {}, not {VERSION}", version.version);
        return Err(Unusable::Wrong(reason));
    }
    serde_json::from_slice(&text).map(Some).map_err(|error| Unusable::Wrong(error.to_string()))
}

#[derive(Deserialize)]
struct Version {
    version: u32,
}

/// Replaces the file: after a crash at any moment there is the old one or the new one, whole.
pub(crate) fn write(directory: &Path, state: &StateFile) -> io::Result<()> {
    let draft = directory.join(DRAFT);
    let mut file = BufWriter::new(File::create(&draft)?);
    serde_json::to_writer_pretty(&mut file, state)?;
    file.write_all(b"\n")?;
    file.into_inner()?.sync_all()?;
    fs::rename(&draft, directory.join(NAME))?;
    // The new name is on the disk only when the directory is.
    File::open(directory)?.sync_all()
}

/// Renames a file that cannot be used to the first free `….corrupt-N`; says which.
pub(crate) fn set_aside(path: &Path) -> io::Result<PathBuf> {
    for number in 1..=u32::MAX {
        let mut name = path.as_os_str().to_owned();
        name.push(format!(".corrupt-{number}"));
        let aside = PathBuf::from(name);
        if !aside.try_exists()? {
            fs::rename(path, &aside)?;
            return Ok(aside);
        }
    }
    Err(io::ErrorKind::AlreadyExists.into())
}
