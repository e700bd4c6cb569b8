//! A target that says what the test wants it to say.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use understudy_config::BackendUrl;
use understudy_resp::scan::{RequestScanner, Scan, ScanLimits};

/// What it answers, and what it was asked.
pub(crate) struct Fake {
    pub(crate) url: BackendUrl,
    pub(crate) asked: Arc<Asked>,
    serving: JoinHandle<()>,
}

#[derive(Default)]
pub(crate) struct Asked {
    pub(crate) psyncs: AtomicUsize,
    /// Every command but INFO, upper case, arguments included.
    pub(crate) all: Mutex<Vec<String>>,
}

/// The history it pretends to have.
#[derive(Clone)]
pub(crate) struct History {
    pub(crate) replid: String,
    pub(crate) next_offset: u64,
}

impl Fake {
    /// Pretends to have been promoted at the end of this history, and answers PSYNC with these pieces, each in a write
    /// of its own; then says nothing more, and reads on.
    pub(crate) async fn start(history: History, pieces: Vec<Vec<u8>>) -> Fake {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = BackendUrl::tcp("127.0.0.1", listener.local_addr().unwrap().port());
        let asked = Arc::new(Asked::default());
        let script = Arc::new((history, pieces, asked.clone()));
        let serving = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let script = script.clone();
                tokio::spawn(async move { serve(stream, &script.0, &script.1, &script.2).await });
            }
        });
        Fake {
            url,
            asked,
            serving,
        }
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn serve(mut stream: TcpStream, history: &History, pieces: &[Vec<u8>], asked: &Asked) {
    stream.set_nodelay(true).unwrap();
    let mut inbox = Vec::new();
    let mut scanner = RequestScanner::new();
    loop {
        while !inbox.is_empty() {
            let Scan::Complete { len } = scanner.scan(&inbox, &ScanLimits::default()).unwrap()
            else {
                break;
            };
            let args: Vec<String> = (0..scanner.args().len())
                .map(|index| {
                    String::from_utf8_lossy(scanner.arg(&inbox, index)).to_ascii_uppercase()
                })
                .collect();
            inbox.drain(..len);
            if args[0] != "INFO" {
                asked.all.lock().unwrap().push(args.join(" "));
            }
            match args[0].as_str() {
                "INFO" => {
                    let info = info(history);
                    let reply = format!("${}\r\n{info}\r\n", info.len());
                    let _gone = stream.write_all(reply.as_bytes()).await;
                }
                "PSYNC" => {
                    asked.psyncs.fetch_add(1, Ordering::SeqCst);
                    for piece in pieces {
                        let _gone = stream.write_all(piece).await;
                        tokio::task::yield_now().await;
                    }
                }
                "REPLCONF" if args[1] == "ACK" => {}
                _ => {
                    let _gone = stream.write_all(b"+OK\r\n").await;
                }
            }
        }
        if !matches!(stream.read_buf(&mut inbox).await, Ok(1..)) {
            return;
        }
    }
}

fn info(history: &History) -> String {
    let History {
        replid,
        next_offset,
    } = history;
    let own = "f".repeat(40);
    format!(
        "redis_version:8.2.3\r\nrun_id:fake\r\nrole:master\r\nmaster_replid:{own}\r\nmaster_replid2:{replid}\r\n\
         master_repl_offset:{}\r\nsecond_repl_offset:{next_offset}\r\nrepl_backlog_active:1\r\n\
         repl_backlog_size:1048576\r\nrepl_backlog_first_byte_offset:1\r\nrepl_backlog_histlen:{}\r\n",
        next_offset - 1,
        next_offset - 1,
    )
}
