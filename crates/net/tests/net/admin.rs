//! The admin server as its clients see it.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinHandle;
use understudy_config::{ListenAddress, Secret, User};
use understudy_net::{
    AdminHandler, AdminLimits, AdminRequest, AdminServer, AdminTable, Client, Endpoint, Greeting,
    Listener, Value,
};
use understudy_resp::Protocol;

use crate::peer::SOON;

/// Answers ECHO with the arguments, and WAIT when it is told to.
#[derive(Default)]
struct Handler {
    go_on: Notify,
    waiting: AtomicUsize,
}

/// Counts who waits, also when a wait is dropped.
struct Waiting<'a>(&'a AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl AdminHandler for Handler {
    fn call<'a>(
        &'a self,
        request: AdminRequest,
    ) -> Pin<Box<dyn Future<Output = Value> + Send + 'a>> {
        Box::pin(async move {
            match request.text(0) {
                Some("ECHO") => {
                    Value::Array(request.args[1..].iter().cloned().map(Value::Bulk).collect())
                }
                Some("WHO") => Value::text(request.user),
                Some("WAIT") => {
                    self.waiting.fetch_add(1, Ordering::SeqCst);
                    let _waiting = Waiting(&self.waiting);
                    self.go_on.notified().await;
                    Value::ok()
                }
                _ => Value::error("ERR unknown verb"),
            }
        })
    }

    fn help(&self) -> Vec<(&'static str, &'static str)> {
        vec![("ECHO text …", "answers the text")]
    }

    fn only_waits(&self, request: &AdminRequest) -> bool {
        request.is("wait")
    }
}

struct Running {
    server: Arc<AdminServer>,
    handler: Arc<Handler>,
    port: u16,
    stop: oneshot::Sender<()>,
    ended: JoinHandle<()>,
}

async fn start(users: &[(&str, &str)], limits: AdminLimits) -> Running {
    let handler = Arc::new(Handler::default());
    let mut proxy = AdminTable::new();
    proxy.add("PROXY", "the data plane", handler.clone());
    proxy.add_info(
        "Proxy",
        Arc::new(|| vec![("workers".to_owned(), "3".to_owned())]),
    );
    let mut table = AdminTable::new();
    table.add("UPGRADE", "upgrades", handler.clone());
    table.merge(proxy);
    let user = |(name, password): &(&str, &str)| User {
        name: (*name).to_owned(),
        password: Secret::new(*password),
    };
    let server = Arc::new(AdminServer::new(
        table,
        users.iter().map(user).collect(),
        limits,
    ));
    let listener = Listener::bind(&ListenAddress::Tcp("127.0.0.1".to_owned(), 0))
        .await
        .unwrap();
    let ListenAddress::Tcp(_, port) = listener.local_address() else {
        panic!("bound to TCP")
    };
    let (stop, stopped) = oneshot::channel::<()>();
    let serving = server.clone().serve(listener, async move {
        let _stop_or_gone = stopped.await;
    });
    Running {
        server,
        handler,
        port,
        stop,
        ended: tokio::spawn(serving),
    }
}

impl Running {
    async fn client(&self) -> Client {
        Client::connect(&Endpoint::tcp("127.0.0.1", self.port), SOON)
            .await
            .unwrap()
    }

    /// Sends bytes as `nc` would and gives all that comes back until the server closes.
    async fn raw(&self, bytes: &[u8]) -> String {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut all = Vec::new();
        // A server that closes with unread bytes resets; what it said before counts.
        let _reset = tokio::time::timeout(SOON, stream.read_to_end(&mut all))
            .await
            .expect("the server closes");
        String::from_utf8(all).unwrap()
    }
}

#[tokio::test]
async fn inline_commands_work_as_typed_into_nc() {
    let running = start(&[], AdminLimits::default()).await;
    let answers = running
        .raw(b"PING\r\nping hello\n\r\nPROXY ECHO \"a b\" 'c' \\x\nECHO x\r\nquit\r\nPING\r\n")
        .await;
    assert_eq!(
        answers,
        "+PONG\r\n$5\r\nhello\r\n*3\r\n$3\r\na b\r\n$1\r\nc\r\n$2\r\n\\x\r\n$1\r\nx\r\n+OK\r\n"
    );
}

#[tokio::test]
async fn every_container_of_merged_tables_answers() {
    let running = start(&[], AdminLimits::default()).await;
    let mut client = running.client().await;
    for name in ["PROXY", "upgrade", "Proxy"] {
        assert_eq!(
            client.call(&[name, "ECHO", "x"]).await.unwrap(),
            Value::Array(vec![Value::text("x")])
        );
    }
    let refused = client.call(&["GET", "k"]).await.unwrap();
    assert_eq!(refused.as_error(), Some("ERR unknown command 'GET'"));
    let refused = client.call(&["G\r\n:1\r\nET"]).await.unwrap();
    assert!(
        refused
            .as_error()
            .unwrap()
            .starts_with("ERR unknown command"),
        "a name cannot forge a reply"
    );
    let names = client.call(&["COMMAND", "LIST"]).await.unwrap();
    assert!(names.as_slice().unwrap().contains(&Value::text("upgrade")));
    let help = client.call(&["PROXY", "HELP"]).await.unwrap();
    assert_eq!(
        help.as_slice().unwrap()[0].as_str_lossy().unwrap(),
        "PROXY ECHO text … -- answers the text"
    );
    let info = client
        .call(&["INFO"])
        .await
        .unwrap()
        .as_str_lossy()
        .unwrap();
    assert!(
        info.contains("# Proxy\r\nworkers:3\r\n") && info.contains("understudy_version:"),
        "{info}"
    );
    let info = client
        .call(&["INFO", "proxy"])
        .await
        .unwrap()
        .as_str_lossy()
        .unwrap();
    assert_eq!(info, "# Proxy\r\nworkers:3\r\n");
}

#[tokio::test]
async fn with_users_a_stranger_gets_nothing_but_the_door() {
    let running = start(
        &[("default", "pw"), ("ann", "secret")],
        AdminLimits::default(),
    )
    .await;
    let mut client = running.client().await;
    for command in [&["PING"][..], &["PROXY", "ECHO"], &["INFO"], &["NOPE"]] {
        assert_eq!(
            client.call(command).await.unwrap().as_error(),
            Some("NOAUTH Authentication required.")
        );
    }
    for wrong in [
        &["AUTH", "wrong"][..],
        &["AUTH", "ann", "pw"],
        &["AUTH", "bob", "pw"],
        &["AUTH", "ann", ""],
    ] {
        let refused = client.call(wrong).await.unwrap();
        assert!(
            refused.as_error().unwrap().starts_with("WRONGPASS"),
            "{wrong:?}: {refused:?}"
        );
    }
    assert!(
        client
            .call(&["PROXY", "WHO"])
            .await
            .unwrap()
            .as_error()
            .is_some()
    );
    assert!(
        client
            .call(&["AUTH", "ann", "secret"])
            .await
            .unwrap()
            .is_ok()
    );
    assert_eq!(
        client.call(&["PROXY", "WHO"]).await.unwrap(),
        Value::text("ann")
    );
    assert_eq!(
        client.call(&["RESET"]).await.unwrap(),
        Value::Simple("RESET".to_owned())
    );
    assert!(
        client
            .call(&["PROXY", "WHO"])
            .await
            .unwrap()
            .as_error()
            .is_some(),
        "RESET forgets the user"
    );
    assert!(client.call(&["AUTH", "pw"]).await.unwrap().is_ok());
}

#[tokio::test]
async fn hello_switches_the_protocol_and_logs_in() {
    let running = start(&[("ann", "secret")], AdminLimits::default()).await;
    let mut client = running.client().await;
    let refused = client.call(&["HELLO", "3"]).await.unwrap();
    assert!(
        refused.as_error().unwrap().starts_with("NOAUTH"),
        "{refused:?}"
    );
    let hello = client
        .call(&["HELLO", "3", "AUTH", "ann", "secret", "SETNAME", "me"])
        .await
        .unwrap();
    assert_eq!(hello.field("proto"), Some(&Value::Integer(3)));
    assert!(matches!(hello, Value::Map(_)));
    assert_eq!(
        client.call(&["CLIENT", "GETNAME"]).await.unwrap(),
        Value::text("me")
    );
    assert!(matches!(
        client.call(&["HELLO", "2"]).await.unwrap(),
        Value::Array(_)
    ));
    assert!(
        client
            .call(&["HELLO", "4"])
            .await
            .unwrap()
            .as_error()
            .unwrap()
            .starts_with("NOPROTO")
    );
    let greeting = Greeting {
        protocol: Protocol::Resp3,
        ..Greeting::default()
    };
    let endpoint = Endpoint::tcp("127.0.0.1", running.port)
        .with_user(Some("ann".to_owned()), Secret::new("secret"));
    let mut client = Client::connect_as(&endpoint, &greeting, SOON)
        .await
        .unwrap();
    assert_eq!(
        client.call(&["CLIENT", "GETNAME"]).await.unwrap(),
        Value::Null
    );
}

#[tokio::test]
async fn in_memory_needs_no_password_and_says_the_same() {
    let running = start(&[("ann", "secret")], AdminLimits::default()).await;
    let mut client = running.server.in_memory();
    assert_eq!(
        client.call(&["PROXY", "ECHO", "x"]).await.unwrap(),
        Value::Array(vec![Value::text("x")])
    );
    let big = "x".repeat(500_000);
    let commands = vec![["PROXY", "ECHO", big.as_str()]; 8];
    let answers = client.pipeline(&commands).await.unwrap();
    assert_eq!(
        answers.len(),
        8,
        "more than the pipe holds, both ways, and nobody waits for ever"
    );
}

#[tokio::test]
async fn one_session_too_many_is_refused_and_a_place_that_is_given_back_is_free() {
    let running = start(
        &[],
        AdminLimits {
            sessions_max: 1,
            ..AdminLimits::default()
        },
    )
    .await;
    let mut first = running.client().await;
    first.call(&["PING"]).await.unwrap();
    assert_eq!(
        running.raw(b"").await,
        "-ERR max number of clients reached\r\n"
    );
    drop(first);
    let free = async {
        while running.raw(b"PING\r\n").await != "+PONG\r\n" {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(SOON, free)
        .await
        .expect("the place is free again");
}

#[tokio::test]
async fn a_request_over_the_limit_is_refused_and_a_strangers_limit_is_smaller() {
    let limits = AdminLimits {
        frame_max: 4096,
        stranger_frame_max: 64,
        ..AdminLimits::default()
    };
    let running = start(&[], limits).await;
    let answer = running.raw(b"*2\r\n$4\r\nECHO\r\n$5000\r\n").await;
    assert!(answer.starts_with("-ERR Protocol error: "), "{answer}");
    let long = "x".repeat(10_000);
    let answer = running.raw(format!("PROXY ECHO {long}").as_bytes()).await;
    assert!(
        answer.starts_with("-ERR Protocol error: "),
        "an inline command without end: {answer}"
    );
    let strict = start(&[("ann", "secret")], limits).await;
    let answer = strict
        .raw(format!("AUTH {}\r\n", &long[..100]).as_bytes())
        .await;
    assert!(answer.starts_with("-ERR Protocol error: "), "{answer}");
}

#[tokio::test]
async fn a_stranger_who_says_nothing_is_closed() {
    let limits = AdminLimits {
        login_max: Duration::from_millis(30),
        ..AdminLimits::default()
    };
    let running = start(&[("ann", "secret")], limits).await;
    let mut stream = TcpStream::connect(("127.0.0.1", running.port))
        .await
        .unwrap();
    let read = tokio::time::timeout(SOON, stream.read(&mut [0; 10]))
        .await
        .expect("closed in time");
    assert_eq!(read.unwrap(), 0);
}

#[tokio::test]
async fn a_command_that_only_waits_goes_with_its_client_and_shutdown_ends_all() {
    let running = start(&[], AdminLimits::default()).await;
    let until = async |count| {
        let reached = async {
            while running.handler.waiting.load(Ordering::SeqCst) != count {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(SOON, reached)
            .await
            .expect("the count is reached");
    };
    let port = running.port;
    let ask = move || async move {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        stream.write_all(b"PROXY WAIT\r\nPING\r\n").await.unwrap();
        stream
    };
    let mut patient = ask().await;
    let leaving = ask().await;
    until(2).await;
    drop(leaving);
    until(1).await;
    running.handler.go_on.notify_one();
    let mut answers = [0; 12];
    patient.read_exact(&mut answers).await.unwrap();
    assert_eq!(
        &answers, b"+OK\r\n+PONG\r\n",
        "what came while it waited is answered after it"
    );
    let _third = ask().await;
    until(1).await;
    running.stop.send(()).unwrap();
    running.ended.await.unwrap();
    assert_eq!(running.handler.waiting.load(Ordering::SeqCst), 0);
}
