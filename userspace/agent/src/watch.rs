//! Watching resource files, so that an edit takes effect by itself.
//!
//! Editors and configuration tools write in several steps: a change counts once nothing has
//! happened for [`QUIET`], or [`LIMIT`] after its first step.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use notify::{Event, EventKind, RecursiveMode, Watcher as _};
use tokio::{
    sync::mpsc::{Receiver, Sender, channel},
    time::{Instant, timeout_at},
};

/// How long nothing must happen before a change counts.
const QUIET: Duration = Duration::from_millis(50);
/// A change counts after this even if there is more to come.
const LIMIT: Duration = Duration::from_millis(500);
/// Steps waiting to be looked at; further ones mean that everything is read anew.
const STEPS: usize = 1024;

/// Watches files and folders until dropped.
#[derive(Debug)]
pub(crate) struct Watch {
    // Kept for its drop: it ends the watching.
    _watcher: notify::RecommendedWatcher,
    steps: Receiver<PathBuf>,
    lost: Arc<AtomicBool>,
    /// What is watched.
    roots: Arc<[PathBuf]>,
    /// The change under way: when it began, and what it touches.
    first_step: Option<Instant>,
    paths: BTreeSet<PathBuf>,
}

/// What has changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Changed {
    /// These files or folders.
    Paths(BTreeSet<PathBuf>),
    /// Nobody knows what: read everything.
    Anything,
    /// A file or folder that is watched has come, gone or been replaced: watch anew, and read everything.
    Roots,
}

impl Watch {
    /// Starts watching. Folders are watched with everything below them, and all with the folder that
    /// they are in: most writers put a new file in the place of the old one, and what is not there may
    /// come.
    pub(crate) fn start(paths: &[PathBuf]) -> notify::Result<Self> {
        let (sender, steps) = channel(STEPS);
        let lost = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&lost);
        let roots: Arc<[PathBuf]> = paths.into();
        let ours = Arc::clone(&roots);
        let mut watcher =
            notify::recommended_watcher(move |event| pass_on(&sender, &told, &ours, event))?;
        let mut folders = BTreeSet::new();
        for path in paths {
            if path.is_dir() {
                watcher.watch(path, RecursiveMode::Recursive)?;
            }
            let folder = path.parent().map(|folder| match folder.as_os_str().is_empty() {
                true => Path::new("."),
                false => folder,
            });
            folders.extend(folder.filter(|folder| folder.is_dir()));
        }
        // A folder inside a watched one is watched already, and must stay so with what is below.
        let inside = |folder: &Path| paths.iter().any(|path| folder.starts_with(path));
        for folder in folders.into_iter().filter(|folder| !inside(folder)) {
            watcher.watch(folder, RecursiveMode::NonRecursive)?;
        }
        let (first_step, paths) = (None, BTreeSet::new());
        Ok(Self { _watcher: watcher, steps, lost, roots, first_step, paths })
    }

    /// Waits for the next change. Never ends if there will be none. Cancelled while it waits, it loses
    /// nothing.
    pub(crate) async fn changed(&mut self) -> Changed {
        loop {
            let step = match self.first_step {
                None => self.steps.recv().await,
                Some(first) => {
                    let deadline = (first + LIMIT).min(Instant::now() + QUIET);
                    match timeout_at(deadline, self.steps.recv()).await {
                        Ok(step) => step,
                        Err(_quiet) => break,
                    }
                }
            };
            let Some(path) = step else { return std::future::pending().await };
            self.paths.insert(path);
            self.first_step.get_or_insert_with(Instant::now);
        }
        self.first_step = None;
        let paths = std::mem::take(&mut self.paths);
        let lost = self.lost.swap(false, Ordering::AcqRel);
        if self.roots.iter().any(|root| paths.contains(root)) {
            Changed::Roots
        } else if lost {
            Changed::Anything
        } else {
            Changed::Paths(paths)
        }
    }
}

fn pass_on(
    sender: &Sender<PathBuf>,
    lost: &AtomicBool,
    roots: &[PathBuf],
    event: notify::Result<Event>,
) {
    let paths = match event {
        Ok(event) if matches!(event.kind, EventKind::Access(_)) => return,
        Ok(event) => {
            if event.need_rescan() {
                lost.store(true, Ordering::Release);
            }
            event.paths
        }
        Err(error) => {
            tracing::warn!(%error, "watching resources");
            lost.store(true, Ordering::Release);
            error.paths
        }
    };
    // Neighbours in the folders around do not matter.
    let ours = paths.into_iter().filter_map(|path| {
        let mut roots = roots.iter();
        let root = roots.find(|root| plain(&path).starts_with(plain(root)))?;
        // As it was named, so that it is known again.
        Some(if plain(&path) == plain(root) { root.clone() } else { path })
    });
    // An event without a path still has to wake the reader.
    for path in ours.chain(lost.load(Ordering::Acquire).then(PathBuf::new)) {
        if sender.try_send(path).is_err() {
            // Full: its reader is awake and will see this.
            lost.store(true, Ordering::Release);
        }
    }
}

/// A path without the `./` that the folder one is in puts before it.
fn plain(path: &Path) -> &Path {
    path.strip_prefix(".").unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_atomic_rename_is_one_change() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("a");
        std::fs::create_dir(&folder).unwrap();
        let mut watch = Watch::start(&[root.path().to_owned()]).unwrap();
        std::fs::write(folder.join(".new"), "x").unwrap();
        std::fs::rename(folder.join(".new"), folder.join("b.yaml")).unwrap();
        let Changed::Paths(paths) = watch.changed().await else { panic!("what has changed") };
        assert!(paths.contains(&folder.join("b.yaml")), "{paths:?}");
    }

    /// A watch of nothing, and where its steps are told by hand.
    fn by_hand() -> (Watch, Sender<PathBuf>) {
        let mut watch = Watch::start(&[]).unwrap();
        let (sender, steps) = channel(STEPS);
        watch.steps = steps;
        (watch, sender)
    }

    /// Tells so many steps, one after the other.
    async fn tell(sender: Sender<PathBuf>, steps: u32, apart: Duration) {
        for step in 0..steps {
            sender.send(PathBuf::from(step.to_string())).await.unwrap();
            tokio::time::sleep(apart).await;
        }
        // Nobody closes a watch that is in use.
        std::future::pending::<()>().await;
    }

    #[tokio::test(start_paused = true)]
    async fn steps_that_follow_one_another_are_one_change() {
        let (mut watch, sender) = by_hand();
        let apart = QUIET - Duration::from_millis(1);
        let start = Instant::now();
        tokio::spawn(tell(sender, 5, apart));
        let Changed::Paths(paths) = watch.changed().await else { panic!("what has changed") };
        assert_eq!(paths.len(), 5, "{paths:?}");
        assert_eq!(start.elapsed(), 4 * apart + QUIET);
    }

    #[tokio::test(start_paused = true)]
    async fn steps_without_end_do_not_put_off_a_change() {
        let (mut watch, sender) = by_hand();
        let apart = QUIET / 2;
        let start = Instant::now();
        tokio::spawn(tell(sender, 1000, apart));
        let mut seen = 0;
        for round in 1..=3 {
            let Changed::Paths(paths) = watch.changed().await else { panic!("what has changed") };
            seen += paths.len();
            assert!(start.elapsed() <= round * (LIMIT + apart), "{:?}", start.elapsed());
        }
        let told = start.elapsed().as_millis() / apart.as_millis();
        assert!((told..=told + 1).contains(&(seen as u128)), "{seen} of {told}");
    }

    #[tokio::test]
    async fn a_folder_that_comes_later_is_noticed_and_neighbours_are_not() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("resources");
        let mut watch = Watch::start(std::slice::from_ref(&folder)).unwrap();
        std::fs::write(root.path().join("egressd.yaml"), "x").unwrap();
        std::fs::create_dir(&folder).unwrap();
        assert_eq!(watch.changed().await, Changed::Roots);
        let mut watch = Watch::start(std::slice::from_ref(&folder)).unwrap();
        std::fs::write(root.path().join("egressd.yaml"), "y").unwrap();
        std::fs::write(folder.join("a.yaml"), "x").unwrap();
        let Changed::Paths(paths) = watch.changed().await else { panic!("what has changed") };
        assert_eq!(paths, BTreeSet::from([folder.join("a.yaml")]));
    }
}
