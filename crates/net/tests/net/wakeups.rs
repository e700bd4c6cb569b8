//! Nobody sleeps on bytes that are there.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::time::Duration;

use tokio::net::TcpStream;
use understudy_net::Socket;

/// Rounds of two small writes that race with the reads they wake.
const ROUNDS: usize = 30_000;
/// The peer writes this much in two pieces, then waits for one byte.
const ROUND_BYTES: usize = 64;
/// A round takes microseconds; a reader that sleeps on its bytes would wait for ever.
const STALLED: Duration = Duration::from_secs(10);

/// The reader runs beside the event loop of another thread, as control's do: an event that comes between a short read and
/// what the reader makes of it must not be forgotten.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_beside_a_short_read_still_wakes_the_reader() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let peer = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.set_nodelay(true).unwrap();
        let piece = [b'x'; ROUND_BYTES / 2];
        let mut acknowledgement = [0; 1];
        for _ in 0..ROUNDS {
            stream.write_all(&piece).unwrap();
            stream.write_all(&piece).unwrap();
            stream.read_exact(&mut acknowledgement).unwrap();
        }
    });
    let socket = Socket::tcp(TcpStream::connect(address).await.unwrap()).unwrap();
    let mut scratch = [0; 4096];
    for round in 0..ROUNDS {
        let mut missing = ROUND_BYTES;
        while missing > 0 {
            let ready = tokio::time::timeout(STALLED, socket.readable()).await;
            assert!(
                ready.is_ok(),
                "round {round}: {missing} bytes wait, and nobody was woken"
            );
            match socket.try_read(&mut scratch) {
                Ok(count) => missing -= count,
                Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock),
            }
        }
        assert_eq!(socket.try_write(b"k").unwrap(), 1);
    }
    peer.join().unwrap();
}
