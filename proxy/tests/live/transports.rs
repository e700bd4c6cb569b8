//! Clients over unix sockets and TLS.

use rcgen::{CertificateParams, KeyPair};
use understudy_config::{BackendTls, ListenAddress, TlsFiles};
use understudy_lab::wire::Reply;
use understudy_net::{Client, ClientTls, ClientTlsOptions, Endpoint, Value};

use crate::stage::{POOL, SOON, Stage, call, config, directory, old};

#[tokio::test]
async fn clients_come_by_a_unix_socket() {
    let (server, data) = (old().await, directory());
    let mut file = config(data.path(), 1, &[&server]);
    file.pools[0].listen = ListenAddress::Unix(data.path().join("p.sock"), Some(0o600));
    let stage = Stage::start(file).await;
    assert_eq!(
        call(&mut stage.client().await, "SET k unix").await,
        Reply::ok()
    );
    assert_eq!(
        server.call(&["GET", "k"]).await.unwrap(),
        Reply::bulk("unix")
    );
}

#[tokio::test]
async fn clients_come_by_tls() {
    let (server, data) = (old().await, directory());
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(["localhost".to_owned()])
        .unwrap()
        .self_signed(&key)
        .unwrap();
    let (pem, key_pem) = (data.path().join("tls.pem"), data.path().join("tls.key"));
    std::fs::write(&pem, certificate.pem()).unwrap();
    std::fs::write(&key_pem, key.serialize_pem()).unwrap();
    let mut file = config(data.path(), 1, &[&server]);
    file.pools[0].tls = Some(TlsFiles {
        certificate: pem.clone(),
        key: key_pem,
        client_ca: None,
    });
    let stage = Stage::start(file).await;
    let Some(ListenAddress::Tcp(_, port)) = stage.proxy.pool_address(POOL) else {
        panic!("TCP")
    };
    let tls = BackendTls {
        ca: pem,
        identity: None,
        server_name: Some("localhost".into()),
    };
    let options = ClientTlsOptions {
        authority: Some(tls.ca),
        server_name: tls.server_name,
        ..ClientTlsOptions::default()
    };
    let endpoint = Endpoint::tcp("127.0.0.1", port).with_tls(ClientTls::new(&options).unwrap());
    let mut client = Client::connect(&endpoint, SOON).await.unwrap();
    let commands: Vec<Vec<String>> = (0..500)
        .map(|number| vec!["SET".into(), format!("k{number}"), "x".repeat(number * 10)])
        .collect();
    let replies = client.pipeline(&commands).await.unwrap();
    assert!(replies.iter().all(Value::is_ok));
    let value = client.call(&["GET", "k499"]).await.unwrap();
    assert_eq!(value, Value::bulk("x".repeat(4_990)));
}
