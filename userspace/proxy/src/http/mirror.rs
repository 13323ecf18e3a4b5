//! Mirrors: copies of requests that go elsewhere too, and whose answers nobody waits for
//! (semantics.md §3, mirror).

use std::{pin::Pin, sync::Arc, time::Duration};

use egressd_tables::{ClusterRef, Mirror};
use http::Version;
use http_body::Body;
use tokio::time::timeout;

use super::{
    attempt::spoken_to,
    binding,
    circuit::Limited,
    downstream::HttpWorker,
    exchange::happens,
    outgoing::Outgoing,
    pool::{Exchanged, Way},
    request_body::{RequestBody, Sending},
    response_body::UpstreamConnection,
    upstream::{Origin, Picking, Wish},
};

/// Those whose turn it is.
pub(crate) fn chosen(mirrors: &[Mirror]) -> impl Iterator<Item = &Mirror> {
    mirrors.iter().filter(|mirror| happens(mirror.per_million))
}

/// Sends a copy; what becomes of it is nobody's concern. It leaves no record.
pub(crate) fn send(
    worker: &Arc<HttpWorker>,
    origin: &Origin,
    mirror: &Mirror,
    original: &Outgoing,
    version: Version,
) {
    let ClusterRef::Known(cluster) = &mirror.cluster else { return };
    let body = original.body.as_ref().map(Sending::copy);
    let copy = Copy {
        worker: Arc::clone(worker),
        origin: origin.clone(),
        outgoing: Outgoing {
            method: original.method.clone(),
            path: original.path.clone(),
            authority: original.authority.clone(),
            headers: original.headers.clone(),
            binds: original.binds,
            body: None,
            websocket: false,
            count_tries: false,
        },
        body: body.map_or(RequestBody::Empty, RequestBody::Copy),
    };
    let cluster = Arc::clone(cluster);
    tokio::spawn(async move {
        if timeout(LONGEST, copy.send(&cluster, version)).await.is_err() {
            tracing::debug!(cluster = %cluster.name, "a mirror takes too long");
        }
    });
}

struct Copy {
    worker: Arc<HttpWorker>,
    origin: Origin,
    outgoing: Outgoing,
    body: RequestBody,
}

impl Copy {
    /// Sends it and reads the answer to its end, so that the connection can be used again.
    async fn send(self, cluster: &Arc<egressd_tables::Cluster>, version: Version) -> Option<()> {
        let Self { worker, origin, outgoing, body } = self;
        let authority = outgoing.authority();
        let wish = Wish { authority, origin: &origin, hash: None, tried: &[], reselections: 0 };
        let picked = match worker.picker.pick(cluster, wish) {
            Picking::Now(picked) => picked,
            Picking::Later(picking) => picking.await,
        };
        let picked = picked.ok()?;
        let pool = worker.pools.cluster(cluster);
        let way = Way { picked: &picked, authority, origin: &origin, owner: None };
        let spoken = spoken_to(cluster, version, false);
        let mut connection = match spoken {
            super::outgoing::Spoken::Http1 => {
                UpstreamConnection::H1(worker.pools.http1(&pool, way).await.ok()?)
            }
            super::outgoing::Spoken::Http2 { .. } => {
                UpstreamConnection::H2(worker.pools.http2(&pool, way).await.ok()?)
            }
        };
        let _request = pool.circuit.permit(Limited::Requests, cluster.pool.max_requests)?;
        let request = outgoing.build_with(spoken, 1, body);
        let Exchanged::Answered(response) = connection.send(request).await.ok()? else {
            return None;
        };
        if outgoing.binds || binding::is_offered(response.status(), response.headers()) {
            connection.bind(None);
        }
        let mut incoming = response.into_body();
        while !incoming.is_end_stream() {
            let frame = std::future::poll_fn(|cx| {
                connection.drive(cx);
                Pin::new(&mut incoming).poll_frame(cx)
            });
            match frame.await {
                Some(Ok(_dropped)) => {}
                Some(Err(_broken)) => return None,
                None => break,
            }
        }
        connection.release();
        Some(())
    }
}

/// After which a mirror is given up.
const LONGEST: Duration = Duration::from_secs(60);
