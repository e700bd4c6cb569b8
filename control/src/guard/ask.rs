//! The target's side: may it continue what the source asks, and does it say so?

use std::io;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use understudy_net::{Client, Greeting, Socket, Value};
use understudy_resp::encode;

use super::handshake::{Psync, is_replid};
use super::relay::write_all;
use super::shared::{Barred, Shared};
use crate::server::{Info, Observed};

/// Longest wait for one answer of the target while the source waits for us.
const ANSWER_MAX: Duration = Duration::from_secs(10);
/// Longest line that a PSYNC may be answered with, in bytes.
const LINE_MAX: usize = 1024;

/// A target that has said `+CONTINUE`.
pub(super) struct Continued {
    pub(super) target: Socket,
    /// Its answer as it came, line end included.
    pub(super) line: Bytes,
    /// Bytes of the stream that came right behind it.
    pub(super) stream: BytesMut,
}

/// Why the source gets nothing.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) why: String,
    /// True when the target was only not there to be asked: it may say otherwise the next time.
    pub(super) passing: bool,
}

impl Refusal {
    fn passing(why: impl Into<String>) -> Refusal {
        Refusal {
            why: why.into(),
            passing: true,
        }
    }

    fn lasting(why: impl Into<String>) -> Refusal {
        Refusal {
            why: why.into(),
            passing: false,
        }
    }
}

/// A connection to the target on which nothing is asked yet. Made while the source is parked, so that fewer round trips
/// stand between the promotion and the proof of the way back.
pub(super) async fn prepare(shared: &Shared) -> Result<Client, String> {
    let connecting = Client::connect_as(&shared.target, &Greeting::default(), ANSWER_MAX).await;
    let mut client = connecting.map_err(|cause| format!("the target cannot be asked: {cause}"))?;
    client.set_timeout(ANSWER_MAX);
    Ok(client)
}

/// Asks the target, if it can be hoped to continue. `Err` says why the source gets nothing.
///
/// Not cancel safe towards the target, which may have begun to serve us; dropping closes that connection.
pub(super) async fn ask(
    shared: &Shared,
    prepared: Option<Client>,
    request: &Psync,
) -> Result<Continued, Refusal> {
    let _one_at_a_time = shared.asking.lock().await;
    let early = match prepared {
        // What was prepared may have been closed since; nothing was begun on it.
        Some(mut client) => introduce(&mut client)
            .await
            .ok()
            .map(|target| (client, target)),
        None => None,
    };
    let (client, target) = match early {
        Some(introduced) => introduced,
        None => {
            let mut client = prepare(shared).await.map_err(Refusal::passing)?;
            let target = introduce(&mut client).await.map_err(Refusal::passing)?;
            (client, target)
        }
    };
    // One that loads, or that somebody demoted, may yet be the primary that it was; a history does not come back.
    let passing = target.loading || !target.is_primary();
    can_continue(request, &target).map_err(|why| Refusal { why, passing })?;
    let barred = shared
        .barred()
        .filter(|it| it.run_id == target.run_id && it.request == *request);
    if let Some(barred) = barred {
        let why = format!("{}; it is not asked again", barred.why);
        return Err(Refusal::lasting(why));
    }
    let (stream, inbox) = client.into_parts();
    let socket = stream
        .into_socket()
        .filter(|_| inbox.is_empty())
        .ok_or_else(|| Refusal::passing("the target speaks unasked"))?;
    match psync(&socket, request).await {
        Ok((line, stream)) => Ok(Continued {
            target: socket,
            line,
            stream,
        }),
        Err(Turned::ForNow(why)) => Err(Refusal::passing(why)),
        Err(Turned::ForGood(why)) => {
            // Closed before anything else: a target that gathers replicas for one copy forks for us only if we stay.
            drop(socket);
            shared.bar(Barred {
                run_id: target.run_id,
                request: request.clone(),
                why: why.clone(),
            });
            Err(Refusal::lasting(why))
        }
    }
}

/// Says what a replica says, and reads what the target is, in one round trip. Never `listening-port`: a Sentinel that watches
/// the target would find the source by it, and send it to the target past the guard, where a full copy wipes it (seen with
/// 7.0: `+fix-slave-config` a second after it came).
async fn introduce(client: &mut Client) -> Result<Observed, String> {
    // One option a command: an unknown one spoils the rest of its command. Never dual-channel or rdb-channel-repl.
    let commands = [
        vec!["INFO", "everything"],
        vec!["REPLCONF", "capa", "eof"],
        vec!["REPLCONF", "capa", "psync2"],
    ];
    let answers = client
        .pipeline(&commands)
        .await
        .map_err(|cause| format!("the target cannot be asked: {cause}"))?;
    for (command, answer) in commands.iter().zip(&answers) {
        if let Value::Error(text) = answer {
            return Err(format!("the target refuses {}: {text}", command[0]));
        }
    }
    let info = answers
        .first()
        .and_then(Value::as_str_lossy)
        .unwrap_or_default();
    Observed::from_info(&Info::parse(&info))
        .ok_or_else(|| "the target's INFO names no history".to_owned())
}

/// Whether PSYNC can only be answered with `+CONTINUE`: what the target itself will check (replication.c,
/// `masterTryPartialResynchronization`), seen from outside. Where it cannot, asking would make it fork. Pure.
pub(super) fn can_continue(request: &Psync, target: &Observed) -> Result<(), String> {
    let Psync { replid, offset } = request;
    if target.loading {
        return Err("the target is loading its data".to_owned());
    }
    if !target.is_primary() {
        return Err("the target is a replica".to_owned());
    }
    let current = *replid == target.replid;
    let former = *replid == target.replid2;
    if !current && !former {
        return Err(format!(
            "the target has another history: {replid} is asked for, it has {}",
            target.replid
        ));
    }
    if !current && i128::from(*offset) > i128::from(target.second_offset) {
        return Err(format!(
            "the source went past the point where the histories parted: it asks from {offset}, they parted at {}",
            target.second_offset
        ));
    }
    let backlog = target.backlog;
    let end = backlog.first_byte.saturating_add(backlog.histlen);
    if !backlog.active {
        return Err("the target keeps no backlog".to_owned());
    }
    if *offset < backlog.first_byte || *offset > end {
        return Err(format!(
            "the target's backlog holds {} to {end}, the source asks from {offset}",
            backlog.first_byte
        ));
    }
    Ok(())
}

/// A PSYNC that was not continued.
#[derive(Debug)]
enum Turned {
    /// Nothing was begun: it may be asked again.
    ForNow(String),
    /// The target began something else.
    ForGood(String),
}

async fn psync(target: &Socket, request: &Psync) -> Result<(Bytes, BytesMut), Turned> {
    let mut command = Vec::new();
    encode::command(
        &mut command,
        &["PSYNC", &request.replid, &request.offset.to_string()],
    );
    let broken = |cause: io::Error| {
        Turned::ForNow(format!("the target's connection broke at PSYNC: {cause}"))
    };
    write_all(target, &command).await.map_err(broken)?;
    let mut inbox = BytesMut::new();
    loop {
        // Bare line ends keep the connection alive and are no answer.
        while inbox.first() == Some(&b'\n') {
            let _keep_alive = inbox.split_to(1);
        }
        if let Some(end) = inbox.iter().position(|byte| *byte == b'\n') {
            let line = inbox.split_to(end + 1).freeze();
            return judge(&line).map(|()| (line, inbox));
        }
        if inbox.len() > LINE_MAX {
            return Err(Turned::ForGood(
                "the target answered PSYNC with a line without end".to_owned(),
            ));
        }
        inbox.reserve(LINE_MAX);
        match target.try_read_buf(&mut inbox) {
            Ok(0) => return Err(broken(io::ErrorKind::UnexpectedEof.into())),
            Ok(_) => {}
            Err(cause) if cause.kind() == io::ErrorKind::WouldBlock => {
                let ready = tokio::time::timeout(ANSWER_MAX, target.readable()).await;
                // A target that waits this long gathers replicas for a diskless copy: it is a full resync.
                ready
                    .map_err(|_| Turned::ForGood("the target does not answer PSYNC".to_owned()))?
                    .map_err(broken)?;
            }
            Err(cause) => return Err(broken(cause)),
        }
    }
}

/// The whitelist: `+CONTINUE`, alone or with a replid. Pure.
fn judge(line: &[u8]) -> Result<(), Turned> {
    let text = String::from_utf8_lossy(line);
    let text = text.trim_end_matches(['\r', '\n']);
    let shown: String = text.chars().take(120).collect();
    match text.split(' ').collect::<Vec<_>>().as_slice() {
        ["+CONTINUE"] => Ok(()),
        ["+CONTINUE", replid] if is_replid(replid) => Ok(()),
        ["-NOMASTERLINK" | "-LOADING" | "-MASTERDOWN" | "-BUSY", ..] => {
            Err(Turned::ForNow(format!("the target answered {shown}")))
        }
        _ => Err(Turned::ForGood(format!("the target answered {shown}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::{Backlog, Role};

    fn target() -> Observed {
        let info = "redis_version:8.2.3\r\nrun_id:r\r\nrole:master\r\nmaster_repl_offset:200\r\nsecond_repl_offset:101\r\n\
            repl_backlog_active:1\r\nrepl_backlog_size:1000\r\nrepl_backlog_first_byte_offset:51\r\nrepl_backlog_histlen:150\r\n";
        let info = format!(
            "{info}master_replid:{}\r\nmaster_replid2:{}\r\n",
            "a".repeat(40),
            "b".repeat(40)
        );
        Observed::from_info(&Info::parse(&info)).unwrap()
    }

    #[track_caller]
    fn check(
        replid: &str,
        offset: u64,
        change: impl FnOnce(&mut Observed),
        expect: Result<(), &str>,
    ) {
        let mut target = target();
        change(&mut target);
        let found = can_continue(
            &Psync {
                replid: replid.repeat(40),
                offset,
            },
            &target,
        );
        match expect {
            Ok(()) => assert_eq!(found, Ok(())),
            Err(part) => assert!(found.clone().unwrap_err().contains(part), "{found:?}"),
        }
    }

    #[test]
    fn the_target_is_asked_only_where_it_can_continue() {
        check("a", 201, |_| (), Ok(()));
        check("a", 51, |_| (), Ok(()));
        check("b", 101, |_| (), Ok(()));
        check("b", 102, |_| (), Err("went past the point"));
        check("c", 101, |_| (), Err("another history"));
        check("a", 50, |_| (), Err("backlog holds 51 to 201"));
        check("a", 202, |_| (), Err("backlog holds 51 to 201"));
        check(
            "a",
            201,
            |target| target.backlog = Backlog::default(),
            Err("no backlog"),
        );
        check("a", 201, |target| target.loading = true, Err("loading"));
        check(
            "b",
            101,
            |target| target.second_offset = -1,
            Err("went past the point"),
        );
        let replica = Role::Replica {
            primary_host: String::new(),
            primary_port: 0,
            link_up: true,
            sync_in_progress: false,
            applied_offset: 0,
            priority: 0,
            read_only: true,
        };
        check(
            "a",
            201,
            |target| target.role = replica,
            Err("is a replica"),
        );
    }

    #[test]
    fn nothing_but_continue_is_taken_for_it() {
        let good = [
            format!("+CONTINUE {}\r\n", "a".repeat(40)),
            "+CONTINUE\r\n".to_owned(),
            "+CONTINUE\n".to_owned(),
        ];
        for line in good {
            assert!(judge(line.as_bytes()).is_ok(), "{line:?}");
        }
        for line in [
            "-NOMASTERLINK Can't SYNC while not connected with my master\r\n",
            "-LOADING x\r\n",
        ] {
            assert!(
                matches!(judge(line.as_bytes()), Err(Turned::ForNow(_))),
                "{line:?}"
            );
        }
        let full = format!("+FULLRESYNC {} 1\r\n", "a".repeat(40));
        let bad = [
            full.as_str(),
            "+DUALCHANNELSYNC\r\n",
            "+RDBCHANNELSYNC 7\r\n",
            "-ERR unknown command 'PSYNC'\r\n",
            "$0\r\n",
            "+CONTINUED\r\n",
            "+CONTINUE x\r\n",
            "+CONTINUE  \r\n",
            " +CONTINUE\r\n",
            "+OK\r\n",
            "\r\n",
            "$EOF:x\r\n",
        ];
        for line in bad {
            assert!(
                matches!(judge(line.as_bytes()), Err(Turned::ForGood(_))),
                "{line:?}"
            );
        }
    }
}
