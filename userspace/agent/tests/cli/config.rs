//! `config`: istioctl's columns, its filters, and JSON.

use expect_test::{Expect, expect};
use serde_json::Value;

use crate::support::{Run, egressd_in, root};

fn config(case: &str, args: &[&str]) -> Run {
    let folder = root().join("tests/data/seeds").join(case);
    let options = ["--config", ".", "--state", "/nonexistent", "--ip-families", "v4"];
    let run = egressd_in(&folder, &[&["config"], args, &options].concat());
    assert_eq!((run.status, &*run.stderr), (0, ""));
    run
}

#[track_caller]
fn shows(case: &str, args: &[&str], expected: &Expect) {
    expected.assert_eq(&config(case, args).stdout);
}

#[test]
fn listeners() {
    shows(
        "018-external-api-multi-protocol",
        &["listeners"],
        &expect![[r#"
            ADDRESSES       PORT     MATCH                                    DESTINATION
            240.240.0.1     443      ALL                                      Cluster: outbound|443||api.multi.example
            240.240.0.1     6379     ALL                                      Cluster: outbound|6379||api.multi.example
            0.0.0.0         80       Trans: raw_buffer; App: http/1.1,h2c     Route: 80
            0.0.0.0         80       ALL                                      PassthroughCluster
            0.0.0.0         443      SNI: api.multi.example                   Cluster: outbound|443||api.multi.example
            0.0.0.0         443      ALL                                      PassthroughCluster
            0.0.0.0         9090     Trans: raw_buffer; App: http/1.1,h2c     Route: 9090
            0.0.0.0         9090     ALL                                      PassthroughCluster
            0.0.0.0         *        ALL                                      PassthroughCluster
        "#]],
    );
    shows(
        "018-external-api-multi-protocol",
        &["listeners", "--port", "443"],
        &expect![[r#"
            ADDRESSES       PORT     MATCH                      DESTINATION
            240.240.0.1     443      ALL                        Cluster: outbound|443||api.multi.example
            0.0.0.0         443      SNI: api.multi.example     Cluster: outbound|443||api.multi.example
            0.0.0.0         443      ALL                        PassthroughCluster
        "#]],
    );
    shows(
        "002-external-svc-mongocluster",
        &["listeners"],
        &expect![[r#"
            ADDRESSES     PORT      MATCH                      DESTINATION
            0.0.0.0       27018     Addr: 192.192.192.0/24     Cluster: outbound|27018||mymongodb.somedomain
            0.0.0.0       27018     ALL                        PassthroughCluster
            0.0.0.0       *         ALL                        PassthroughCluster
        "#]],
    );
}

#[test]
fn clusters() {
    shows(
        "026-cdn-service-originated",
        &["clusters"],
        &expect![[r#"
            SERVICE FQDN           PORT     SUBSET          DIRECTION     TYPE             DESTINATION RULE        PATH
            BlackHoleCluster       -        -               -             STATIC           -                       proxy: policy
            PassthroughCluster     -        -               -             ORIGINAL_DST     -                       proxy: policy
            cdn.global.example     80       asia-region     outbound      STRICT_DNS       cdn-subsets.default     proxy: tls
            cdn.global.example     80       eu-region       outbound      STRICT_DNS       cdn-subsets.default     proxy: tls
            cdn.global.example     80       us-region       outbound      STRICT_DNS       cdn-subsets.default     proxy: tls
            cdn.global.example     80       -               outbound      STRICT_DNS       cdn-subsets.default     proxy: tls
        "#]],
    );
    let some = ["clusters", "--fqdn", "cdn", "--subset", "eu-region"];
    shows(
        "026-cdn-service-originated",
        &some,
        &expect![[r#"
            SERVICE FQDN           PORT     SUBSET        DIRECTION     TYPE           DESTINATION RULE        PATH
            cdn.global.example     80       eu-region     outbound      STRICT_DNS     cdn-subsets.default     proxy: tls
        "#]],
    );
}

#[test]
fn endpoints() {
    shows(
        "011-external-svc-dns",
        &["endpoints"],
        &expect![[r#"
        ENDPOINT                STATUS     OUTLIER CHECK     CLUSTER
        us.foo.bar.com:8080     -          -                 outbound|80||foo.bar.com
        uk.foo.bar.com:9080     -          -                 outbound|80||foo.bar.com
        in.foo.bar.com:7080     -          -                 outbound|80||foo.bar.com
    "#]],
    );
    shows(
        "014-details-svc",
        &["endpoints", "--address", "2.2.2.2"],
        &expect![[r#"
        ENDPOINT       STATUS     OUTLIER CHECK     CLUSTER
        2.2.2.2:80     -          -                 outbound|80||details.bookinfo.com
    "#]],
    );
    shows(
        "010-unix-domain-socket-example",
        &["endpoints"],
        &expect![[r#"
        ENDPOINT                           STATUS     OUTLIER CHECK     CLUSTER
        unix:///var/run/example/socket     -          -                 outbound|80||example.unix.local
    "#]],
    );
}

#[test]
fn routes() {
    shows(
        "025-legacy-system",
        &["routes"],
        &expect![[r#"
            NAME     VHOST NAME                       DOMAINS                                                           MATCH        VIRTUAL SERVICE
            8080     legacy.company.internal:8080     legacy.company.internal, legacy.company.internal. + 1 more...     /api/v1*     legacy-system.default
            8080     allow_any                        *                                                                 /*
        "#]],
    );
    shows(
        "018-external-api-multi-protocol",
        &["routes", "--name", "9090"],
        &expect![[r#"
            NAME     VHOST NAME                 DOMAINS                                               MATCH     VIRTUAL SERVICE
            9090     api.multi.example:9090     api.multi.example, api.multi.example. + 1 more...     /*
            9090     allow_any                  *                                                     /*
        "#]],
    );
}

#[test]
fn vips() {
    shows(
        "030-nginx-x",
        &["vips", "--output", "json"],
        &expect![[r#"
            [
              {
                "addresses": [],
                "allocated": [
                  "240.240.0.1"
                ],
                "host": "xxx.jd.com",
                "namespace": "istio-demo",
                "serviceEntries": [
                  "istio-demo/nginx-x"
                ]
              }
            ]
        "#]],
    );
    shows(
        "017-external-database-without-selector",
        &["vips"],
        &expect![[r#"
        SERVICE FQDN               NAMESPACE      ADDRESSES     ALLOCATED     SERVICE ENTRY
        mysql.database.example     production     240.0.0.1     -             production/external-database
    "#]],
    );
}

#[test]
fn clusters_as_json() {
    let rule = ["clusters", "--fqdn", "postgres", "--output", "json"];
    shows(
        "022-external-postgres",
        &rule,
        &expect![[r#"
            [
              {
                "connectTimeout": "30s",
                "connectionPool": {
                  "httpIdleTimeout": "3600s",
                  "maxConnections": 10,
                  "tcpIdleTimeout": "3600s",
                  "tcpKeepalive": {
                    "interval": "60s",
                    "time": "600s"
                  }
                },
                "destinationRules": [
                  "default/external-postgres"
                ],
                "endpoints": [
                  {
                    "address": "postgres.database.example",
                    "port": 5432,
                    "priority": 0,
                    "weight": 1
                  }
                ],
                "external": true,
                "host": "postgres.database.example",
                "http": "HTTP/1.1",
                "lbPolicy": "LEAST_REQUEST",
                "name": "outbound|5432||postgres.database.example",
                "namespace": "default",
                "path": {
                  "because": "`path: auto` is the proxy's",
                  "notDirect": "auto",
                  "taken": "proxy"
                },
                "port": 5432,
                "type": "STRICT_DNS"
              }
            ]
        "#]],
    );
    let check = ["clusters", "--fqdn", "monitored", "--output", "json"];
    shows(
        "027-monitored-external-service",
        &check,
        &expect![[r#"
            [
              {
                "connectTimeout": "10s",
                "connectionPool": {
                  "httpIdleTimeout": "3600s",
                  "tcpIdleTimeout": "3600s"
                },
                "destinationRules": [
                  "default/monitored-external-service"
                ],
                "endpoints": [
                  {
                    "address": "monitored-api.example.com",
                    "port": 443,
                    "priority": 0,
                    "weight": 1
                  }
                ],
                "external": true,
                "healthCheck": {
                  "headers": [
                    {
                      "name": "x-health-check",
                      "value": "egressd"
                    }
                  ],
                  "healthyThreshold": 2,
                  "interval": "30s",
                  "path": "/health",
                  "timeout": "5s",
                  "unhealthyThreshold": 3
                },
                "host": "monitored-api.example.com",
                "http": "HTTP/1.1",
                "lbPolicy": "LEAST_REQUEST",
                "name": "outbound|443||monitored-api.example.com",
                "namespace": "default",
                "outlierDetection": {
                  "baseEjectionTime": "30s",
                  "consecutive5xxErrors": 5,
                  "consecutiveGatewayErrors": 5,
                  "interval": "30s",
                  "maxEjectionPercent": 50,
                  "maxEjectionTime": "300s",
                  "splitExternalLocalOriginErrors": false
                },
                "path": {
                  "because": "`path: auto` is the proxy's",
                  "notDirect": "auto",
                  "taken": "proxy"
                },
                "port": 443,
                "type": "STRICT_DNS"
              }
            ]
        "#]],
    );
}

#[test]
fn everything() {
    let run = config("008-gateway-routing-corrected", &["dump"]);
    let dump: Value = serde_json::from_str(&run.stdout).unwrap();
    for part in ["listeners", "clusters", "endpoints", "routes", "vips"] {
        assert!(dump[part].as_array().is_some_and(|all| !all.is_empty()), "{part}: {}", run.stdout);
    }
    assert_eq!(dump["node"]["namespace"], "default");
}

#[test]
fn a_state_that_cannot_be_used_is_only_looked_at() {
    let state = tempfile::tempdir().unwrap();
    let file = state.path().join("vips.json");
    std::fs::write(&file, "half a fi").unwrap();
    let folder = root().join("tests/data/seeds/018-external-api-multi-protocol");
    let state_path = state.path().to_str().unwrap();
    let options = ["--config", ".", "--state", state_path, "--ip-families", "v4"];
    for command in [&["config", "vips"][..], &["explain", "tcp://240.240.0.1:6379"]] {
        let run = egressd_in(&folder, &[command, &options].concat());
        assert_eq!(run.status, 0, "{}", run.stderr);
        assert!(run.stdout.contains("240.240.0.1"), "{}", run.stdout);
        assert!(run.stderr.contains("vips.json cannot be used: "), "{}", run.stderr);
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "half a fi");
        assert_eq!(std::fs::read_dir(state.path()).unwrap().count(), 1);
    }
}
