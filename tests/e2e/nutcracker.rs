//! `understudy serve -c nutcracker.yml` takes the place of a real nutcracker: the same keys on the same servers.

use std::time::Duration;

use understudy_lab::wire::{Address, Reply, Wire};
use understudy_lab::{Process, ProcessOptions, Server, Version, free_port, tool};

use crate::stage::binary;

/// Written through nutcracker, read through understudy.
const KEYS: usize = 500;
const LIMIT: Duration = Duration::from_secs(10);

fn file(ports: [u16; 2], servers: &[Server]) -> String {
    let list = |from: usize| -> String {
        let lines = servers.iter().enumerate().skip(from);
        lines
            .map(|(index, server)| {
                format!(
                    "    - 127.0.0.1:{}:{} node{index}\n",
                    server.port(),
                    index + 1
                )
            })
            .collect()
    };
    format!(
        "alpha:\n  listen: 127.0.0.1:{}\n  hash: fnv1a_64\n  hash_tag: \"{{}}\"\n  distribution: ketama\n  redis: true\n  servers:\n{}\
         beta:\n  listen: 127.0.0.1:{}\n  hash: crc16\n  distribution: modula\n  redis: true\n  servers:\n{}",
        ports[0],
        list(0),
        ports[1],
        list(1),
    )
}

async fn connect(port: u16) -> Wire {
    Wire::connect(&Address::local(port), LIMIT).await.unwrap()
}

fn key(pool: usize, number: usize) -> Vec<u8> {
    let mut key = format!("p{pool}:{{user{number}}}:").into_bytes();
    // Bytes above 0x7f are where ports of these hashes usually differ.
    key.extend([0x80 | (number % 128) as u8, 0xff, b'x']);
    key
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_written_through_nutcracker_are_found_through_understudy() {
    let Some(nutcracker) = tool("nutcracker") else {
        eprintln!("skipped: nutcracker is not installed here; run 'make tools' where apt is");
        return;
    };
    let mut servers = Vec::new();
    for _ in 0..3 {
        servers.push(Server::bare(Version::Redis6_2_14).await.unwrap());
    }
    let directory = tempfile::tempdir().unwrap();
    let config = directory.path().join("nutcracker.yml");
    let old = [free_port().unwrap(), free_port().unwrap()];
    std::fs::write(&config, file(old, &servers)).unwrap();
    let stats = free_port().unwrap().to_string();
    let mut peer = std::process::Command::new(nutcracker)
        .args(["-a", "127.0.0.1", "-s", &stats, "-o"])
        .arg(directory.path().join("nutcracker.log"))
        .arg("-c")
        .arg(&config)
        .spawn()
        .unwrap();
    for (pool, port) in old.into_iter().enumerate() {
        let mut wire = retry_connect(port).await;
        for number in 0..KEYS {
            let reply = wire
                .call(&[b"SET".as_slice(), &key(pool, number), b"value"])
                .await
                .unwrap();
            assert_eq!(reply, Reply::ok());
        }
    }
    peer.kill().unwrap();
    peer.wait().unwrap();

    let new = [free_port().unwrap(), free_port().unwrap()];
    std::fs::write(&config, file(new, &servers)).unwrap();
    let mut understudy = Process::start(ProcessOptions {
        binary: binary().into(),
        subcommand: "serve".to_owned(),
        config,
        // A nutcracker.yml cannot name it, so it is the default.
        admin: "127.0.0.1:7380".to_owned(),
        log: directory.path().join("understudy.log"),
        environment: vec![],
        directory: Some(directory.path().to_owned()),
    })
    .await
    .unwrap();
    for (pool, port) in new.into_iter().enumerate() {
        let mut wire = connect(port).await;
        for number in 0..KEYS {
            let reply = wire
                .call(&[b"GET".as_slice(), &key(pool, number)])
                .await
                .unwrap();
            assert_eq!(reply, Reply::bulk("value"), "pool {pool}, key {number}");
        }
    }
    understudy.terminate(LIMIT).await.unwrap();
}

/// Nutcracker says nothing when it is ready; its port does.
async fn retry_connect(port: u16) -> Wire {
    let deadline = std::time::Instant::now() + LIMIT;
    loop {
        match Wire::connect(&Address::local(port), LIMIT).await {
            Ok(wire) => return wire,
            Err(error) => assert!(std::time::Instant::now() < deadline, "nutcracker: {error}"),
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
