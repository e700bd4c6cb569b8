//! Servers that speak nothing but TLS, with certificates on both sides, are upgraded as any others.
//!
//! Of the lab's servers the distribution's 7.0.15 alone is built with TLS, so it is moved to a server of its own version.

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use tempfile::TempDir;
use understudy_lab::wire::Reply;
use understudy_lab::{Cast, POOL, ServerOptions, ServerTls, Version};

use crate::stage::{LIMIT, all, assert_clean, options, served, under_load, verdict};

/// One certificate for everybody, signed by one authority.
fn certificates() -> (TempDir, ServerTls) {
    let directory = TempDir::new().unwrap();
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    params.distinguished_name.push(DnType::CommonName, "server");
    let certificate = params.signed_by(&key, &authority).unwrap();
    let written = |name: &str, text: String| {
        let path = directory.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let files = ServerTls {
        certificate: written("cert.pem", certificate.pem()),
        key: written("key.pem", key.serialize_pem()),
        authority: written("ca.pem", authority.pem()),
        mutual: true,
    };
    (directory, files)
}

/// Copy, snapshot, soak, the way back, the rollback and its snapshot, and forward once more: all of it by TLS.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn servers_without_a_plain_port_are_upgraded_rolled_back_and_upgraded_again() {
    let (_directory, files) = certificates();
    let mut wanted = options(Version::Redis7_0_15, Version::Redis7_0_15);
    wanted.shards = 1;
    wanted.cast = Cast::Separate { proxies: 1 };
    wanted.server = ServerOptions::new().tls_only(files);
    let (mut scene, load) = under_load(&wanted).await;
    scene.start_upgrade(&["HOLD-MAX", "2000"]).await.unwrap();
    scene.wait_for("soak", LIMIT).await.unwrap();
    served(&load).await;
    follows(&scene).await;
    // The guard is made again, and the source comes back to it.
    scene.control_mut().kill().unwrap();
    scene.control_mut().restart(&[]).await.unwrap();
    follows(&scene).await;
    served(&load).await;
    let answer = scene.call(&["UPGRADE", "ROLLBACK", POOL]).await.unwrap();
    assert_eq!(answer, Reply::ok());
    let rolled_back = |status: &serde_json::Value| status["phase"] == "rolled_back";
    let waiting = scene.wait_until("rolled back", LIMIT, rolled_back);
    waiting.await.unwrap();
    served(&load).await;
    scene.start_upgrade(&["HOLD-MAX", "2000"]).await.unwrap();
    scene.wait_for("soak", LIMIT).await.unwrap();
    follows(&scene).await;
    assert_clean(&verdict(load, &all(&scene.targets)).await);
}

async fn follows(scene: &understudy_lab::Scene) {
    let exact = |status: &serde_json::Value| status["shards"][0]["way_back"] == "exact";
    scene.wait_until("a way back", LIMIT, exact).await.unwrap();
}
