//! Files that are missing, wrong, replaced, half-written.

use std::{fs, sync::Arc, time::Duration};

use egressd_tables::{
    ClientIdentity, TlsMode, TlsOrigination, TrustAnchors, UpstreamTls, Verification,
};
use tokio::io::AsyncReadExt;

use super::{
    pki::{Leaf, Like, Pki},
    server::{
        REQUEST, config, exchange, mutual, originate, originator, serve, simple, soon, upstream,
        visit,
    },
};
use crate::{
    testing::pair,
    tls::{CertificateFault, FileFault, MeshIdentity, Originator, Role, Sources, TlsFailure},
};

/// What a connection says about a file, if it does.
fn fault(result: Result<impl Sized, TlsFailure>) -> Option<(Role, FileFault)> {
    match result.map(drop) {
        Ok(()) => None,
        Err(TlsFailure::File(failure)) => Some((failure.role, failure.fault)),
        Err(other) => panic!("{other}"),
    }
}

fn server_leaf(pki: &Pki) -> Leaf {
    pki.issue(Like::names(&["a.example"]))
}

#[tokio::test]
async fn a_missing_file_fails_its_cluster_until_it_appears() {
    let pki = Pki::new("ca");
    let leaf = server_leaf(&pki);
    let originator = originator();
    let missing = simple(&pki.path("late.pem"));
    let there = simple(&pki.write("ca.pem", &pki.ca()));
    let visit =
        async |origination| visit(&originator, origination, REQUEST, config(&leaf, None)).await;
    assert_eq!(fault(visit(&missing).await), Some((Role::Roots, FileFault::Missing)));
    assert_eq!(fault(visit(&there).await), None);
    pki.write("late.pem", &pki.ca());
    assert_eq!(fault(visit(&missing).await), None);
    pki.remove("late.pem");
    assert_eq!(fault(visit(&missing).await), Some((Role::Roots, FileFault::Missing)));
    assert_eq!(fault(visit(&there).await), None);
}

#[tokio::test]
async fn every_file_is_named_in_its_failure() {
    let pki = Pki::new("ca");
    let leaf = server_leaf(&pki);
    let ca = pki.write("ca.pem", &pki.ca());
    let client = pki.issue(Like::names(&["client"]));
    let certificate = pki.write("client.pem", &client.certificate);
    let key = pki.write("client.key", &client.key);
    let (none, text) = (pki.path("none"), pki.write("text", "nothing in PEM"));
    let broken = pki.write("broken", "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n");
    let directory = pki.path("directory");
    fs::create_dir(&*directory).unwrap();
    let originator = originator();
    let with = async |origination: &TlsOrigination| {
        fault(visit(&originator, origination, REQUEST, config(&leaf, None)).await)
    };
    let files = async |certificate: &Arc<str>, key: &Arc<str>| {
        with(&mutual(&ca, Arc::clone(certificate), Arc::clone(key))).await
    };
    assert_eq!(files(&certificate, &key).await, None);
    assert_eq!(files(&none, &key).await, Some((Role::Certificate, FileFault::Missing)));
    assert_eq!(files(&certificate, &none).await, Some((Role::Key, FileFault::Missing)));
    assert_eq!(files(&key, &certificate).await, Some((Role::Certificate, FileFault::Empty)));
    assert_eq!(files(&certificate, &certificate).await, Some((Role::Key, FileFault::Empty)));
    assert_eq!(with(&simple(&directory)).await, Some((Role::Roots, FileFault::NotAFile)));
    assert_eq!(with(&simple(&text)).await, Some((Role::Roots, FileFault::Empty)));
    let (role, malformed) = with(&simple(&broken)).await.unwrap();
    assert_eq!(role, Role::Roots);
    assert!(matches!(malformed, FileFault::Malformed(_)), "{malformed:?}");
    let mut revoking = simple(&ca);
    if let Verification::Verify { crl, .. } = &mut revoking.verification {
        *crl = Some(none);
    }
    assert_eq!(with(&revoking).await, Some((Role::RevocationList, FileFault::Missing)));
}

#[tokio::test]
async fn nothing_is_sent_where_something_is_missing() {
    let pki = Pki::new("ca");
    let originator = originator();
    let mut credential = simple(&pki.path("unused"));
    if let Verification::Verify { roots, .. } = &mut credential.verification {
        *roots = TrustAnchors::Credential("web".into());
    }
    for (origination, expected) in [
        (simple(&pki.path("none")), "file_missing"),
        (mesh(), "no_mesh_identity"),
        (credential, "unknown_credential"),
    ] {
        let (ours, mut theirs) = pair().await;
        let tls = originate(&origination);
        let upstream = upstream(&originator, &tls, REQUEST);
        let failure = originator.connect(&upstream, ours, soon()).await.unwrap_err();
        assert_eq!(failure.kind(), expected);
        let mut buffer = [0; 16];
        assert_eq!(theirs.read(&mut buffer).await.unwrap_or(0), 0);
    }
}

#[tokio::test]
async fn replaced_files_are_used_by_new_connections() {
    let (old, new) = (Pki::new("old"), Pki::new("new"));
    let (old_leaf, new_leaf) = (server_leaf(&old), server_leaf(&new));
    let origination = simple(&old.write("ca.pem", &old.ca()));
    let originator = originator();
    let visit = async |leaf| {
        let seen = visit(&originator, &origination, REQUEST, config(leaf, None)).await;
        seen.map(drop)
    };
    let unknown = Err(TlsFailure::Certificate(CertificateFault::UnknownIssuer));

    // One that stands is not touched.
    let (ours, theirs) = pair().await;
    let server = serve(config(&old_leaf, None), theirs);
    let tls = originate(&origination);
    let upstream = upstream(&originator, &tls, REQUEST);
    let mut standing = originator.connect(&upstream, ours, soon()).await.unwrap();

    assert_eq!(visit(&old_leaf).await, Ok(()));
    assert_eq!(visit(&new_leaf).await, unknown);
    old.replace("ca.pem", &new.ca());
    assert_eq!(visit(&old_leaf).await, unknown);
    assert_eq!(visit(&new_leaf).await, Ok(()));
    // In place.
    old.write("ca.pem", &old.ca());
    assert_eq!(visit(&old_leaf).await, Ok(()));

    exchange(&mut standing).await.unwrap();
    drop(standing);
    server.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_renewed_certificate_is_shown() {
    let (pki, other) = (Pki::new("ca"), Pki::new("other"));
    let leaf = server_leaf(&pki);
    let install = |leaf: &Leaf| {
        (pki.write("client.pem", &leaf.certificate), pki.write("client.key", &leaf.key))
    };
    let (certificate, key) = install(&other.issue(Like::names(&["client"])));
    let origination = mutual(&pki.write("ca.pem", &pki.ca()), certificate, key);
    let originator = originator();
    let visit = async || {
        let server = config(&leaf, Some(&pki.ca()));
        visit(&originator, &origination, REQUEST, server).await.map(|seen| seen.certificates)
    };
    assert_eq!(visit().await.unwrap_err().kind(), "refused_by_peer");
    install(&pki.issue(Like::names(&["client"])));
    assert_eq!(visit().await, Ok(1));
}

#[tokio::test]
async fn half_of_a_pair_is_waited_out() {
    let pki = Pki::new("ca");
    let leaf = server_leaf(&pki);
    let (first, second) = (pki.issue(Like::names(&["c"])), pki.issue(Like::names(&["c"])));
    let certificate = pki.write("client.pem", &first.certificate);
    let key = pki.write("client.key", &second.key);
    let origination =
        mutual(&pki.write("ca.pem", &pki.ca()), Arc::clone(&certificate), Arc::clone(&key));
    let originator = originator();
    let visit = async || {
        let server = config(&leaf, Some(&pki.ca()));
        visit(&originator, &origination, REQUEST, server).await.map(|seen| seen.certificates)
    };
    // Never good so far: there is nothing to go on with.
    assert_eq!(visit().await, Err(TlsFailure::KeyMismatch { certificate, key }));
    pki.write("client.key", &first.key);
    assert_eq!(visit().await, Ok(1));
    // The key first, then the certificate, empty for a moment.
    pki.write("client.key", &second.key);
    assert_eq!(visit().await, Ok(1));
    pki.write("client.pem", "");
    assert_eq!(visit().await, Ok(1));
    pki.write("client.pem", &second.certificate);
    assert_eq!(visit().await, Ok(1));
    pki.remove("client.pem");
    assert_eq!(fault(visit().await), Some((Role::Certificate, FileFault::Missing)));
}

#[tokio::test]
async fn credentials_are_directories() {
    let pki = Pki::new("ca");
    let leaf = server_leaf(&pki);
    let client = pki.issue(Like::names(&["client"]));
    fs::create_dir_all(&*pki.path("credentials/web")).unwrap();
    let sources = Sources { identity: None, credentials: Some((*pki.path("credentials")).into()) };
    let originator = Originator::with_recheck(sources, Duration::ZERO);
    let mut origination = simple(&pki.path("unused"));
    origination.mode = TlsMode::Mutual;
    origination.identity = Some(ClientIdentity::Credential("web".into()));
    if let Verification::Verify { roots, .. } = &mut origination.verification {
        *roots = TrustAnchors::Credential("web".into());
    }
    let visit = async || {
        let server = config(&leaf, Some(&pki.ca()));
        visit(&originator, &origination, REQUEST, server).await.map(|seen| seen.certificates)
    };
    assert_eq!(fault(visit().await), Some((Role::Certificate, FileFault::Missing)));
    pki.write("credentials/web/tls.crt", &client.certificate);
    pki.write("credentials/web/tls.key", &client.key);
    pki.write("credentials/web/ca.crt", &pki.ca());
    assert_eq!(visit().await, Ok(1));
}

#[tokio::test]
async fn the_mesh_identity_serves_mesh_tls() {
    let pki = Pki::new("mesh");
    let own = pki.issue(Like::names(&["spiffe://td/ns/node/sa/egressd"]));
    let identity = MeshIdentity {
        certificate: pki.write("id.pem", &own.certificate),
        key: pki.write("id.key", &own.key),
        ca: pki.write("ca.pem", &pki.ca()),
        trust_domain: "td".into(),
    };
    let sources = Sources { identity: Some(identity), credentials: None };
    let originator = Originator::with_recheck(sources, Duration::ZERO);
    let leaf = pki.issue(Like::names(&["spiffe://td/ns/shop/sa/details"]));
    let right = originator.spiffe_id("shop", "details").unwrap();
    let wrong = originator.spiffe_id("shop", "other").unwrap();
    // Asked for by a rule: the names it lists, else the endpoint's own. Announced by the endpoint:
    // the endpoint's own as well.
    let asked = |names: &[&str]| UpstreamTls::Originate(Arc::new(mesh_named(names)));
    let announced = |names: &[&str]| UpstreamTls::Auto(Arc::new(mesh_named(names)));
    for (tls, peer, expected) in [
        (asked(&[]), None, true),
        (asked(&[]), Some(&right), true),
        (asked(&[]), Some(&wrong), false),
        (asked(&[&right]), Some(&wrong), true),
        (asked(&[&wrong]), Some(&right), false),
        (announced(&[]), Some(&right), true),
        (announced(&[&wrong]), Some(&right), true),
        (announced(&[]), Some(&wrong), false),
    ] {
        let (ours, theirs) = pair().await;
        let server = serve(config(&leaf, Some(&pki.ca())), theirs);
        let upstream = crate::tls::Upstream { peer, ..upstream(&originator, &tls, REQUEST) };
        let connected = originator.connect(&upstream, ours, soon()).await;
        assert_eq!(connected.is_ok(), expected, "{tls:?} {peer:?}");
        match connected {
            Ok(mut stream) => {
                exchange(&mut stream).await.unwrap();
                drop(stream);
                assert_eq!(server.await.unwrap().unwrap().certificates, 1);
            }
            Err(failure) => assert_eq!(failure.kind(), "certificate_for_another_name"),
        }
    }
}

#[test]
fn plaintext_is_for_those_who_ask_for_nothing_else() {
    let without = originator();
    let identity = MeshIdentity {
        certificate: "c".into(),
        key: "k".into(),
        ca: "a".into(),
        trust_domain: "td".into(),
    };
    let with = Originator::new(Sources { identity: Some(identity), credentials: None });
    let auto = UpstreamTls::Auto(Arc::new(mesh()));
    let asked = UpstreamTls::Originate(Arc::new(mesh()));
    for (tls, mesh_tls, without_identity, with_identity) in [
        (&UpstreamTls::Plaintext, true, false, false),
        (&asked, false, true, true),
        (&auto, false, false, false),
        (&auto, true, false, true),
    ] {
        assert_eq!(without.wanted(tls, mesh_tls).is_some(), without_identity, "{tls:?}");
        assert_eq!(with.wanted(tls, mesh_tls).is_some(), with_identity, "{tls:?}");
    }
}

fn mesh() -> TlsOrigination {
    mesh_named(&[])
}

fn mesh_named(names: &[&str]) -> TlsOrigination {
    TlsOrigination {
        mode: TlsMode::IstioMutual,
        identity: Some(ClientIdentity::Mesh),
        verification: Verification::Verify {
            roots: TrustAnchors::Mesh,
            names: names.iter().map(|name| Arc::from(*name)).collect(),
            match_sni: false,
            crl: None,
        },
        ..simple(&"".into())
    }
}
