//! A real server of our own: started on a free loopback port, ended when dropped.

use std::error::Error;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, ChildStdout, Command, Stdio};

use understudy_resp::encode;
use understudy_resp::scan::{ReplyScanner, ScanLimits};

use crate::value::Value;

/// A running server and one connection to it.
pub(crate) struct Server {
    /// `r62` and the like.
    pub(crate) name: &'static str,
    child: Child,
    stream: TcpStream,
    bytes: Vec<u8>,
    scanner: ReplyScanner,
    // Held open, so that the server can go on logging.
    _log: BufReader<ChildStdout>,
}

impl Server {
    /// Starts the binary and waits until it says that it accepts connections.
    pub(crate) fn start(
        name: &'static str,
        version: &str,
        binary: &str,
    ) -> Result<Server, Box<dyn Error>> {
        let port = TcpListener::bind("127.0.0.1:0")?
            .local_addr()?
            .port()
            .to_string();
        let mut child = Command::new(binary)
            .args([
                "--port",
                &port,
                "--bind",
                "127.0.0.1",
                "--save",
                "",
                "--appendonly",
                "no",
                "--dir",
            ])
            .arg(std::env::temp_dir())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| format!("start {binary}: {error}"))?;
        let mut log = BufReader::new(child.stdout.take().ok_or("no stdout")?);
        let mut line = String::new();
        while !line.contains("Ready to accept connections") {
            line.clear();
            if log.read_line(&mut line)? == 0 {
                child.kill()?;
                child.wait()?;
                return Err(format!("{binary} ended before it was ready").into());
            }
        }
        let stream = TcpStream::connect(format!("127.0.0.1:{port}"))?;
        let mut server = Server {
            name,
            child,
            stream,
            bytes: Vec::new(),
            scanner: ReplyScanner::new(),
            _log: log,
        };
        let info = server.call(&["INFO", "server"])?;
        let field = if name.starts_with('v') {
            "valkey_version:"
        } else {
            "redis_version:"
        };
        if !info
            .text()
            .lines()
            .any(|line| line.trim_end() == format!("{field}{version}"))
        {
            return Err(format!("{name}: {binary} is not version {version}").into());
        }
        Ok(server)
    }

    /// Sends one command and waits for its reply.
    pub(crate) fn call<T: AsRef<[u8]>>(&mut self, args: &[T]) -> Result<Value, Box<dyn Error>> {
        let mut request = Vec::new();
        encode::command(&mut request, args);
        self.stream.write_all(&request)?;
        loop {
            if let Some(frame) = self.scanner.scan(&self.bytes, &ScanLimits::default())? {
                let value = Value::read(&mut &self.bytes[..frame.len]);
                self.bytes.drain(..frame.len);
                return value;
            }
            let mut chunk = [0; 65536];
            let count = self.stream.read(&mut chunk)?;
            if count == 0 {
                return Err(format!("{} closed the connection", self.name).into());
            }
            self.bytes.extend_from_slice(&chunk[..count]);
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Both fail only if the process is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
