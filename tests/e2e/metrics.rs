//! What a scraper reads: control's own page, both in one, and that docs/metrics.md says the same.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use understudy_lab::{Cast, POOL, Scene, Version};

use crate::stage::{LIMIT, all, assert_clean, options, under_load, verdict};

async fn get(http: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(http).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

/// The value of a series, as it is written.
#[track_caller]
fn value<'a>(page: &'a str, series: &str) -> &'a str {
    let found = page.lines().find_map(|line| line.strip_prefix(series));
    found
        .unwrap_or_else(|| panic!("{series} is not in {page}"))
        .trim()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn control_alone_shows_how_its_upgrade_stands() {
    let mut wanted = options(Version::Redis6_2_14, Version::Redis8_2_3);
    wanted.cast = Cast::Separate { proxies: 1 };
    wanted.shards = 1;
    let (scene, load) = under_load(&wanted).await;
    let control = scene.http(1);
    assert!(
        get(control, "/healthz")
            .await
            .starts_with("HTTP/1.1 200 OK\r\n")
    );
    assert!(
        get(control, "/readyz")
            .await
            .starts_with("HTTP/1.1 200 OK\r\n")
    );
    let of_shard =
        |name: &str| format!("understudy_upgrade_{name}{{pool=\"{POOL}\",shard=\"s1\"}}");
    let labelled = |name: &str, label: &str, word: &str| {
        format!(
            "understudy_upgrade_{name}{{{}}}",
            sorted(&[("pool", POOL), ("shard", "s1"), (label, word)])
        )
    };
    let page = get(control, "/metrics").await;
    assert_eq!(value(&page, &labelled("phase", "phase", "plan")), "0");
    assert_eq!(value(&page, &of_shard("lag_bytes")), "NaN");
    let committed = labelled("cutovers_total", "result", "committed");
    assert_eq!(value(&page, &committed), "0");

    scene.start_upgrade(&[]).await.unwrap();
    scene.wait_for("soak", LIMIT).await.unwrap();
    scene
        .wait_until("a way back", LIMIT, |status| {
            status["shards"][0]["way_back"] == "exact"
        })
        .await
        .unwrap();
    let page = get(control, "/metrics").await;
    for (series, expect) in [
        (labelled("phase", "phase", "soak"), "1"),
        (labelled("phase", "phase", "plan"), "0"),
        (labelled("way_back", "way_back", "exact"), "1"),
        (labelled("guard", "state", "following"), "1"),
        (committed, "1"),
        (labelled("cutovers_total", "result", "rolled_back"), "0"),
        (of_shard("hold_seconds_count"), "1"),
        (of_shard("epoch"), "1"),
        (of_shard("differences"), "0"),
        ("understudy_upgrade_proxies{presence=\"known\"}".into(), "1"),
        ("understudy_upgrade_proxies{presence=\"lost\"}".into(), "0"),
    ] {
        assert_eq!(value(&page, &series), expect, "{series}");
    }
    for series in [of_shard("keys_verified"), of_shard("term")] {
        assert!(
            value(&page, &series).parse::<u64>().unwrap() > 0,
            "{series}"
        );
    }
    let age: f64 = value(&page, &of_shard("snapshot_age_seconds"))
        .parse()
        .unwrap();
    assert!(age > 0.0 && age < 3_600.0, "{age}");
    assert_clean(&verdict(load, &all(&scene.targets)).await);
}

/// Labels as the encoder writes them: by name.
fn sorted(labels: &[(&str, &str)]) -> String {
    let mut labels: Vec<String> = labels
        .iter()
        .map(|(name, word)| format!("{name}=\"{word}\""))
        .collect();
    labels.sort();
    labels.join(",")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_page_shows_proxy_and_control_and_docs_name_every_metric() {
    let mut wanted = options(Version::Redis6_2_14, Version::Redis8_2_3);
    wanted.shards = 1;
    let scene = Scene::start(&wanted).await.unwrap();
    let page = get(scene.http(0), "/metrics").await;
    let served: BTreeSet<String> = page
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE "))
        .map(str::to_owned)
        .collect();
    let doc = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/metrics.md");
    let doc = std::fs::read_to_string(doc).unwrap();
    let mut named = BTreeSet::new();
    for row in doc
        .lines()
        .filter(|line| line.starts_with("| `understudy_"))
    {
        let mut cells = row.split('|').skip(1).map(str::trim);
        let (names, kind) = (cells.next().unwrap(), cells.next().unwrap());
        named.extend(
            names
                .split('`')
                .skip(1)
                .step_by(2)
                .map(|name| format!("{name} {kind}")),
        );
    }
    assert_eq!(
        served, named,
        "served on the left, docs/metrics.md on the right"
    );
}
