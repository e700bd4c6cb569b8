//! TLS between our two ends, with authorities and certificates made for each test.

use std::io;
use std::path::PathBuf;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tempfile::TempDir;
use understudy_config::{BackendTls, ListenAddress, TlsFiles};
use understudy_net::{
    Acceptor, ClientTls, ClientTlsOptions, DialError, Endpoint, Greeting, Listener, ServerIdentity,
    Socket, dial,
};

use crate::peer::SOON;

struct Authority {
    directory: TempDir,
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Authority {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let authority = Authority {
            directory: TempDir::new().unwrap(),
            issuer,
        };
        std::fs::write(authority.file("ca.pem"), authority.issuer.pem()).unwrap();
        authority
    }

    fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Certificate and key for a name, as files.
    fn issue(&self, name: &str) -> (PathBuf, PathBuf) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new([name.to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let files = (
            self.file(&format!("{name}.pem")),
            self.file(&format!("{name}.key")),
        );
        std::fs::write(&files.0, certificate.pem()).unwrap();
        std::fs::write(&files.1, key.serialize_pem()).unwrap();
        files
    }

    fn listening_files(&self, name: &str) -> TlsFiles {
        let (certificate, key) = self.issue(name);
        TlsFiles {
            certificate,
            key,
            client_ca: None,
        }
    }

    fn believed(&self) -> BackendTls {
        BackendTls {
            ca: self.file("ca.pem"),
            identity: None,
            server_name: None,
        }
    }
}

/// Both ends of a TLS connection, or what the dialing end was told.
async fn connect(
    files: &TlsFiles,
    client: &ClientTlsOptions,
) -> Result<(Socket, Socket), DialError> {
    let address = ListenAddress::Tcp("127.0.0.1".to_owned(), 0);
    let listener = Listener::bind(&address)
        .await
        .unwrap()
        .with_tls(Acceptor::from_files(files).unwrap());
    let ListenAddress::Tcp(host, port) = listener.local_address() else {
        panic!("bound to TCP")
    };
    let endpoint = Endpoint::tcp(host, port).with_tls(ClientTls::new(client).unwrap());
    let accept = async { listener.accept().await.unwrap().into_socket(SOON).await };
    let greeting = Greeting::default();
    let (dialed, accepted) = tokio::join!(dial(&endpoint, &greeting, SOON), accept);
    Ok((dialed?, accepted.unwrap()))
}

async fn write_all(socket: &Socket, mut bytes: &[u8]) {
    while !bytes.is_empty() {
        match socket.try_write(bytes) {
            Ok(written) => bytes = &bytes[written..],
            Err(cause) if cause.kind() == io::ErrorKind::WouldBlock => {
                socket.writable().await.unwrap();
            }
            Err(cause) => panic!("{cause}"),
        }
    }
}

/// Reads until the other end says that there is no more, at most `step` bytes at a time.
async fn read_all(socket: &Socket, step: usize) -> Vec<u8> {
    let mut all = Vec::new();
    let mut scratch = vec![0; step];
    loop {
        match socket.try_read(&mut scratch) {
            Ok(0) => return all,
            Ok(read) => {
                all.extend_from_slice(&scratch[..read]);
                // As the proxy does: it waits after each read, also when that read did not take all there is.
                let more = tokio::time::timeout(SOON, socket.readable()).await;
                more.expect("decrypted bytes are readable").unwrap();
            }
            Err(cause) if cause.kind() == io::ErrorKind::WouldBlock => {
                socket.readable().await.unwrap();
            }
            Err(cause) => panic!("{cause}"),
        }
    }
}

#[tokio::test]
async fn megabytes_go_both_ways_at_once_through_a_connection_driven_by_hand() {
    let authority = Authority::new();
    let (near, far) = connect(
        &authority.listening_files("127.0.0.1"),
        &(&authority.believed()).into(),
    )
    .await
    .unwrap();
    let sent: Vec<u8> = (0..8_000_000_u32).map(|at| (at % 251) as u8).collect();
    let write = async |socket: &Socket| {
        write_all(socket, &sent).await;
        socket.end_writing();
    };
    let (_, _, one, other) = tokio::join!(
        write(&near),
        write(&far),
        read_all(&near, 64 * 1024),
        read_all(&far, 1000)
    );
    assert!(
        one == sent && other == sent,
        "{} and {} of {} bytes",
        one.len(),
        other.len(),
        sent.len()
    );
}

#[tokio::test]
async fn a_write_that_would_block_counts_nothing_until_all_of_it_is_on_its_way() {
    let authority = Authority::new();
    let (near, far) = connect(
        &authority.listening_files("127.0.0.1"),
        &(&authority.believed()).into(),
    )
    .await
    .unwrap();
    let block = vec![7; 50_000];
    let mut sent = 0;
    while let Ok(written) = near.try_write(&block) {
        sent += written;
    }
    // The peer reads all that was counted, and what was refused comes only with the next write.
    let read = async {
        let (mut read, mut scratch) = (0, vec![0; 64 * 1024]);
        while read < sent {
            far.readable().await.unwrap();
            read += far.try_read(&mut scratch).unwrap_or(0);
        }
    };
    tokio::time::timeout(SOON, read)
        .await
        .expect("all that was counted arrives without a flush");
}

/// What was not counted may be sent again on another connection, so nobody may have been able to read it.
#[tokio::test]
async fn what_a_write_did_not_count_the_peer_cannot_read() {
    let authority = Authority::new();
    let files = authority.listening_files("127.0.0.1");
    for reads_meanwhile in [false, true] {
        let (near, far) = connect(&files, &(&authority.believed()).into())
            .await
            .unwrap();
        let block = vec![7; 1_000_000];
        let mut counted = 0;
        while let Ok(written) = near.try_write(&block) {
            counted += written;
        }
        let (mut read, mut scratch) = (0, vec![0; 64 * 1024]);
        if reads_meanwhile {
            // There is room again, and the session has something else to do than to write.
            while read < counted / 2 {
                far.readable().await.unwrap();
                read += far.try_read(&mut scratch).unwrap_or(0);
            }
            write_all(&far, b"x").await;
            while near.try_read(&mut [0; 8]).is_err() {
                near.readable().await.unwrap();
            }
        }
        near.end_writing();
        loop {
            far.readable().await.unwrap();
            match far.try_read(&mut scratch) {
                Ok(more @ 1..) => read += more,
                Err(cause) if cause.kind() == io::ErrorKind::WouldBlock => {}
                Ok(_) | Err(_) => break,
            }
        }
        assert_eq!(read, counted, "reads meanwhile: {reads_meanwhile}");
    }
}

#[tokio::test]
async fn a_certificate_of_an_authority_we_do_not_know_is_refused() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    let refused = connect(
        &theirs.listening_files("127.0.0.1"),
        &(&ours.believed()).into(),
    )
    .await;
    let refused = refused.unwrap_err().to_string();
    assert!(refused.contains("invalid peer certificate"), "{refused}");
}

#[tokio::test]
async fn a_certificate_for_another_name_is_refused_unless_that_name_is_expected() {
    let authority = Authority::new();
    let files = authority.listening_files("redis.example");
    let refused = connect(&files, &(&authority.believed()).into())
        .await
        .unwrap_err()
        .to_string();
    assert!(refused.contains("not valid for name"), "{refused}");
    let named = BackendTls {
        server_name: Some("redis.example".to_owned()),
        ..authority.believed()
    };
    connect(&files, &(&named).into()).await.unwrap();
}

#[tokio::test]
async fn an_unknown_certificate_is_taken_only_when_that_was_asked_for_by_name() {
    let authority = Authority::new();
    let insecure = ClientTlsOptions {
        identity: ServerIdentity::Insecure,
        ..ClientTlsOptions::default()
    };
    connect(&authority.listening_files("redis.example"), &insecure)
        .await
        .unwrap();
}

#[tokio::test]
async fn a_listener_that_asks_for_a_certificate_gets_one_of_its_authority() {
    let authority = Authority::new();
    let files = TlsFiles {
        client_ca: Some(authority.file("ca.pem")),
        ..authority.listening_files("127.0.0.1")
    };
    let known = BackendTls {
        identity: Some(authority.issue("client")),
        ..authority.believed()
    };
    let (near, far) = connect(&files, &(&known).into()).await.unwrap();
    write_all(&near, b"x").await;
    near.end_writing();
    assert_eq!(read_all(&far, 10).await, b"x");
}

#[test]
fn files_that_hold_nothing_usable_are_named() {
    let authority = Authority::new();
    let empty = authority.file("empty.pem");
    std::fs::write(&empty, "").unwrap();
    let options = |ca: &str| ClientTlsOptions {
        authority: Some(authority.file(ca)),
        ..ClientTlsOptions::default()
    };
    let refused = ClientTls::new(&options("empty.pem"))
        .unwrap_err()
        .to_string();
    assert!(
        refused.ends_with("empty.pem holds no certificate"),
        "{refused}"
    );
    let refused = ClientTls::new(&options("missing.pem"))
        .unwrap_err()
        .to_string();
    assert!(
        refused.starts_with("read ") && refused.contains("missing.pem"),
        "{refused}"
    );
}
