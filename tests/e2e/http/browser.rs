//! A browser that loads a page with a hundred parts.

use egressd_tests::{Nginx, WORLD_V4, until};

use super::world::World;

/// Parts of the page.
const PARTS: usize = 100;

/// Nothing but the page is asked for, by a browser that nobody has used before.
const FLAGS: [&str; 8] = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
];

#[test]
fn chromium_loads_a_page_with_a_hundred_parts() {
    let world = World::new(&[]);
    let folder = tempfile::TempDir::with_prefix("egressd-browser-").unwrap();
    let site = folder.path().join("site");
    std::fs::create_dir(&site).unwrap();
    let mut page = "<!doctype html><title>waiting</title>".to_owned();
    for part in 0..PARTS {
        let script = "window.parts = (window.parts || 0) + 1;\n";
        std::fs::write(site.join(format!("part{part}.js")), script).unwrap();
        page.push_str(&format!("<script src=\"/part{part}.js\"></script>"));
    }
    page.push_str("<script>document.title = 'parts ' + window.parts</script>");
    std::fs::write(site.join("index.html"), page).unwrap();
    let root = format!("root {}; types {{ text/html html; text/javascript js; }}", site.display());
    let _server = Nginx::start(&world.node.world, WORLD_V4[0], 8080, &root);
    let service = format!(
        "apiVersion: networking.istio.io/v1\n\
         kind: ServiceEntry\n\
         metadata: {{name: site}}\n\
         spec:\n\
         \x20 hosts: [site.example]\n\
         \x20 ports: [{{number: 80, name: http, protocol: HTTP, targetPort: 8080}}]\n\
         \x20 resolution: STATIC\n\
         \x20 endpoints: [{{address: {}}}]\n",
        WORLD_V4[0]
    );
    let daemon = world.daemon().resource(service).start();
    // A browser gives up what it is loading when an address of the machine changes, and those of a new
    // namespace do until they are known to be nobody else's.
    until("the addresses of the namespace to be settled", || {
        let tentative = world.node.app(["ip", "-6", "address", "show", "tentative"]).run();
        tentative.expect_code(0).stdout.trim().is_empty().then_some(())
    });
    let spawn = FLAGS.iter().fold(world.node.app(["chromium"]), |spawn, flag| spawn.arg(flag));
    let profile = format!("--user-data-dir={}", folder.path().join("profile").display());
    let spawn = spawn.arg(profile).arg("--dump-dom").arg("http://site.example/");
    let seen = spawn.run().expect_code(0).stdout;
    assert!(
        seen.contains(&format!("<title>parts {PARTS}</title>")),
        "{seen} {:#?}",
        daemon.records()
    );
    // A request is recorded when its answer has gone, which the browser may have read by then.
    until("a record of every part", || {
        let records = daemon.records();
        let whole = |path: &str| {
            records.iter().any(|record| {
                record.request == format!("GET {path} HTTP/1.1")
                    && (record.code.as_str(), record.flags.as_str()) == ("200", "-")
            })
        };
        (whole("/") && (0..PARTS).all(|part| whole(&format!("/part{part}.js")))).then_some(())
    });
    daemon.stop();
}
