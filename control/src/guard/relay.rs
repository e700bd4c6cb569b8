//! Bytes between target and source once the target has continued: as they come, in small pieces, read along.
//!
//! Each direction reads only when what it read before is written, so a source that cannot keep up slows the target's
//! sending and not our memory: two buffers a link.

use std::io;
use std::time::Duration;

use understudy_net::Socket;

use super::shared::Shared;

/// Bytes in flight in each direction.
const CHUNK: usize = 64 * 1024;
/// Longest silence of either side. The target pings every 10 s and the source acknowledges every second.
const SILENCE_MAX: Duration = Duration::from_secs(60);

/// Relays until one side ends, and says why it ended.
///
/// May be dropped at any time: both connections are to be closed then, and the source resumes where it was.
pub(super) async fn run(
    shared: &Shared,
    session: u64,
    target: &Socket,
    source: &Socket,
    first: &[u8],
) -> String {
    let down = async {
        shared.read(first);
        if let Err(cause) = write_all(source, first).await {
            return format!("the source's connection broke: {cause}");
        }
        shared.relayed(session, first.len() as u64);
        pump(target, source, ["target", "source"], |bytes| {
            shared.read(bytes);
            shared.relayed(session, bytes.len() as u64);
        })
        .await
    };
    let up = pump(source, target, ["source", "target"], |_| ());
    tokio::select! {
        why = down => why,
        why = up => why,
    }
}

async fn pump(
    from: &Socket,
    to: &Socket,
    names: [&str; 2],
    mut read_along: impl FnMut(&[u8]),
) -> String {
    let [from_name, to_name] = names;
    let mut chunk = vec![0; CHUNK];
    loop {
        let read = match tokio::time::timeout(SILENCE_MAX, read_some(from, &mut chunk)).await {
            Ok(Ok(0)) => return format!("the {from_name} closed the connection"),
            Ok(Ok(read)) => read,
            Ok(Err(cause)) => return format!("the {from_name}'s connection broke: {cause}"),
            Err(_) => {
                return format!(
                    "the {from_name} said nothing for {} s",
                    SILENCE_MAX.as_secs()
                );
            }
        };
        // Read before it is sent: nothing may be executed at the source that is not known here.
        read_along(&chunk[..read]);
        match tokio::time::timeout(SILENCE_MAX, write_all(to, &chunk[..read])).await {
            Ok(Ok(())) => {}
            Ok(Err(cause)) => return format!("the {to_name}'s connection broke: {cause}"),
            Err(_) => return format!("the {to_name} took nothing for {} s", SILENCE_MAX.as_secs()),
        }
    }
}

/// Cancel safe: what it has read it returns at once.
pub(super) async fn read_some(socket: &Socket, into: &mut [u8]) -> io::Result<usize> {
    loop {
        match socket.try_read(into) {
            Err(cause) if cause.kind() == io::ErrorKind::WouldBlock => socket.readable().await?,
            read => return read,
        }
    }
}

/// Not cancel safe: part of the bytes may be written.
pub(super) async fn write_all(socket: &Socket, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match socket.try_write(bytes) {
            Ok(written) => bytes = &bytes[written..],
            Err(cause) if cause.kind() == io::ErrorKind::WouldBlock => socket.writable().await?,
            Err(cause) => return Err(cause),
        }
    }
    Ok(())
}
