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

impl Shape {
    /// Bytes of one reply of a server.
    fn reply_bytes(self) -> usize {
        match self.operation {
            Operation::Get => format!("${}\r\n\r\n", self.size).len() + self.size,
            Operation::Set => "+OK\r\n".len(),
        }
    }
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

/// What one measurement of the load came to.
pub(crate) struct Done {
    /// Commands that were sent and answered in full.
    pub(crate) commands: u64,
    pub(crate) elapsed: Duration,
}

/// Sends commands over all connections for so long, and awaits every reply.
pub(crate) fn run(port: u16, shape: Shape, time: Duration, echoes: bool) -> Result<Done, String> {
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
        let started = Instant::now();
        let mut running = tokio::task::JoinSet::new();
        for (number, socket) in (0..).zip(sockets) {
            running.spawn(one(socket, shape, number, started + time, echoes));
        }
        let mut commands = 0;
        while let Some(ended) = running.join_next().await {
            commands += ended.map_err(|error| error.to_string())??;
        }
        Ok(Done {
            commands,
            elapsed: started.elapsed(),
        })
    })
}

/// Batch after batch until the time is over; answers how many commands they were.
async fn one(
    mut socket: TcpStream,
    shape: Shape,
    number: u64,
    until: Instant,
    echoes: bool,
) -> Result<u64, String> {
    let mut request = Vec::new();
    for index in 0..shape.pipeline {
        append(&mut request, shape, (number * 31 + index) % KEYS);
    }
    let replies = shape.reply_bytes() * shape.pipeline as usize;
    let expected = if echoes {
        // The floor moves what a server would: the larger of the two ways, there and back.
        request.resize(request.len().max(replies), b'x');
        request.len()
    } else {
        replies
    };
    let mut reply = vec![0; expected];
    let mut commands = 0;
    while Instant::now() < until {
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
        commands += shape.pipeline;
    }
    Ok(commands)
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
