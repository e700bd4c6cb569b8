//! Which process of this machine opened a connection, as the kernel tells it.

use std::sync::{Mutex, PoisonError};

/// The client's end of one relayed connection.
#[derive(Debug)]
pub(super) struct Owner {
    /// The client's port and ours: two connections may share either.
    ports: (u16, u16),
    /// What was found out while the connection was surely open: a socket that is closed belongs to nobody.
    known: Mutex<Option<(u32, bool)>>,
}

impl Owner {
    pub(super) fn new(client: u16, relay: u16) -> Owner {
        Owner {
            ports: (client, relay),
            known: Mutex::new(None),
        }
    }

    /// Whether this process has the connection open, or had it when it was first asked about.
    pub(super) fn is(&self, process: u32) -> bool {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        match *known {
            Some((asked, answer)) if asked == process => answer,
            _ => {
                let answer = has_open(process, self.ports);
                *known = Some((process, answer));
                answer
            }
        }
    }
}

/// Whether the process has the TCP socket of these ports: its number in the kernel's table is among its open files.
fn has_open(process: u32, (client, relay): (u16, u16)) -> bool {
    // The table has a line for every socket of the machine, closed ones of the last minute included: searched as text.
    let table = std::fs::read_to_string(format!("/proc/{process}/net/tcp")).unwrap_or_default();
    let ends = format!("0100007F:{client:04X} 0100007F:{relay:04X} ");
    // State, queues, timers, retransmits, user and timeout stand between the two ends and the socket's number.
    let number = table
        .split_once(&ends)
        .and_then(|(_, rest)| rest.split_whitespace().nth(6));
    let Some(number) = number else { return false };
    let socket = format!("socket:[{number}]");
    let files = std::fs::read_dir(format!("/proc/{process}/fd"));
    files
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|file| std::fs::read_link(file.path()).ok())
        .any(|link| link.as_os_str() == socket.as_str())
}
