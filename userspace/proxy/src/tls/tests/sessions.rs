//! Sessions are taken up again where nothing has changed, and only there.

use std::sync::Arc;

use egressd_tables::{Sni, TlsOrigination, Verification};
use rustls::ServerConfig;

use super::{
    pki::{Like, Pki},
    server::{REQUEST, config, exchange, originate, originator, serve, simple, soon, upstream},
};
use crate::{
    testing::pair,
    tls::{Originator, Speaks, TlsFailure},
};

/// Connects, and says whether a session was taken up again.
async fn resumed(
    originator: &Originator,
    origination: &TlsOrigination,
    speaks: Speaks<'_>,
    server: &Arc<ServerConfig>,
) -> Result<bool, TlsFailure> {
    let (ours, theirs) = pair().await;
    let server = serve(Arc::clone(server), theirs);
    let tls = originate(origination);
    let connected = originator.connect(&upstream(originator, &tls, speaks), ours, soon()).await;
    let mut stream = connected?;
    exchange(&mut stream).await.unwrap();
    let resumed = stream.is_resumed();
    drop(stream);
    server.await.unwrap().unwrap();
    Ok(resumed)
}

#[tokio::test]
async fn sessions_are_kept_for_equal_settings() {
    let pki = Pki::new("ca");
    let originator = originator();
    let server = Arc::new(config(&pki.issue(Like::names(&["a.example", "b.example"])), None));
    let origination = simple(&pki.write("ca.pem", &pki.ca()));
    let again = async |origination: &TlsOrigination, speaks| {
        resumed(&originator, origination, speaks, &server).await
    };
    assert_eq!(again(&origination, REQUEST).await, Ok(false));
    assert_eq!(again(&origination, REQUEST).await, Ok(true));
    // Another service with the same settings.
    let other = TlsOrigination {
        sni: Sni::RequestHost { service: "other.example".into() },
        ..origination.clone()
    };
    assert_eq!(again(&other, REQUEST).await, Ok(true));
    assert_eq!(originator.configs(), 1);
    // Another name was never verified.
    assert_eq!(again(&origination, Speaks::Http1 { host: "b.example" }).await, Ok(false));
    // Neither were other demands.
    let mut demanding = origination.clone();
    if let Verification::Verify { names, .. } = &mut demanding.verification {
        names.push("c.example".into());
    }
    assert_eq!(
        again(&demanding, REQUEST).await.unwrap_err().kind(),
        "certificate_for_another_name"
    );
    assert_eq!(originator.configs(), 2);
}

#[tokio::test]
async fn no_session_outlives_the_trust_it_was_made_with() {
    let (pki, other) = (Pki::new("ca"), Pki::new("other"));
    let originator = originator();
    let server = Arc::new(config(&pki.issue(Like::names(&["a.example"])), None));
    let origination = simple(&pki.write("ca.pem", &pki.ca()));
    let again = async || resumed(&originator, &origination, REQUEST, &server).await;
    assert_eq!(again().await, Ok(false));
    assert_eq!(again().await, Ok(true));
    pki.replace("ca.pem", &other.ca());
    assert_eq!(again().await.unwrap_err().kind(), "certificate_of_unknown_issuer");
    pki.replace("ca.pem", &pki.ca());
    assert_eq!(again().await, Ok(false));
}

#[test]
fn configurations_are_bounded() {
    let pki = Pki::new("ca");
    let originator = originator();
    let mut origination = simple(&pki.write("ca.pem", &pki.ca()));
    for number in 0..1100 {
        if let Verification::Verify { names, .. } = &mut origination.verification {
            *names = vec![format!("n{number}.example").into()];
        }
        let tls = originate(&origination);
        originator.prepare(&upstream(&originator, &tls, REQUEST)).unwrap();
    }
    assert_eq!(originator.configs(), 1024);
}
