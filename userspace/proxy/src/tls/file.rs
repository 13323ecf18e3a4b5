//! A file that is read again when it changes, looked at when it is needed.
//!
//! There is no watcher: a look is one stat(2), made at most once in a given time, by whoever needs
//! the content then. A directory that is swapped by renaming a symbolic link, as Kubernetes does
//! it, is seen as well as a file written in place.

use std::{
    fs::{File, Metadata, OpenOptions},
    hash::{BuildHasher, BuildHasherDefault, DefaultHasher},
    io::{self, Read},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use super::{
    failure::{FileFailure, FileFault},
    material::Material,
};
use crate::record::Errno;

/// A file and what was in it at the last look.
#[derive(Debug)]
pub(super) struct Watched<T> {
    path: Arc<str>,
    recheck: Duration,
    /// Nothing before the first look.
    state: Mutex<Option<State<T>>>,
}

/// What a file has to say.
#[derive(Debug)]
pub(super) struct Reading<T> {
    /// Goes up when the content changes, also to an error and back.
    pub(super) version: u64,
    /// The content, or why there is none.
    pub(super) content: Result<Arc<T>, FileFailure>,
}

#[derive(Debug)]
struct State<T> {
    looked: Instant,
    stamp: Option<Stamp>,
    digest: u64,
    version: u64,
    content: Result<Arc<T>, FileFailure>,
}

/// By what a change is noticed. The time of the last change of status is part of it, because unlike
/// the time of modification no program can set it back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
    /// The file was changed so shortly before it was read that a further change may carry the same
    /// times; it is read once more to be sure.
    fresh: bool,
}

impl<T: Material> Watched<T> {
    /// A file; nothing is read yet.
    pub(super) fn new(path: Arc<str>, recheck: Duration) -> Self {
        Self { path, recheck, state: Mutex::new(None) }
    }

    /// The content, of a new look if the last one is too long ago.
    pub(super) fn read(&self) -> Reading<T> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let state = match &mut *state {
            Some(state) => {
                if state.looked.elapsed() >= self.recheck {
                    self.look(state);
                    state.looked = Instant::now();
                }
                state
            }
            None => state.insert(self.first_look()),
        };
        Reading { version: state.version, content: state.content.clone() }
    }

    fn first_look(&self) -> State<T> {
        let (stamp, digest, content) = match read(&self.path) {
            Ok((stamp, bytes)) => (Some(stamp), digest(&bytes), T::parse(&bytes)),
            Err(fault) => (None, 0, Err(fault)),
        };
        State { looked: Instant::now(), stamp, digest, version: 1, content: self.content(content) }
    }

    fn look(&self, state: &mut State<T>) {
        if let Ok(metadata) = std::fs::metadata(&*self.path)
            && state.stamp == Some(Stamp::of(&metadata, false))
        {
            return;
        }
        let (stamp, digest, content) = match read(&self.path) {
            Ok((stamp, bytes)) => {
                let digest = digest(&bytes);
                if state.stamp.is_some() && state.digest == digest {
                    state.stamp = Some(stamp);
                    return;
                }
                (Some(stamp), digest, T::parse(&bytes))
            }
            Err(fault) => (None, 0, Err(fault)),
        };
        let content = self.content(content);
        let same_fault = match (&state.content, &content) {
            (Err(old), Err(new)) => old == new,
            (Ok(_), _) | (_, Ok(_)) => false,
        };
        state.stamp = stamp;
        state.digest = digest;
        if !same_fault {
            state.content = content;
            state.version += 1;
        }
    }

    fn content(&self, content: Result<T, FileFault>) -> Result<Arc<T>, FileFailure> {
        let failure = |fault| FileFailure { role: T::ROLE, path: Arc::clone(&self.path), fault };
        content.map(Arc::new).map_err(failure)
    }
}

impl Stamp {
    fn of(metadata: &Metadata, fresh: bool) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
            fresh,
        }
    }
}

fn read(path: &str) -> Result<(Stamp, Vec<u8>), FileFault> {
    // Without O_NONBLOCK, opening a pipe would wait for a writer.
    let mut file =
        OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path).map_err(fault)?;
    let metadata = file.metadata().map_err(fault)?;
    if !metadata.is_file() {
        return Err(FileFault::NotAFile);
    }
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let age = i64::try_from(now.as_secs()).unwrap_or(i64::MAX) - metadata.ctime();
    let stamp = Stamp::of(&metadata, age < SETTLED);
    Ok((stamp, read_bounded(&mut file)?))
}

fn read_bounded(file: &mut File) -> Result<Vec<u8>, FileFault> {
    let mut bytes = Vec::new();
    file.take(LARGEST + 1).read_to_end(&mut bytes).map_err(fault)?;
    if bytes.len() as u64 > LARGEST { Err(FileFault::TooLarge(LARGEST)) } else { Ok(bytes) }
}

fn fault(error: io::Error) -> FileFault {
    if error.kind() == io::ErrorKind::NotFound {
        FileFault::Missing
    } else {
        FileFault::Unreadable(error.kind(), Errno::from(&error))
    }
}

/// Tells content from other content; nobody gains by making two files look the same.
fn digest(bytes: &[u8]) -> u64 {
    BuildHasherDefault::<DefaultHasher>::default().hash_one(bytes)
}

/// Bytes of the largest file that is read. Lists of revoked certificates are the largest, and those
/// of the big public authorities stay below this.
const LARGEST: u64 = 16 * 1024 * 1024;
/// Seconds after which a change has a time of its own: the coarsest file systems count in twos.
const SETTLED: i64 = 3;

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use super::*;
    use crate::tls::failure::Role;

    #[derive(Debug)]
    struct Text(String);

    impl Material for Text {
        const ROLE: Role = Role::Certificate;

        fn parse(bytes: &[u8]) -> Result<Self, FileFault> {
            let text = String::from_utf8_lossy(bytes).into_owned();
            if text.starts_with("bad") {
                Err(FileFault::Malformed(text.into()))
            } else {
                Ok(Self(text))
            }
        }
    }

    fn watch(path: &Path) -> Watched<Text> {
        Watched::new(path.to_str().unwrap().into(), Duration::ZERO)
    }

    /// The content or the kind of fault, and how often it has changed.
    fn seen(file: &Watched<Text>) -> (u64, Result<String, FileFault>) {
        let reading = file.read();
        let content = reading.content.map(|text| text.0.clone()).map_err(|failure| failure.fault);
        (reading.version, content)
    }

    #[test]
    fn changes_are_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        let file = watch(&path);
        assert_eq!(seen(&file), (1, Err(FileFault::Missing)));
        assert_eq!(seen(&file), (1, Err(FileFault::Missing)));
        fs::write(&path, "one").unwrap();
        assert_eq!(seen(&file), (2, Ok("one".into())));
        assert_eq!(seen(&file), (2, Ok("one".into())));
        // In place, and of the same length.
        fs::write(&path, "two").unwrap();
        assert_eq!(seen(&file), (3, Ok("two".into())));
        // By rename, with the same content: nothing has changed.
        fs::write(dir.path().join("next"), "two").unwrap();
        fs::rename(dir.path().join("next"), &path).unwrap();
        assert_eq!(seen(&file), (3, Ok("two".into())));
        fs::write(&path, "bad").unwrap();
        assert_eq!(seen(&file), (4, Err(FileFault::Malformed("bad".into()))));
        fs::remove_file(&path).unwrap();
        assert_eq!(seen(&file), (5, Err(FileFault::Missing)));
        fs::create_dir(&path).unwrap();
        assert_eq!(seen(&file), (6, Err(FileFault::NotAFile)));
    }

    #[test]
    fn a_link_that_is_swapped_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["a", "b"] {
            fs::create_dir(dir.path().join(name)).unwrap();
            fs::write(dir.path().join(name).join("file"), name).unwrap();
        }
        let data = dir.path().join("data");
        std::os::unix::fs::symlink("a", &data).unwrap();
        let file = watch(&data.join("file"));
        assert_eq!(seen(&file), (1, Ok("a".into())));
        std::os::unix::fs::symlink("b", dir.path().join("next")).unwrap();
        fs::rename(dir.path().join("next"), &data).unwrap();
        assert_eq!(seen(&file), (2, Ok("b".into())));
    }

    #[test]
    fn files_are_left_alone_between_looks() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        let file = Watched::<Text>::new(path.to_str().unwrap().into(), Duration::from_secs(3600));
        assert_eq!(seen(&file), (1, Err(FileFault::Missing)));
        fs::write(&path, "one").unwrap();
        assert_eq!(seen(&file), (1, Err(FileFault::Missing)));
    }

    #[test]
    fn pipes_and_giants_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let large = dir.path().join("large");
        File::create(&large).unwrap().set_len(LARGEST + 1).unwrap();
        assert_eq!(seen(&watch(&large)), (1, Err(FileFault::TooLarge(LARGEST))));
        let null = watch(Path::new("/dev/null"));
        assert_eq!(seen(&null), (1, Err(FileFault::NotAFile)));
    }
}
