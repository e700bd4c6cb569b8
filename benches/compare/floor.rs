//! The floor: a bare tokio echo server on one thread. What it costs is what sockets cost.

use tokio::net::{TcpListener, TcpStream};

/// Serves 127.0.0.1:`port` for ever.
pub(crate) fn serve(port: &str) -> ! {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let outcome = runtime.and_then(|runtime| runtime.block_on(accept(port)));
    eprintln!("floor: {outcome:?}");
    std::process::exit(1)
}

async fn accept(port: &str) -> std::io::Result<()> {
    let listener = TcpListener::bind(format!("127.0.0.1:{port}")).await?;
    loop {
        let (socket, _) = listener.accept().await?;
        socket.set_nodelay(true)?;
        tokio::spawn(echo(socket));
    }
}

async fn echo(socket: TcpStream) {
    let mut scratch = vec![0; 64 * 1024];
    while socket.readable().await.is_ok() {
        match socket.try_read(&mut scratch) {
            Ok(0) => return,
            Ok(count) => {
                if write(&socket, &scratch[..count]).await.is_err() {
                    return;
                }
            }
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(_) => return,
        }
    }
}

async fn write(socket: &TcpStream, mut bytes: &[u8]) -> std::io::Result<()> {
    while !bytes.is_empty() {
        match socket.try_write(bytes) {
            Ok(count) => bytes = &bytes[count..],
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                socket.writable().await?
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
