//! The floor: a bare tokio echo server on one thread. What it costs is what sockets cost.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
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

async fn echo(mut socket: TcpStream) {
    let mut scratch = vec![0; 64 * 1024];
    while let Ok(count @ 1..) = socket.read(&mut scratch).await {
        if socket.write_all(&scratch[..count]).await.is_err() {
            return;
        }
    }
}
