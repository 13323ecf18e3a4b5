//! Every map. Sizes are defaults; the daemon may set others when it loads the programs.

use aya_ebpf::{
    btf_maps::{Array, HashMap, LpmTrie, LruHashMap, PerCpuArray, RingBuf, SkStorage},
    macros::btf_map,
};
use egressd_abi::{
    COUNTERS, ClusterSlot, Config, DatagramSocket, DirectEvent, DirectRoute, DirectSocket,
    DnsSocket, EndpointRow, EndpointSlot, Event, Flow, FlowKey, Generation, Host, HostAddress,
    LONG_NAME, Level, MAX_CLUSTER_NAME, MAX_CLUSTERS, MAX_DIRECT_ROUTES, MAX_ENDPOINT_ROWS,
    MAX_ENDPOINTS, MAX_FLOWS, MAX_LEVELS, MAX_VIEWS, Original, Row, RowKey, SHORT_NAME,
    SocketState, Tuple, View,
};

/// BPF_F_NO_PREALLOC: memory only for the rows there are.
const NO_PREALLOC: usize = 1;
/// BPF_F_MMAPABLE: the daemon reads and writes it in its own memory.
const MMAPABLE: usize = 1024;

/// One entry: what the daemon set before attaching.
#[btf_map]
pub(crate) static CONFIG: Array<Config, 1> = Array::new();

/// One entry: the index (0 or 1) of the generation in force. The flip of a reload.
#[btf_map]
pub(crate) static ACTIVE: Array<u32, 1> = Array::new();

/// The heads of the two generations.
#[btf_map]
pub(crate) static GENERATIONS: Array<Generation, 2> = Array::new();

/// `{address, port}` rows of generation 0. Each table has a map for either generation: the spare
/// one is filled while the other is in force.
#[btf_map]
pub(crate) static EXACT_0: HashMap<RowKey, Row, 131072, NO_PREALLOC> = HashMap::new();
/// `{address, port}` rows of generation 1.
#[btf_map]
pub(crate) static EXACT_1: HashMap<RowKey, Row, 131072, NO_PREALLOC> = HashMap::new();

/// `{port, network}` rows of generation 0; port 0 is any port.
#[btf_map]
pub(crate) static PREFIX_0: LpmTrie<RowKey, Row, 131072> = LpmTrie::new();
/// `{port, network}` rows of generation 1.
#[btf_map]
pub(crate) static PREFIX_1: LpmTrie<RowKey, Row, 131072> = LpmTrie::new();

/// Port-only rows of generation 0; the key is the port in network order.
#[btf_map]
pub(crate) static PORT_0: HashMap<[u8; 2], Row, 65536, NO_PREALLOC> = HashMap::new();
/// Port-only rows of generation 1.
#[btf_map]
pub(crate) static PORT_1: HashMap<[u8; 2], Row, 65536, NO_PREALLOC> = HashMap::new();

/// `capture.excludeCidrs` and `capture.excludePorts` (as a network of length 0) of generation 0.
#[btf_map]
pub(crate) static EXCLUDE_0: LpmTrie<RowKey, u32, 4096> = LpmTrie::new();
/// The same of generation 1.
#[btf_map]
pub(crate) static EXCLUDE_1: LpmTrie<RowKey, u32, 4096> = LpmTrie::new();

/// Hosts of generation 0 by name: what stands for them. Read by the daemon alone.
#[btf_map]
pub(crate) static HOSTS_0: HashMap<[u8; SHORT_NAME], Host, 65536, NO_PREALLOC> = HashMap::new();
/// The same of generation 1.
#[btf_map]
pub(crate) static HOSTS_1: HashMap<[u8; SHORT_NAME], Host, 65536, NO_PREALLOC> = HashMap::new();

/// Hosts of generation 0 whose names are longer.
#[btf_map]
pub(crate) static HOSTS_LONG_0: HashMap<[u8; LONG_NAME], Host, 4096, NO_PREALLOC> = HashMap::new();
/// The same of generation 1.
#[btf_map]
pub(crate) static HOSTS_LONG_1: HashMap<[u8; LONG_NAME], Host, 4096, NO_PREALLOC> = HashMap::new();

/// The reverse of generation 0: single addresses, with port 0, and whom they stand for.
#[btf_map]
pub(crate) static HOST_ADDRS_0: HashMap<RowKey, HostAddress, 131072, NO_PREALLOC> = HashMap::new();
/// The same of generation 1.
#[btf_map]
pub(crate) static HOST_ADDRS_1: HashMap<RowKey, HostAddress, 131072, NO_PREALLOC> = HashMap::new();

/// An address of a network namespace, and its cookie.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct OwnAddress {
    pub(crate) netns: u64,
    pub(crate) address: RowKey,
    pub(crate) reserved: u32,
}

/// The addresses of the network namespaces we listen in. Written in place, outside the generations.
#[btf_map]
pub(crate) static OWN: HashMap<OwnAddress, u32, 16384, NO_PREALLOC> = HashMap::new();

/// What an application's socket carries from connect() on.
#[btf_map]
pub(crate) static SOCKETS: SkStorage<SocketState> = SkStorage::new();

/// What an accepted socket of ours carries: read by the daemon through its own descriptor.
#[btf_map]
pub(crate) static ACCEPTED: SkStorage<Original> = SkStorage::new();

/// The tag of our listening sockets, set by the daemon through their descriptors.
#[btf_map]
pub(crate) static LISTENERS: SkStorage<u32> = SkStorage::new();

/// Says that a capture program rewrote the last connect() of the socket. All instances on a host
/// share this one map, so that each lets pass what another one has turned to its proxy.
#[btf_map]
pub(crate) static EGRESSD_REWRIT: SkStorage<u32> = SkStorage::new();

/// What a UDP socket that has asked captured DNS servers carries.
#[btf_map]
pub(crate) static DNS_SOCKETS: SkStorage<DnsSocket> = SkStorage::new();

/// The DNS servers whose queries are captured; port 0. Written in place.
#[btf_map]
pub(crate) static DNS_SERVERS: HashMap<RowKey, u32, 256, NO_PREALLOC> = HashMap::new();

/// When the DNS thread last said that it lives, in nanoseconds of CLOCK_MONOTONIC.
#[btf_map]
pub(crate) static DNS_HEARTBEAT: Array<u64, 1> = Array::new();

/// Hand-offs of handshakes under way.
#[btf_map]
pub(crate) static HANDOFFS: LruHashMap<Tuple, Original, 16384> = LruHashMap::new();

/// Turns taken by the choice of a spread address, one counter for each family. Even use by every
/// CPU is even use by all.
#[btf_map]
pub(crate) static TURNS: PerCpuArray<u32, 2> = PerCpuArray::new();

/// When a namespace without a listener was last reported, in nanoseconds of CLOCK_MONOTONIC.
#[btf_map]
pub(crate) static REPORTED: LruHashMap<u64, u64, 1024> = LruHashMap::new();

/// See [`egressd_abi::Counter`].
#[btf_map]
pub(crate) static COUNTS: PerCpuArray<u64, { COUNTERS as usize }> = PerCpuArray::new();

/// Denied connections, for the daemon.
#[btf_map]
pub(crate) static EVENTS: RingBuf<Event, 262_144> = RingBuf::new();

/// Namespaces without a listener. A buffer of their own: a flood of denials, which anybody can make,
/// cannot keep them from being heard.
#[btf_map]
pub(crate) static RARE_EVENTS: RingBuf<Event, 16_384> = RingBuf::new();

/// How many denials this CPU has reported within the second that runs.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct Reports {
    pub(crate) since_ns: u64,
    pub(crate) sent: u64,
}

/// One for each CPU.
#[btf_map]
pub(crate) static REPORTS: PerCpuArray<Reports, 1> = PerCpuArray::new();

/// Direct routes of generation 0, by the index that rows give.
#[btf_map]
pub(crate) static DIRECTS_0: Array<DirectRoute, { MAX_DIRECT_ROUTES as usize }> = Array::new();
/// The same of generation 1.
#[btf_map]
pub(crate) static DIRECTS_1: Array<DirectRoute, { MAX_DIRECT_ROUTES as usize }> = Array::new();

/// What stays with clusters. Outside the generations, as everything that follows.
#[btf_map]
pub(crate) static CLUSTERS: Array<ClusterSlot, { MAX_CLUSTERS as usize }, MMAPABLE> = Array::new();

/// The names of clusters by slot, filled up with zeroes: for the daemon that comes after this one.
#[btf_map]
pub(crate) static CLUSTER_NAMES: HashMap<
    u32,
    [u8; MAX_CLUSTER_NAME],
    { MAX_CLUSTERS as usize },
    NO_PREALLOC,
> = HashMap::new();

/// What holds for new connections of clusters.
#[btf_map]
pub(crate) static VIEWS: Array<View, { MAX_VIEWS as usize }, MMAPABLE> = Array::new();

/// The levels of views.
#[btf_map]
pub(crate) static LEVELS: Array<Level, { MAX_LEVELS as usize }, MMAPABLE> = Array::new();

/// The endpoints of levels.
#[btf_map]
pub(crate) static ENDPOINT_ROWS: Array<EndpointRow, { MAX_ENDPOINT_ROWS as usize }, MMAPABLE> =
    Array::new();

/// What stays with endpoints.
#[btf_map]
pub(crate) static ENDPOINTS: Array<EndpointSlot, { MAX_ENDPOINTS as usize }, MMAPABLE> =
    Array::new();

/// Direct connections that are counted.
#[btf_map]
pub(crate) static FLOWS: HashMap<FlowKey, Flow, { MAX_FLOWS as usize }, NO_PREALLOC> =
    HashMap::new();

/// What the socket of a direct connection carries.
#[btf_map]
pub(crate) static DIRECT_SOCKETS: SkStorage<DirectSocket> = SkStorage::new();

/// What the UDP socket of direct conversations carries.
#[btf_map]
pub(crate) static DATAGRAMS: SkStorage<DatagramSocket> = SkStorage::new();

/// Direct connections that are over.
#[btf_map]
pub(crate) static RECORDS: RingBuf<DirectEvent, 524_288> = RingBuf::new();
