//! Programs, links and maps, from loading to leaving.

use std::{
    collections::BTreeSet,
    fs::File,
    net::IpAddr,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    time::Instant,
};

use aya::{
    Ebpf,
    maps::{Array, HashMap, MapData, PerCpuArray, RingBuf, SkStorage},
};
use aya_log::EbpfLogger;
use egressd_abi::{Config, Counter, RowKey};
use nix::fcntl::Flock;

use crate::{
    addresses::{self, AddressChanges},
    bytes::{self, ConfigBytes, KeyBytes, OriginalBytes, OwnAddressBytes, TupleBytes},
    cgroup::{OwnCgroup, cgroup2_root, is_private_namespace, nearest_ancestors},
    direct::{DirectClusters, Records},
    dns::{DnsServers, DnsSockets, Heartbeat},
    error::Error,
    events::{Forward, Notice, Sources, Watch},
    hosts::KnownHosts,
    leaks::Ages,
    links::{Links, Place},
    listeners::{Listeners, MARK},
    load, locks,
    netns::NetnsCookie,
    originals::Originals,
    pins::Pins,
    preflight,
    programs::{self, ProgramStats},
    rows::{Generations, KernelTable, take},
};

/// The size of the table of hand-offs: a walk of a table that changes may never end by itself.
const HANDOFFS: usize = 16_384;
/// Addresses kept of one network namespace: so that none can fill the table for all.
const ADDRESSES: usize = 256;

/// How to capture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The cgroups whose processes are captured; none means the cgroup2 root.
    pub cgroups: Vec<PathBuf>,
    /// The proxy's port on the spread addresses.
    pub port: u16,
    /// `capture.onProxyDown: reject`.
    pub reject_on_proxy_down: bool,
    /// DNS queries to capture; `None` leaves DNS alone.
    pub dns: Option<DnsSettings>,
    /// A directory of a bpffs, made if it is not there: what is in the kernel stays when the daemon is
    /// killed, and the next one takes it over. `None`, or no bpffs: nothing stays.
    pub pins: Option<PathBuf>,
}

/// Which DNS queries are captured, and where they arrive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DnsSettings {
    /// The DNS server's port on its spread addresses; the fifteen after it are used on `::1` too.
    pub port: u16,
    /// Whose queries; a list is set by [`Datapath::set_dns_servers`] and may change.
    pub servers: DnsServers,
}

/// Values of [`Counter`], summed over the CPUs, with their names.
pub type Counters = Vec<(&'static str, u64)>;

/// The kernel side of egressd. Dropping it detaches and unloads everything.
pub struct Datapath {
    // Dropped first: nobody is captured by programs that are being taken down.
    links: Links,
    /// Before the programs and maps that are pinned.
    pins: Option<Pins>,
    generations: Generations,
    listeners: SkStorage<MapData, u32>,
    own: HashMap<MapData, OwnAddressBytes, u32>,
    own_held: BTreeSet<(u64, RowKey)>,
    handoffs: HashMap<MapData, TupleBytes, OriginalBytes>,
    handoff_ages: Ages<TupleBytes>,
    dns_servers: HashMap<MapData, KeyBytes, u32>,
    dns_servers_held: BTreeSet<RowKey>,
    heartbeat: Option<Heartbeat>,
    counts: PerCpuArray<MapData, u64>,
    config: Array<MapData, ConfigBytes>,
    originals: Originals,
    direct: DirectClusters,
    /// Namespaces, and denials.
    events: Option<[RingBuf<MapData>; 2]>,
    records: Option<RingBuf<MapData>>,
    /// Rows for UDP were prepared: datagrams are looked at from the next flip on.
    datagrams: bool,
    attached: bool,
    log: Option<EbpfLogger<Forward>>,
    cgroups: Vec<Captured>,
    bpf: Ebpf,
    settings: Settings,
    own_cgroup: OwnCgroup,
}

/// A cgroup to capture, locked against another daemon.
#[derive(Debug)]
struct Captured {
    path: PathBuf,
    directory: File,
    /// Of its inode, which stays as long as the cgroup is there.
    number: u64,
    /// Kept for as long as we capture.
    _lock: Flock<File>,
}

impl Datapath {
    /// Checks the machine, enters our own cgroup, and loads the programs. Nothing is attached.
    ///
    /// # Errors
    /// Every variant of [`Error`]: each says what is missing and what to do about it.
    pub fn load(settings: Settings) -> Result<Self, Error> {
        preflight::check()?;
        let root = cgroup2_root()?;
        if settings.cgroups.is_empty() && is_private_namespace() {
            tracing::warn!(
                root = %root.display(),
                "this is a cgroup namespace of its own: processes outside of it are not captured; \
                 run in the host's (for containers: --cgroupns=host)"
            );
        }
        let wanted =
            if settings.cgroups.is_empty() { vec![root.clone()] } else { settings.cgroups.clone() };
        let cgroups = nearest_ancestors(&wanted, &root)?
            .into_iter()
            .map(Captured::lock)
            .collect::<Result<Vec<_>, _>>()?;
        let own_cgroup = OwnCgroup::enter(&root)?;
        let numbers: Vec<u64> = cgroups.iter().map(|captured| captured.number).collect();
        let open = |root| Pins::open(root, &numbers);
        let pins = settings.pins.as_deref().map(open).transpose()?.flatten();
        let mut bpf = load::load(pins.as_ref())?;
        let accepted: SkStorage<_, _> = take(&mut bpf, "ACCEPTED")?;
        let direct = DirectClusters::take(&mut bpf)?;
        Ok(Self {
            links: Links::default(),
            pins,
            generations: Generations::take(&mut bpf, direct.clone())?,
            listeners: take(&mut bpf, "LISTENERS")?,
            own: take(&mut bpf, "OWN")?,
            own_held: BTreeSet::new(),
            handoffs: take(&mut bpf, "HANDOFFS")?,
            handoff_ages: Ages::default(),
            dns_servers: take(&mut bpf, "DNS_SERVERS")?,
            dns_servers_held: BTreeSet::new(),
            heartbeat: Some(Heartbeat::new(take(&mut bpf, "DNS_HEARTBEAT")?)),
            counts: take(&mut bpf, "COUNTS")?,
            config: take(&mut bpf, "CONFIG")?,
            originals: Originals::new(accepted),
            direct,
            events: Some([take(&mut bpf, "RARE_EVENTS")?, take(&mut bpf, "EVENTS")?]),
            records: Some(take(&mut bpf, "RECORDS")?),
            datagrams: settings.dns.is_some(),
            attached: false,
            log: EbpfLogger::init_with_logger(&mut bpf, Forward).ok(),
            cgroups,
            bpf,
            settings,
            own_cgroup,
        })
    }

    /// Tags listeners as ours and tells the programs of them and of our cgroup. To be done before
    /// [`Datapath::attach`].
    pub fn configure(&mut self, listeners: &Listeners) -> Result<(), Error> {
        self.tag(listeners)?;
        let (v4, v6) = (listeners.spread_v4(), listeners.spread_v6());
        let mut config = Config::new(self.own_cgroup.id(), MARK, self.settings.port, v4, v6);
        let netns =
            NetnsCookie::current().map_err(Error::io("asking for our network namespace"))?;
        config = config.in_netns(netns.raw());
        if self.settings.reject_on_proxy_down {
            config = config.reject_on_down();
        }
        if let Some(dns) = &self.settings.dns {
            config = config.capture_dns(dns.port, dns.servers == DnsServers::All);
        }
        self.config.set(0, bytes::config(config), 0).map_err(Error::bpf("writing the settings"))
    }

    /// Tags the DNS server's sockets of a network namespace.
    pub fn tag_dns(&mut self, sockets: &DnsSockets) -> Result<(), Error> {
        for socket in sockets.udp.iter().flatten() {
            self.listeners.insert(socket, 1, 0).map_err(Error::bpf("tagging a DNS socket"))?;
        }
        for socket in &sockets.tcp {
            self.listeners.insert(socket, 1, 0).map_err(Error::bpf("tagging a DNS listener"))?;
        }
        Ok(())
    }

    /// Sets the servers whose queries are captured, if they are listed. Takes effect at once.
    pub fn set_dns_servers(&mut self, servers: &[IpAddr]) -> Result<(), Error> {
        let wanted: BTreeSet<RowKey> = servers.iter().map(|ip| RowKey::new(*ip, 0)).collect();
        let gone: Vec<_> = self.dns_servers_held.difference(&wanted).copied().collect();
        for key in gone {
            self.dns_servers
                .remove(&bytes::key(key))
                .map_err(Error::bpf("removing a captured DNS server"))?;
            self.dns_servers_held.remove(&key);
        }
        for key in wanted {
            if self.dns_servers_held.insert(key) {
                self.dns_servers
                    .insert(bytes::key(key), 1, 0)
                    .map_err(Error::bpf("adding a captured DNS server"))?;
            }
        }
        Ok(())
    }

    /// The sign of life of the DNS server. Once only: `None` the second time.
    pub fn heartbeat(&mut self) -> Option<Heartbeat> {
        self.heartbeat.take()
    }

    /// Tags the listeners of one more network namespace.
    pub fn tag(&mut self, listeners: &Listeners) -> Result<(), Error> {
        for socket in listeners.sockets() {
            self.listeners
                .insert(socket, 1, 0)
                .map_err(Error::bpf("tagging a listener as ours"))?;
        }
        Ok(())
    }

    /// Reads the addresses of the calling thread's network namespace into the kernel's table of
    /// what is local there.
    pub fn learn_addresses(&mut self) -> Result<(), Error> {
        let netns =
            NetnsCookie::current().map_err(Error::io("asking for our network namespace"))?.raw();
        let addresses = addresses::local().map_err(Error::io("listing our addresses"))?;
        let now: BTreeSet<(u64, RowKey)> =
            addresses.into_iter().map(|ip| (netns, RowKey::new(ip, 0))).collect();
        let gone = self.own_held.iter().filter(|held| held.0 == netns && !now.contains(held));
        for entry in gone.copied().collect::<Vec<_>>() {
            self.forget_address(entry);
        }
        for (netns, address) in now.into_iter().take(ADDRESSES) {
            if !self.own_held.contains(&(netns, address)) {
                self.own
                    .insert(bytes::own_address(netns, address), 1, 0)
                    .map_err(Error::bpf("adding an address of ours"))?;
                self.own_held.insert((netns, address));
            }
        }
        Ok(())
    }

    /// Forgets the addresses of a network namespace that is left.
    pub fn forget_addresses(&mut self, netns: NetnsCookie) {
        let gone = self.own_held.iter().filter(|held| held.0 == netns.raw());
        for entry in gone.copied().collect::<Vec<_>>() {
            self.forget_address(entry);
        }
    }

    fn forget_address(&mut self, entry: (u64, RowKey)) {
        // One that is not there is as good as removed.
        if let Err(error) = self.own.remove(&bytes::own_address(entry.0, entry.1)) {
            tracing::debug!(%error, "removing an address of ours");
        }
        self.own_held.remove(&entry);
    }

    /// Puts a generation's rows into the kernel, beside those in force.
    ///
    /// # Errors
    /// [`Error::TableFull`], or what the kernel says. What is in force stays.
    pub fn prepare(&mut self, number: u32, table: &KernelTable) -> Result<(), Error> {
        self.generations.prepare(number, table)?;
        self.datagrams |= table.has_datagrams();
        Ok(())
    }

    /// Makes the rows prepared last the ones in force.
    pub fn flip(&mut self) -> Result<(), Error> {
        if self.attached && self.datagrams && !self.links.has_datagrams() {
            for captured in &self.cgroups {
                self.links.capture_datagrams(&captured.place(&self.bpf, self.pins.as_ref()))?;
            }
        }
        self.generations.flip()
    }

    /// Reads the hosts and addresses of the generation in force out of the kernel. Two system calls
    /// for each.
    pub fn hosts(&self) -> Result<KnownHosts, Error> {
        self.generations.hosts()
    }

    /// Starts capturing.
    pub fn attach(&mut self) -> Result<(), Error> {
        let Self { links, bpf, pins, cgroups, own_cgroup, datagrams, .. } = self;
        let pins = pins.as_ref();
        let covered = cgroups.iter().any(|captured| own_cgroup.path().starts_with(&captured.path));
        if !covered {
            let path = own_cgroup.path();
            let cgroup =
                &File::open(path).map_err(Error::io(format!("opening {}", path.display())))?;
            links.follow(&Place { bpf, pins, cgroup, path })?;
        }
        for captured in cgroups {
            let place = captured.place(bpf, pins);
            if *datagrams {
                links.capture_datagrams(&place)?;
            }
            links.capture(&place)?;
        }
        if let Some(pins) = pins {
            pins.remove_others(links.pins());
        }
        // From here on what is pinned goes with this daemon.
        if let Some(pins) = &mut self.pins {
            pins.own();
        }
        self.attached = true;
        Ok(())
    }

    /// Leaves everything that is pinned in the kernel when the datapath is dropped: programs stay attached,
    /// direct connections and their limits go on, and the next daemon takes over. Says whether anything is
    /// pinned.
    pub fn keep(&mut self) -> bool {
        if let Some(pins) = &mut self.pins {
            pins.keep();
        }
        self.pins.is_some()
    }

    /// Stops capturing. Connections already turned keep everything they have.
    pub fn stop_capture(&mut self) {
        self.attached = false;
        self.links.stop_capture();
    }

    /// Reads what accepted sockets were dialled for.
    pub fn originals(&self) -> Originals {
        self.originals.clone()
    }

    /// The clusters whose connections take the direct path.
    pub fn direct(&self) -> DirectClusters {
        self.direct.clone()
    }

    /// What the programs cost. Times and counts are zero unless `kernel.bpf_stats_enabled` is set.
    pub fn programs(&self) -> Result<Vec<ProgramStats>, Error> {
        programs::programs(&self.bpf)
    }

    /// Delivers the kernel's events to `handler`, on a thread of its own, until the [`Watch`] is
    /// dropped. Once only: `None` the second time.
    pub fn watch(
        &mut self,
        handler: impl FnMut(Notice) + Send + 'static,
    ) -> Result<Option<Watch>, Error> {
        let Some([rare, events]) = self.events.take() else { return Ok(None) };
        let Some(records) = self.records.take() else { return Ok(None) };
        let addresses =
            AddressChanges::open().map_err(Error::io("listening for changes of our addresses"))?;
        let records = Records::new(records, self.direct.clone());
        let sources =
            Sources { rare, events, records, log: self.log.take(), addresses: Some(addresses) };
        Watch::start(sources, handler)
            .map(Some)
            .map_err(Error::io("starting the thread for kernel events"))
    }

    /// What the programs have counted.
    pub fn counters(&self) -> Result<Counters, Error> {
        Counter::ALL
            .iter()
            .map(|counter| {
                let slots = self
                    .counts
                    .get(&(*counter as u32), 0)
                    .map_err(Error::bpf("reading the counters"))?;
                Ok((counter.name(), slots.iter().sum()))
            })
            .collect()
    }

    /// Hand-offs of handshakes under way.
    pub fn handoffs(&self) -> usize {
        self.handoffs.keys().take(HANDOFFS).filter(Result::is_ok).count()
    }

    /// Takes away hand-offs that nobody will take any more; to be called now and then. Says how many.
    pub fn sweep_handoffs(&mut self) -> usize {
        let there = self.handoffs.iter().take(HANDOFFS).filter_map(Result::ok);
        let there = there.map(|(tuple, original)| (tuple, bytes::original(original).cookie));
        let old = self.handoff_ages.old(there, Instant::now());
        // One that is gone by now was taken after all.
        old.iter().filter(|tuple| self.handoffs.remove(tuple).is_ok()).count()
    }

    /// The captured cgroups.
    pub fn cgroups(&self) -> impl Iterator<Item = &Path> {
        self.cgroups.iter().map(|captured| captured.path.as_path())
    }
}

impl Captured {
    fn place<'a>(&'a self, bpf: &'a Ebpf, pins: Option<&'a Pins>) -> Place<'a> {
        Place { bpf, pins, cgroup: &self.directory, path: &self.path }
    }

    /// A second daemon on the same cgroup would capture what the first one has turned. The lock goes
    /// with the process, however it ends. It is held on a file that only root can open: anybody could
    /// lock the cgroup's own directory.
    fn lock(path: PathBuf) -> Result<Self, Error> {
        let directory =
            File::open(&path).map_err(Error::io(format!("opening {}", path.display())))?;
        let number = directory
            .metadata()
            .map_err(Error::io(format!("looking at {}", path.display())))?
            .ino();
        match locks::lock(&format!("cgroup-{number}"))? {
            Some(lock) => Ok(Self { path, directory, number, _lock: lock }),
            None => Err(Error::AlreadyCaptured { path }),
        }
    }
}
