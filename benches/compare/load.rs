//! The load: connections that each send a batch, await its replies, and send the next.
//!
//! Every reply has a known length, so the load counts bytes and parses nothing: it must cost less than what it measures.

use std::fmt;
use std::io::{Read, Write};
use std::net::TcpStream as BlockingStream;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Keys that the load touches.
const KEYS: u64 = 1_000;

#[derive(Clone, Copy, Debug)]
pub(crate) enum Operation {
    Get,
    Set,
}

/// One row of the comparison.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    pub(crate) operation: Operation,
    pub(crate) size: usize,
    pub(crate) pipeline: u64,
    pub(crate) connections: u64,
}

impl fmt::Display for Shape {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let operation = match self.operation {
            Operation::Get => "GET",
            Operation::Set => "SET",
        };
        write!(
            out,
            "{operation} {} bytes, pipeline {}",
            self.size, self.pipeline
        )
    }
}

/// Writes the keys that GET will read, straight to the server.
pub(crate) fn prepare(port: u16, shape: Shape) -> Result<(), String> {
    let set = Shape {
        operation: Operation::Set,
        ..shape
    };
    let mut socket = BlockingStream::connect(("127.0.0.1", port))
        .map_err(|error| format!("connect to the server: {error}"))?;
    for key in 0..KEYS {
        let mut request = Vec::new();
        append(&mut request, set, key);
        socket
            .write_all(&request)
            .map_err(|error| format!("fill: {error}"))?;
        let mut reply = [0; 5];
        socket
            .read_exact(&mut reply)
            .map_err(|error| format!("fill: {error}"))?;
    }
    Ok(())
}

/// Sends at least `count` commands over all connections and awaits every reply; answers how long it took.
pub(crate) fn run(port: u16, shape: Shape, count: u64, echoes: bool) -> Result<Duration, String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| error.to_string())?;
    runtime.block_on(async {
        let mut sockets = Vec::new();
        for _ in 0..shape.connections {
            let socket = TcpStream::connect(("127.0.0.1", port))
                .await
                .map_err(|error| format!("connect to port {port}: {error}"))?;
            socket
                .set_nodelay(true)
                .map_err(|error| error.to_string())?;
            sockets.push(socket);
        }
        let batches = (count / shape.pipeline / shape.connections).max(1);
        let started = Instant::now();
        let mut running = tokio::task::JoinSet::new();
        for (number, socket) in (0..).zip(sockets) {
            running.spawn(one(socket, shape, number, batches, echoes));
        }
        while let Some(ended) = running.join_next().await {
            ended.map_err(|error| error.to_string())??;
        }
        Ok(started.elapsed())
    })
}

async fn one(
    mut socket: TcpStream,
    shape: Shape,
    number: u64,
    batches: u64,
    echoes: bool,
) -> Result<(), String> {
    let mut request = Vec::new();
    for index in 0..shape.pipeline {
        append(&mut request, shape, (number * 31 + index) % KEYS);
    }
    let one_reply = match shape.operation {
        Operation::Get => format!("${}\r\n\r\n", shape.size).len() + shape.size,
        Operation::Set => "+OK\r\n".len(),
    };
    let expected = if echoes {
        request.len()
    } else {
        one_reply * shape.pipeline as usize
    };
    let mut reply = vec![0; expected];
    for _ in 0..batches {
        socket
            .write_all(&request)
            .await
            .map_err(|error| format!("send: {error}"))?;
        socket
            .read_exact(&mut reply)
            .await
            .map_err(|error| format!("receive: {error}"))?;
        if !echoes && reply[0] == b'-' {
            return Err(format!(
                "the server answered {}",
                String::from_utf8_lossy(&reply)
            ));
        }
    }
    Ok(())
}

fn append(request: &mut Vec<u8>, shape: Shape, key: u64) {
    let key = format!("key:{key:08}");
    match shape.operation {
        Operation::Get => {
            request.extend_from_slice(
                format!("*2\r\n$3\r\nGET\r\n${}\r\n{key}\r\n", key.len()).as_bytes(),
            );
        }
        Operation::Set => {
            request.extend_from_slice(
                format!(
                    "*3\r\n$3\r\nSET\r\n${}\r\n{key}\r\n${}\r\n",
                    key.len(),
                    shape.size
                )
                .as_bytes(),
            );
            request.extend(std::iter::repeat_n(b'x', shape.size));
            request.extend_from_slice(b"\r\n");
        }
    }
}
