//! `egressd run`: the daemon from start to end.

mod adapt;
mod daemon;
mod diff;
mod direct;
mod dns;
mod doors;
mod in_force;
mod known_hosts;
mod namespaces;
mod notify;
mod own_addresses;
mod report;
mod state;
mod watchdog;

use crate::{
    cli,
    config::{Config, ConfigError, OnProxyDown},
    exit::Exit,
    settings::{MeshError, Overrides, Settings},
    store::{LoadError, Store},
};

/// Why the daemon does not run, with the status that says so.
#[derive(Debug, thiserror::Error)]
enum Failure {
    /// Its own file is no good.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// MeshConfig in it is no good.
    #[error(transparent)]
    Mesh(#[from] MeshError),
    /// A resource is no good.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The kernel side cannot work here.
    #[error(transparent)]
    Datapath(#[from] egressd_datapath::Error),
    /// Something else of the machine is not as needed.
    #[error("{what}")]
    Machine {
        /// What was attempted, and on what.
        what: String,
        /// What the system said.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl Failure {
    fn machine<E>(what: impl Into<String>) -> impl FnOnce(E) -> Self
    where
        E: std::error::Error + Send + Sync + 'static,
    {
        let what = what.into();
        move |source| Self::Machine { what, source: Box::new(source) }
    }

    fn exit(&self) -> Exit {
        match self {
            Self::Load(LoadError::State(_)) | Self::Datapath(_) | Self::Machine { .. } => {
                Exit::Impossible
            }
            // Nothing was found wrong, as there is nothing to look at.
            Self::Config(ConfigError::Read { .. })
            | Self::Mesh(MeshError::Read(_))
            | Self::Load(LoadError::Read(_) | LoadError::Config(ConfigError::Read { .. })) => {
                Exit::Usage
            }
            Self::Config(ConfigError::Rejected(_))
            | Self::Mesh(MeshError::Rejected(_))
            | Self::Load(LoadError::Rejected(_) | LoadError::Config(ConfigError::Rejected(_))) => {
                Exit::Wrong
            }
        }
    }
}

/// Runs until told to stop.
pub(crate) fn run(args: &cli::Run) -> Exit {
    match try_run(args) {
        Ok(()) => Exit::Fine,
        Err(failure) => {
            report::failure(&failure);
            failure.exit()
        }
    }
}

fn try_run(args: &cli::Run) -> Result<(), Failure> {
    let config = configure(args)?;
    raise_descriptor_limit();
    let families = egressd_datapath::has_global_v6()?;
    let families =
        if families { egressd_tables::IpFamilies::Dual } else { egressd_tables::IpFamilies::V4 };
    let overrides = Overrides { families: Some(families), ..Overrides::default() };
    let settings = Settings::new(config, &overrides)?;
    let config = settings.config.clone();
    let access_log = settings.access_log.clone();
    let mut store = Store::new(settings)?;
    // Before the first look, so that no edit falls between it and the watching.
    let files = daemon::watch(&store.watched());
    let generation = store.load()?;
    let mut told = report::Told::default();
    told.generation(&generation);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name("egressd-main")
        .enable_all()
        .build()
        .map_err(Failure::machine("starting the event loop"))?;
    runtime.block_on(daemon::run(&config, &access_log, store, files, generation, told))
}

/// Uses all the descriptors we may: two for each connection, and the usual soft limit is 1,024.
fn raise_descriptor_limit() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let raised = getrlimit(Resource::RLIMIT_NOFILE)
        .and_then(|(_, hard)| setrlimit(Resource::RLIMIT_NOFILE, hard, hard));
    if let Err(error) = raised {
        tracing::warn!(%error, "the limit of open files stays as it is");
    }
}

fn configure(args: &cli::Run) -> Result<Config, ConfigError> {
    let mut config = Config::load(&args.config.config)?;
    if !args.cgroup.is_empty() {
        config.capture.cgroups.clone_from(&args.cgroup);
    }
    if let Some(state) = &args.state {
        config.state_directory.clone_from(state);
    }
    config.keep = args.keep;
    if let Some(admin) = &args.admin {
        config.admin_socket.clone_from(admin);
    }
    Ok(config)
}

/// How the kernel side is to capture.
fn settings(config: &Config, dns: &dns::Plan) -> egressd_datapath::Settings {
    egressd_datapath::Settings {
        cgroups: config.capture.cgroups.clone(),
        port: config.capture.port,
        reject_on_proxy_down: config.capture.on_proxy_down == OnProxyDown::Reject,
        dns: dns.settings(config.capture.dns_port()),
        pins: config.capture.pin_directory.clone(),
    }
}
