//! Which certificates are good enough.

use std::sync::Arc;

use egressd_tables::{Sni, TlsOrigination, Verification};

use super::{
    pki::{Like, Pki, Purpose, self_signed},
    server::{REQUEST, config, originator, simple, visit},
};
use crate::tls::{CertificateFault, Speaks, TlsFailure};

/// Connects to a server with such a certificate, under such settings.
async fn check(
    like: Like<'_>,
    speaks: Speaks<'_>,
    change: impl FnOnce(&mut TlsOrigination),
) -> Result<(), CertificateFault> {
    let pki = Pki::new("ca");
    let mut origination = simple(&pki.write("ca.pem", &pki.ca()));
    change(&mut origination);
    let server = config(&pki.issue(like), None);
    fault(visit(&originator(), &origination, speaks, server).await.map(drop))
}

fn fault(result: Result<(), TlsFailure>) -> Result<(), CertificateFault> {
    result.map_err(|failure| {
        let TlsFailure::Certificate(fault) = failure else { panic!("{failure}") };
        fault
    })
}

fn wrong_name(wanted: &str) -> Result<(), CertificateFault> {
    Err(CertificateFault::WrongName(wanted.into()))
}

/// `subjectAltNames` of the DestinationRule: the name of the handshake does not count any more.
fn rule_names<'a>(names: &'a [&'a str]) -> impl FnOnce(&mut TlsOrigination) + 'a {
    demand(names, false)
}

/// `subjectAltNames` of the ServiceEntry: the name of the handshake counts as well.
fn service_names<'a>(names: &'a [&'a str]) -> impl FnOnce(&mut TlsOrigination) + 'a {
    demand(names, true)
}

fn demand<'a>(names: &'a [&'a str], sni_too: bool) -> impl FnOnce(&mut TlsOrigination) + 'a {
    move |origination| {
        let Verification::Verify { names: list, match_sni, .. } = &mut origination.verification
        else {
            panic!("nothing is verified");
        };
        *list = names.iter().map(|name| Arc::from(*name)).collect();
        *match_sni = sni_too;
    }
}

fn as_written(_: &mut TlsOrigination) {}

#[tokio::test]
async fn the_name_asked_for_must_be_in_the_certificate() {
    let asked = |host| Speaks::Http1 { host };
    for (names, host, expected) in [
        (&["a.example"][..], "a.example", Ok(())),
        (&["a.example"], "A.EXAMPLE:8080", Ok(())),
        (&["x.example", "a.example"], "a.example", Ok(())),
        (&["*.a.example"], "x.a.example", Ok(())),
        (&["*.a.example"], "y.x.a.example", wrong_name("y.x.a.example")),
        (&["*.a.example"], "a.example", wrong_name("a.example")),
        // A wildcard over a whole top-level domain covers nothing.
        (&["*.example"], "a.example", wrong_name("a.example")),
        (&["b.example"], "a.example", wrong_name("a.example")),
        (&[], "a.example", wrong_name("a.example")),
        (&["10.0.0.1"], "10.0.0.1:443", Ok(())),
        (&["2001:db8::1"], "[2001:db8::1]", Ok(())),
        (&["10.0.0.2"], "10.0.0.1", wrong_name("10.0.0.1")),
        (&["leaf"], "a.example", wrong_name("a.example")),
    ] {
        let found = check(Like::names(names), asked(host), as_written).await;
        assert_eq!(found, expected, "{host} in {names:?}");
    }
}

#[tokio::test]
async fn the_rules_names_replace_the_one_asked_for() {
    for (present, wanted, expected) in [
        (&["b.example"][..], &["b.example"][..], Ok(())),
        (&["b.example"], &["c.example", "B.example"], Ok(())),
        (&["a.example"], &["b.example"], wrong_name("b.example")),
        (&["a.example"], &["b.example", "c.example"], wrong_name("b.example,c.example")),
        (&["*.b.example"], &["x.b.example"], Ok(())),
        (&["*.b.example"], &["*.b.example"], Ok(())),
        (&["x.b.example"], &["*.b.example"], wrong_name("*.b.example")),
        (&["10.1.2.3"], &["10.1.2.3"], Ok(())),
        (&["spiffe://td/ns/a/sa/b"], &["spiffe://td/ns/a/sa/b"], Ok(())),
        (
            &["spiffe://td/ns/a/sa/bc"],
            &["spiffe://td/ns/a/sa/b"],
            wrong_name("spiffe://td/ns/a/sa/b"),
        ),
        (
            &["spiffe://TD/ns/a/sa/b"],
            &["spiffe://td/ns/a/sa/b"],
            wrong_name("spiffe://td/ns/a/sa/b"),
        ),
    ] {
        let found = check(Like::names(present), REQUEST, rule_names(wanted)).await;
        assert_eq!(found, expected, "{wanted:?} in {present:?}");
    }
}

#[tokio::test]
async fn the_services_names_count_beside_the_one_asked_for() {
    let both = ["a.example", "spiffe://td/ns/a/sa/b"];
    for (present, expected) in [
        (&both[..], Ok(())),
        (&both[..1], wrong_name("spiffe://td/ns/a/sa/b")),
        (&both[1..], wrong_name("a.example")),
    ] {
        let wanted = service_names(&both[1..]);
        assert_eq!(check(Like::names(present), REQUEST, wanted).await, expected, "{present:?}");
    }
}

#[tokio::test]
async fn opaque_bytes_ask_for_no_name() {
    let any = Like::names(&["whatever.example"]);
    assert_eq!(check(any, Speaks::Opaque, as_written).await, Ok(()));
    let named = rule_names(&["b.example"]);
    assert_eq!(check(any, Speaks::Opaque, named).await, wrong_name("b.example"));
}

#[tokio::test]
async fn a_written_sni_is_sent_and_not_compared() {
    let pki = Pki::new("ca");
    let mut origination = simple(&pki.write("ca.pem", &pki.ca()));
    origination.sni = Sni::Fixed("outbound_.8080_._.a.example".into());
    demand(&[], false)(&mut origination);
    let server = config(&pki.issue(Like::names(&["other.example"])), None);
    let seen = visit(&originator(), &origination, REQUEST, server).await.unwrap();
    assert_eq!(seen.server_name.as_deref(), Some("outbound_.8080_._.a.example"));
}

#[tokio::test]
async fn dates_and_purpose_count() {
    let names = &["a.example"][..];
    let like = |years| Like { years, ..Like::names(names) };
    let check = |like| check(like, REQUEST, as_written);
    assert_eq!(check(like((2020, 2021))).await, Err(CertificateFault::Expired));
    assert_eq!(check(like((2088, 2089))).await, Err(CertificateFault::NotYetValid));
    let client = Like { purpose: Some(Purpose::Client), ..Like::names(names) };
    assert_eq!(check(client).await, Err(CertificateFault::WrongPurpose));
}

#[tokio::test]
async fn unknown_issuers_are_refused() {
    let (ours, theirs) = (Pki::new("ours"), Pki::new("theirs"));
    let origination = simple(&ours.write("ca.pem", &ours.ca()));
    let server = config(&theirs.issue(Like::names(&["a.example"])), None);
    let result = visit(&originator(), &origination, REQUEST, server).await;
    assert_eq!(fault(result.map(drop)), Err(CertificateFault::UnknownIssuer));
}

#[tokio::test]
async fn without_verification_everything_passes() {
    let pki = Pki::new("ca");
    let mut origination = simple(&pki.path("no such file"));
    origination.verification = Verification::Skip;
    for leaf in [
        pki.issue(Like { years: (2020, 2021), ..Like::names(&[]) }),
        self_signed(Like::names(&["b.example"])),
    ] {
        visit(&originator(), &origination, REQUEST, config(&leaf, None)).await.unwrap();
    }
}

#[tokio::test]
async fn revoked_certificates_are_refused() {
    let (pki, other) = (Pki::new("ca"), Pki::new("other"));
    let roots = pki.write("ca.pem", &pki.ca());
    let (good, bad) =
        (pki.issue(Like::names(&["a.example"])), pki.issue(Like::names(&["a.example"])));
    let list = pki.revocations(bad.serial, 2090);
    let check = async |leaf, list: &str| {
        let mut origination = simple(&roots);
        if let Verification::Verify { crl, .. } = &mut origination.verification {
            *crl = Some(pki.write("crl.pem", list));
        }
        let result = visit(&originator(), &origination, REQUEST, config(leaf, None)).await;
        fault(result.map(drop))
    };
    assert_eq!(check(&good, &list).await, Ok(()));
    assert_eq!(check(&bad, &list).await, Err(CertificateFault::Revoked));
    // Lists of several authorities in one file.
    let both = other.revocations(1, 2090) + &list;
    assert_eq!(check(&good, &both).await, Ok(()));
    assert_eq!(check(&bad, &both).await, Err(CertificateFault::Revoked));
    // Somebody else's list says nothing, and one out of date is not believed.
    let foreign = other.revocations(1, 2090);
    assert_eq!(check(&good, &foreign).await, Err(CertificateFault::RevocationUnknown));
    let old = pki.revocations(bad.serial, 2022);
    assert_eq!(check(&good, &old).await, Err(CertificateFault::RevocationListExpired));
}

#[tokio::test]
async fn a_certificate_among_the_roots_is_trusted_as_it_is() {
    let pki = Pki::new("ca");
    let check = async |like, roots: &dyn Fn(&str) -> String| {
        let leaf = self_signed(like);
        let origination = simple(&pki.write("ca.pem", &roots(&leaf.certificate)));
        let result = visit(&originator(), &origination, REQUEST, config(&leaf, None)).await;
        fault(result.map(drop))
    };
    let with_it = |own: &str| format!("{}{own}", pki.ca());
    let without = |_: &str| pki.ca();
    let names = &["a.example"][..];
    assert_eq!(check(Like::names(names), &with_it).await, Ok(()));
    assert_eq!(
        check(Like::names(names), &without).await,
        Err(CertificateFault::Unacceptable("ca_used_as_end_entity".into()))
    );
    assert_eq!(check(Like::names(&["b.example"]), &with_it).await, wrong_name("a.example"));
    let expired = Like { years: (2020, 2021), ..Like::names(names) };
    assert_eq!(check(expired, &with_it).await, Err(CertificateFault::Expired));
    let not_yet = Like { years: (2088, 2089), ..Like::names(names) };
    assert_eq!(check(not_yet, &with_it).await, Err(CertificateFault::NotYetValid));
}
