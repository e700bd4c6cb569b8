//! Listening and dialing over unix sockets.

use std::os::unix::fs::PermissionsExt;

use tempfile::TempDir;
use understudy_config::ListenAddress;
use understudy_net::{Endpoint, Greeting, Listener, PeerName, dial};

use crate::peer::SOON;

#[tokio::test]
async fn a_unix_socket_has_its_mode_and_goes_with_its_listener() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("u.sock");
    let address = ListenAddress::Unix(path.clone(), Some(0o600));
    let listener = Listener::bind(&address).await.unwrap();
    assert_eq!(
        std::fs::metadata(&path).unwrap().permissions().mode() & 0o777,
        0o600
    );
    let greeting = Greeting::default();
    let endpoint = Endpoint::unix(&path);
    let (near, far) = tokio::join!(dial(&endpoint, &greeting, SOON), listener.accept());
    let far = far.unwrap();
    assert_eq!(*far.peer(), PeerName::Unix(path.clone()));
    let far = far.into_socket(SOON).await.unwrap();
    assert_eq!(near.unwrap().try_write(b"hi").unwrap(), 2);
    far.readable().await.unwrap();
    assert_eq!(far.try_read(&mut [0; 10]).unwrap(), 2);
    drop(listener);
    assert!(!path.exists());
}

#[tokio::test]
async fn a_path_left_by_a_dead_process_is_taken_over_and_a_served_one_is_not() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("u.sock");
    let address = ListenAddress::Unix(path.clone(), None);
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    assert!(
        path.exists(),
        "std leaves the path behind, as a killed process does"
    );
    let _serving = Listener::bind(&address).await.unwrap();
    let refused = Listener::bind(&address).await.unwrap_err();
    assert!(refused.to_string().contains("u.sock"), "{refused}");
    assert!(path.exists());
}

#[tokio::test]
async fn an_address_in_use_says_which() {
    let listener = Listener::bind(&ListenAddress::Tcp("127.0.0.1".to_owned(), 0))
        .await
        .unwrap();
    let refused = Listener::bind(&listener.local_address()).await.unwrap_err();
    assert!(
        refused.to_string().starts_with("listen on 127.0.0.1:"),
        "{refused}"
    );
}
