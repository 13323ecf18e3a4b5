//! A configuration that is made again when one of its files has changed.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use rustls::sign::CertifiedKey;

use super::{
    failure::TlsFailure,
    file::{Reading, Watched},
    library::Library,
    material::{Chain, Crls, Key, Roots},
    settings::{FileNames, PairNames},
};

/// A configuration, and what it takes to make it again.
pub(super) struct Held<C> {
    files: Files,
    build: Box<Build<C>>,
    state: Mutex<State<C>>,
}

/// Makes a configuration.
type Build<C> = dyn Fn(Materials) -> Result<C, TlsFailure> + Send + Sync;

/// What was in the files of a configuration.
pub(super) struct Materials {
    /// Certificates with their keys.
    pub(super) identities: Vec<Arc<CertifiedKey>>,
    /// Whose signatures count.
    pub(super) roots: Option<Arc<Roots>>,
    /// What is revoked.
    pub(super) crls: Option<Arc<Crls>>,
}

struct Files {
    names: FileNames,
    pairs: Vec<Pair>,
    roots: Option<Arc<Watched<Roots>>>,
    crl: Option<Arc<Watched<Crls>>>,
}

struct Pair {
    names: PairNames,
    chain: Arc<Watched<Chain>>,
    key: Arc<Watched<Key>>,
}

/// All files at one moment.
struct Look {
    pairs: Vec<(Reading<Chain>, Reading<Key>)>,
    roots: Option<Reading<Roots>>,
    crl: Option<Reading<Crls>>,
}

struct State<C> {
    /// Of the files `condition` was made from.
    version: u64,
    condition: Condition<C>,
}

enum Condition<C> {
    Good(Arc<C>),
    /// The files make no sense together, but did a moment ago.
    HalfWritten {
        last: Arc<C>,
        since: Instant,
        failure: TlsFailure,
    },
    Bad(TlsFailure),
}

impl<C> Held<C> {
    /// A configuration of these files; they are read when it is asked for.
    pub(super) fn new(
        names: &FileNames,
        library: &Library,
        build: impl Fn(Materials) -> Result<C, TlsFailure> + Send + Sync + 'static,
    ) -> Self {
        let pair = |names: &PairNames| Pair {
            chain: library.file(&names.certificate),
            key: library.file(&names.key),
            names: names.clone(),
        };
        let files = Files {
            names: names.clone(),
            pairs: names.pairs.iter().map(pair).collect(),
            roots: names.roots.as_ref().map(|path| library.file(path)),
            crl: names.crl.as_ref().map(|path| library.file(path)),
        };
        let look = files.look();
        let version = look.version();
        let condition = match files.assemble(look).and_then(&build) {
            Ok(config) => Condition::Good(Arc::new(config)),
            Err(failure) => {
                tracing::warn!(%failure, "no TLS with these settings");
                Condition::Bad(failure)
            }
        };
        let state = Mutex::new(State { version, condition });
        Self { files, build: Box::new(build), state }
    }

    /// The configuration of what is in the files.
    ///
    /// # Errors
    /// A file is missing or wrong, or they do not belong together.
    pub(super) fn current(&self) -> Result<Arc<C>, TlsFailure> {
        let look = self.files.look();
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let version = look.version();
        // Another thread may have looked later and got here first.
        if version > state.version {
            let made = self.files.assemble(look).and_then(&self.build);
            match &made {
                Ok(_) => tracing::info!(files = ?self.files.names, "changed TLS files are in use"),
                Err(failure) => tracing::warn!(%failure, "changed TLS files cannot be used"),
            }
            state.version = version;
            state.condition = state.condition.after(made);
        }
        state.condition.answer()
    }
}

impl<C> Condition<C> {
    fn after(&self, made: Result<C, TlsFailure>) -> Self {
        let failure = match made {
            Ok(config) => return Self::Good(Arc::new(config)),
            Err(failure) if failure.may_be_half_written() => failure,
            Err(failure) => return Self::Bad(failure),
        };
        match self {
            Self::Good(last) => {
                Self::HalfWritten { last: Arc::clone(last), since: Instant::now(), failure }
            }
            Self::HalfWritten { last, since, .. } => {
                Self::HalfWritten { last: Arc::clone(last), since: *since, failure }
            }
            Self::Bad(_) => Self::Bad(failure),
        }
    }

    fn answer(&self) -> Result<Arc<C>, TlsFailure> {
        match self {
            Self::Good(config) => Ok(Arc::clone(config)),
            Self::HalfWritten { last, since, .. } if since.elapsed() < HALF_WRITTEN => {
                Ok(Arc::clone(last))
            }
            Self::HalfWritten { failure, .. } | Self::Bad(failure) => Err(failure.clone()),
        }
    }
}

impl Files {
    fn look(&self) -> Look {
        Look {
            pairs: self.pairs.iter().map(|pair| (pair.chain.read(), pair.key.read())).collect(),
            roots: self.roots.as_ref().map(|file| file.read()),
            crl: self.crl.as_ref().map(|file| file.read()),
        }
    }

    fn assemble(&self, look: Look) -> Result<Materials, TlsFailure> {
        let mut identities = Vec::with_capacity(self.pairs.len());
        for (pair, (chain, key)) in self.pairs.iter().zip(look.pairs) {
            let certified =
                CertifiedKey::new(chain.content?.0.clone(), Arc::clone(&key.content?.0));
            match certified.keys_match() {
                Ok(()) => identities.push(Arc::new(certified)),
                Err(error) => {
                    tracing::debug!(%error, "comparing a certificate with its key");
                    let PairNames { certificate, key } = pair.names.clone();
                    return Err(TlsFailure::KeyMismatch { certificate, key });
                }
            }
        }
        Ok(Materials {
            identities,
            roots: look.roots.map(|reading| reading.content).transpose()?,
            crls: look.crl.map(|reading| reading.content).transpose()?,
        })
    }
}

impl Look {
    /// Goes up when any of the files changes, because each file's version only goes up.
    fn version(&self) -> u64 {
        let pairs = self.pairs.iter().map(|(chain, key)| chain.version + key.version);
        let roots = self.roots.iter().map(|reading| reading.version);
        let crl = self.crl.iter().map(|reading| reading.version);
        pairs.chain(roots).chain(crl).sum()
    }
}

impl<C> fmt::Debug for Held<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Held").finish_non_exhaustive()
    }
}

/// How long the last good configuration is used while the files make no sense together: certificate
/// and key are two files, and most tools write them one after the other, in place. A file that is
/// gone is gone at once.
const HALF_WRITTEN: Duration = Duration::from_secs(5);
