//! The smallest HTTP/1.1 that a scraper and a kubelet need: GET of three paths, one request per connection.
//!
//! Written by hand because that is less to keep than a server library; what it cannot do it refuses with a status.
//! Each connection costs at most `HEAD_MAX` bytes and `REQUEST_TIMEOUT`, and only `CONNECTIONS_MAX` are served at once:
//! the next one waits in the kernel's queue.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::listener::Listener;
use crate::stream::Stream;

/// Most bytes of a request's head. A longer one is answered 431.
const HEAD_MAX: usize = 8 * 1024;
/// Longest time for one request, answer included. Then the connection is closed.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
/// Connections served at once. More wait to be accepted.
const CONNECTIONS_MAX: usize = 32;

/// What a path answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The status line's number and reason.
    pub status: &'static str,
    /// The media type of the body.
    pub content_type: &'static str,
    /// The body.
    pub body: String,
}

impl Answer {
    /// A page in the text form of Prometheus.
    pub fn metrics(body: String) -> Answer {
        Answer {
            status: "200 OK",
            content_type: "text/plain; version=0.0.4",
            body,
        }
    }

    /// Whether everything is there that should be: 200 `ready`, or 503 and one line for each thing that is missing.
    pub fn readiness(missing: &[String]) -> Answer {
        match missing {
            [] => Answer::text("200 OK", "ready\n"),
            missing => Answer::text("503 Service Unavailable", missing.join("\n") + "\n"),
        }
    }

    /// Plain text.
    pub fn text(status: &'static str, body: impl Into<String>) -> Answer {
        Answer {
            status,
            content_type: "text/plain; charset=utf-8",
            body: body.into(),
        }
    }
}

/// Who knows the answers.
pub trait Pages: Send + Sync + 'static {
    /// The page at a path, without its query; `None` is 404.
    fn page<'a>(
        &'a self,
        path: &'a str,
    ) -> Pin<Box<dyn Future<Output = Option<Answer>> + Send + 'a>>;
}

/// Serves until its task is aborted.
pub async fn serve(listener: Listener, pages: Arc<dyn Pages>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else {
            return;
        };
        let incoming = match listener.accept().await {
            Ok(incoming) => incoming,
            Err(cause) => {
                tracing::warn!(%cause, "accept an HTTP connection");
                // Out of file descriptors, most likely: they come back with time.
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let pages = Arc::clone(&pages);
        tokio::spawn(async move {
            let served = timeout(REQUEST_TIMEOUT, async {
                match incoming.into_socket(REQUEST_TIMEOUT).await {
                    Ok(socket) => converse(Stream::from(socket), &*pages).await,
                    Err(cause) => Err(std::io::Error::other(cause)),
                }
            });
            match served.await {
                Ok(Ok(())) => {}
                Ok(Err(cause)) => tracing::debug!(%cause, "serve an HTTP request"),
                Err(_) => tracing::debug!("an HTTP request took too long"),
            }
            drop(place);
        });
    }
}

/// One request and its answer.
async fn converse<S: AsyncRead + AsyncWrite + Unpin>(
    mut stream: S,
    pages: &dyn Pages,
) -> std::io::Result<()> {
    let Some(head) = read_head(&mut stream).await? else {
        return write(
            &mut stream,
            Method::Get,
            &Answer::text("431 Request Header Fields Too Large", "too long\n"),
        )
        .await;
    };
    let (method, answer) = match parse(&head) {
        Err(answer) => (Method::Get, answer),
        Ok((method, path)) => {
            let page = pages.page(path).await;
            (
                method,
                page.unwrap_or_else(|| {
                    Answer::text("404 Not Found", "try /metrics, /healthz or /readyz\n")
                }),
            )
        }
    };
    write(&mut stream, method, &answer).await
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Method {
    Get,
    Head,
}

/// Reads to the empty line. `None` when the limit came first.
async fn read_head<S: AsyncRead + Unpin>(stream: &mut S) -> std::io::Result<Option<Vec<u8>>> {
    let mut head = Vec::with_capacity(1024);
    loop {
        if head.windows(4).any(|four| four == b"\r\n\r\n") {
            return Ok(Some(head));
        }
        if head.len() >= HEAD_MAX {
            return Ok(None);
        }
        if stream.read_buf(&mut head).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
    }
}

fn parse(head: &[u8]) -> Result<(Method, &str), Answer> {
    let bad = || Answer::text("400 Bad Request", "not an HTTP/1 request\n");
    let line = head.split(|byte| *byte == b'\r').next().unwrap_or_default();
    let line = std::str::from_utf8(line).map_err(|_| bad())?;
    let mut words = line.split(' ');
    let (Some(method), Some(target), Some(version), None) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return Err(bad());
    };
    if !version.starts_with("HTTP/1.") {
        return Err(bad());
    }
    let method = match method {
        "GET" => Method::Get,
        "HEAD" => Method::Head,
        _ => return Err(Answer::text("405 Method Not Allowed", "only GET\n")),
    };
    Ok((method, target.split('?').next().unwrap_or_default()))
}

async fn write<S: AsyncWrite + Unpin>(
    stream: &mut S,
    method: Method,
    answer: &Answer,
) -> std::io::Result<()> {
    let mut bytes = format!(
        "HTTP/1.1 {}\r\ncontent-type: {}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        answer.status,
        answer.content_type,
        answer.body.len()
    );
    if method == Method::Get {
        bytes.push_str(&answer.body);
    }
    stream.write_all(bytes.as_bytes()).await?;
    stream.shutdown().await
}

#[cfg(test)]
mod tests {
    use super::*;

    struct One;

    impl Pages for One {
        fn page<'a>(
            &'a self,
            path: &'a str,
        ) -> Pin<Box<dyn Future<Output = Option<Answer>> + Send + 'a>> {
            Box::pin(async move { (path == "/healthz").then(|| Answer::text("200 OK", "ok\n")) })
        }
    }

    async fn check(request: &str, expect: &str) {
        let (client, server) = tokio::io::duplex(64 * 1024);
        let (mut from, mut to) = tokio::io::split(client);
        let served = converse(server, &One);
        let asked = async {
            let _ = to.write_all(request.as_bytes()).await;
            let mut answer = String::new();
            from.read_to_string(&mut answer).await.unwrap();
            answer
        };
        let (_, answer) = tokio::join!(served, asked);
        assert!(answer.starts_with(expect), "{request:?} got {answer:?}");
    }

    #[tokio::test]
    async fn requests_are_answered_with_the_status_they_earn() {
        check(
            "GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n",
            "HTTP/1.1 200 OK\r\n",
        )
        .await;
        check("GET /healthz?a=b HTTP/1.0\r\n\r\n", "HTTP/1.1 200 OK\r\n").await;
        check("GET /other HTTP/1.1\r\n\r\n", "HTTP/1.1 404 ").await;
        check("POST /healthz HTTP/1.1\r\n\r\n", "HTTP/1.1 405 ").await;
        check("PING\r\n\r\n", "HTTP/1.1 400 ").await;
        check(
            &format!("GET /{} HTTP/1.1\r\n", "a".repeat(2 * HEAD_MAX)),
            "HTTP/1.1 431 ",
        )
        .await;
    }
}
