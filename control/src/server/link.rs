//! The connection itself, and the operations of a cutover.

use std::time::Duration;

use understudy_net::{Client, ClientError, Endpoint, Greeting, Value};

use super::clients::ClientLine;
use super::error::ServerError;
use super::info::Info;
use super::observed::Observed;

/// The name of control's connections in CLIENT LIST.
pub const CONNECTION_NAME: &str = "understudy-control";
/// A key that nobody has: the fence is probed by deleting it, which changes nothing anywhere.
pub(super) const PROBE_KEY: &str = "understudy:no-such-key:76d0f0c1-probe-of-the-fence";

/// Whether the server keeps what it was told over a restart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rewrite {
    /// It is in its configuration file.
    Done,
    /// It has no such file, may not write it, or we may not ask; in the server's words.
    NotPossible(String),
}

/// What became of a harmless write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Probe {
    /// Executed: clients' writes are, too.
    Accepted,
    /// Refused because the server is a replica: the fence stands.
    ReadOnly,
    /// Refused for another reason, in the server's words. It proves nothing about the fence.
    Refused(String),
}

/// What a fence was seen to be.
#[derive(Debug, Clone, PartialEq)]
pub struct Fenced {
    /// Whether it outlives a restart.
    pub rewrite: Rewrite,
    /// What a write meets.
    pub probe: Probe,
    /// The server behind it, read last.
    pub seen: Observed,
}

/// What is known of the connection that `reconnect` replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Former {
    /// The server says it is gone: nothing that was sent on it can still be executed.
    Gone,
    /// The server may not be asked: something that was sent on it may still come.
    Unknown,
}

/// One ordered connection to one server.
pub struct ServerLink {
    endpoint: Endpoint,
    pub(super) address: String,
    client: Client,
    /// Our number at the server, where it tells.
    id: Option<i64>,
    /// Numbers of former connections that the server has not yet said to be gone.
    formers: Vec<i64>,
    connect_timeout: Duration,
}

impl ServerLink {
    /// Dials a `&BackendUrl` (or an `Endpoint`, which can say more about TLS) within `timeout`. Each later call has 5 s
    /// unless `set_timeout` says otherwise.
    pub async fn connect(
        server: impl Into<Endpoint>,
        timeout: Duration,
    ) -> Result<ServerLink, ServerError> {
        let endpoint = server.into();
        let (client, id) = dial(&endpoint, timeout).await?;
        Ok(ServerLink {
            address: endpoint.to_string(),
            endpoint,
            client,
            id,
            formers: Vec::new(),
            connect_timeout: timeout,
        })
    }

    /// Replaces the connection and kills the former one at the server, so that nothing on it overtakes what comes next.
    pub async fn reconnect(&mut self) -> Result<Former, ServerError> {
        let known = self.id.is_some();
        let (client, id) = dial(&self.endpoint, self.connect_timeout).await?;
        self.client = client;
        self.formers.extend(std::mem::replace(&mut self.id, id));
        while let Some(former) = self.formers.last() {
            let former = former.to_string();
            match self.raw(&["CLIENT", "KILL", "ID", &former]).await? {
                // 0: the server had seen its end already.
                Value::Integer(_) => drop(self.formers.pop()),
                _ => return Ok(Former::Unknown),
            }
        }
        Ok(if known { Former::Gone } else { Former::Unknown })
    }

    /// The server's address, without user and password.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Longest wait for one call's answers.
    pub fn set_timeout(&mut self, timeout: Duration) {
        self.client.set_timeout(timeout);
    }

    /// False after a call that was not finished: only `reconnect` helps.
    pub fn is_usable(&self) -> bool {
        self.client.is_usable()
    }

    /// Whether the server has ended the connection while nobody asked anything on it, as its `timeout` does.
    pub fn has_ended(&mut self) -> bool {
        self.client.has_ended()
    }

    /// What the server is now, in one round trip.
    pub async fn observe(&mut self) -> Result<Observed, ServerError> {
        let answer = self.ask(&["INFO", "everything"]).await?;
        self.observed(&answer)
    }

    /// Stops clients' writes for a while and reads the offset they stopped at, in one transaction: between the two no
    /// write can slip in. Ends by itself, and anybody can lift it: a bridge, not a fence.
    pub async fn pause_writes(&mut self, pause: Duration) -> Result<Observed, ServerError> {
        let milliseconds = pause.as_millis().to_string();
        let commands = [
            vec!["CLIENT", "PAUSE", &milliseconds, "WRITE"],
            vec!["INFO", "everything"],
        ];
        let answers = self
            .client
            .transaction(&commands)
            .await
            .map_err(|cause| self.lost(cause))?;
        if let Some(text) = answers.iter().find_map(Value::as_error) {
            return Err(self.refused("CLIENT PAUSE", text));
        }
        match answers.as_slice() {
            [paused, info] if paused.is_ok() => self.observed(info),
            other => Err(self.unexpected("CLIENT PAUSE", &format!("{other:?}"))),
        }
    }

    /// Lifts the pause: writers that wait are answered by what the server is now, at once.
    pub async fn unpause(&mut self) -> Result<(), ServerError> {
        self.ask(&["CLIENT", "UNPAUSE"]).await.map(drop)
    }

    /// Makes the server a replica of that address and reads its role back.
    pub async fn replicate_from(&mut self, host: &str, port: u16) -> Result<Observed, ServerError> {
        self.become_(&["REPLICAOF", host, &port.to_string()], "replica")
            .await
    }

    /// Makes the server a replica that refuses writes, lifts the pause, has it written down, tries a write, and reads the
    /// role back: in this order, in one round trip, since clients are held. A refusal ends in an error although what stands
    /// behind it was carried out; whoever fences undoes all of it.
    pub async fn fence(&mut self, host: &str, port: u16) -> Result<Fenced, ServerError> {
        let port = port.to_string();
        let commands: [&[&str]; 6] = [
            &["CONFIG", "SET", "replica-read-only", "yes"],
            &["REPLICAOF", host, &port],
            &["CLIENT", "UNPAUSE"],
            &["CONFIG", "REWRITE"],
            &["DEL", PROBE_KEY],
            &["INFO", "everything"],
        ];
        let answers = self.pipeline(&commands).await?;
        let Ok([read_only, followed, unpaused, rewritten, probed, info]) =
            <[Value; 6]>::try_from(answers)
        else {
            return Err(self.unexpected("REPLICAOF", "another number of answers"));
        };
        for (command, answer) in commands.iter().zip([read_only, followed, unpaused]) {
            if let Value::Error(text) = answer {
                return Err(self.refused(&command_name(command), &text));
            }
        }
        let seen = self.observed(&info)?;
        self.expect_role(&seen, "replica")?;
        Ok(Fenced {
            rewrite: rewrite(rewritten),
            probe: probe(probed),
            seen,
        })
    }

    /// Makes the server a primary and reads its role back.
    pub async fn promote(&mut self) -> Result<Observed, ServerError> {
        self.become_(&["REPLICAOF", "NO", "ONE"], "primary").await
    }

    /// Makes the server keep its settings, its role among them, over a restart.
    pub async fn rewrite_config(&mut self) -> Result<Rewrite, ServerError> {
        Ok(rewrite(self.raw(&["CONFIG", "REWRITE"]).await?))
    }

    /// Tries a write that changes nothing: the deletion of a key that is not there. Hangs while writes are paused.
    pub async fn probe_write(&mut self) -> Result<Probe, ServerError> {
        Ok(probe(self.raw(&["DEL", PROBE_KEY]).await?))
    }

    /// Settings whose names match a pattern.
    pub async fn config_get(
        &mut self,
        pattern: &str,
    ) -> Result<Vec<(String, String)>, ServerError> {
        let answer = self.ask(&["CONFIG", "GET", pattern]).await?;
        let texts: Vec<String> = answer
            .into_vec()
            .unwrap_or_default()
            .iter()
            .filter_map(Value::as_str_lossy)
            .collect();
        Ok(texts
            .chunks_exact(2)
            .map(|pair| (pair[0].clone(), pair[1].clone()))
            .collect())
    }

    /// Changes one setting.
    pub async fn config_set(&mut self, name: &str, value: &str) -> Result<(), ServerError> {
        self.ask(&["CONFIG", "SET", name, value]).await.map(drop)
    }

    /// Who is connected to the server, ourselves included.
    pub async fn client_list(&mut self) -> Result<Vec<ClientLine>, ServerError> {
        let answer = self.ask(&["CLIENT", "LIST"]).await?;
        Ok(ClientLine::parse_list(
            &answer.as_str_lossy().unwrap_or_default(),
        ))
    }

    /// The server's clock, in microseconds since 1970.
    pub async fn time(&mut self) -> Result<u64, ServerError> {
        let answer = self.ask(&["TIME"]).await?;
        let numbers: Vec<u64> = answer
            .as_slice()
            .unwrap_or_default()
            .iter()
            .filter_map(Value::as_i64)
            .map(i64::unsigned_abs)
            .collect();
        match numbers.as_slice() {
            [seconds, microseconds] => Ok(seconds * 1_000_000 + microseconds),
            _ => Err(self.unexpected("TIME", &format!("{answer:?}"))),
        }
    }

    /// Sends one command. An error reply is `Ok(Value::Error)`.
    pub async fn raw<A: AsRef<[u8]>>(&mut self, args: &[A]) -> Result<Value, ServerError> {
        self.client
            .call(args)
            .await
            .map_err(|cause| self.lost(cause))
    }

    /// Sends many commands at once. Error replies stand among the answers.
    pub async fn pipeline<C: AsRef<[A]>, A: AsRef<[u8]>>(
        &mut self,
        commands: &[C],
    ) -> Result<Vec<Value>, ServerError> {
        self.client
            .pipeline(commands)
            .await
            .map_err(|cause| self.lost(cause))
    }

    /// Sends commands as one MULTI … EXEC.
    pub async fn transaction<C: AsRef<[A]>, A: AsRef<[u8]>>(
        &mut self,
        commands: &[C],
    ) -> Result<Vec<Value>, ServerError> {
        self.client
            .transaction(commands)
            .await
            .map_err(|cause| self.lost(cause))
    }

    /// Sends one command; an error reply is an error.
    pub(super) async fn ask(&mut self, args: &[&str]) -> Result<Value, ServerError> {
        match self.raw(args).await? {
            Value::Error(text) => Err(self.refused(&command_name(args), &text)),
            answer => Ok(answer),
        }
    }

    async fn become_(
        &mut self,
        command: &[&str],
        wanted: &'static str,
    ) -> Result<Observed, ServerError> {
        let read_back = ["INFO", "everything"];
        let answers = self.pipeline(&[command, &read_back]).await?;
        let Ok([done, info]) = <[Value; 2]>::try_from(answers) else {
            return Err(self.unexpected("REPLICAOF", "another number of answers"));
        };
        if let Value::Error(text) = done {
            return Err(self.refused(&command_name(command), &text));
        }
        let seen = self.observed(&info)?;
        self.expect_role(&seen, wanted)?;
        Ok(seen)
    }

    fn expect_role(&self, seen: &Observed, wanted: &'static str) -> Result<(), ServerError> {
        match seen.role.name() == wanted {
            true => Ok(()),
            false => Err(ServerError::Role {
                server: self.address.clone(),
                wanted,
                found: seen.role.name().to_owned(),
            }),
        }
    }

    fn observed(&self, answer: &Value) -> Result<Observed, ServerError> {
        let text = answer.as_str_lossy().unwrap_or_default();
        Observed::from_info(&Info::parse(&text))
            .ok_or_else(|| self.unexpected("INFO", "a text without run_id and replid"))
    }

    fn lost(&self, cause: ClientError) -> ServerError {
        ServerError::Connection {
            server: self.address.clone(),
            cause,
        }
    }

    pub(super) fn refused(&self, command: &str, text: &str) -> ServerError {
        ServerError::Refused {
            server: self.address.clone(),
            command: command.to_owned(),
            text: text.to_owned(),
        }
    }

    pub(super) fn unexpected(&self, command: &str, what: &str) -> ServerError {
        ServerError::Unexpected {
            server: self.address.clone(),
            command: command.to_owned(),
            what: what.to_owned(),
        }
    }
}

fn rewrite(answer: Value) -> Rewrite {
    match answer {
        Value::Error(text) => Rewrite::NotPossible(text),
        _ => Rewrite::Done,
    }
}

fn probe(answer: Value) -> Probe {
    match answer {
        Value::Error(text) if text.starts_with("READONLY ") => Probe::ReadOnly,
        Value::Error(text) => Probe::Refused(text),
        _ => Probe::Accepted,
    }
}

async fn dial(
    endpoint: &Endpoint,
    timeout: Duration,
) -> Result<(Client, Option<i64>), ServerError> {
    let lost = |cause| ServerError::Connection {
        server: endpoint.to_string(),
        cause,
    };
    let greeting = Greeting {
        db: endpoint.db(),
        name: Some(CONNECTION_NAME.to_owned()),
        ..Greeting::default()
    };
    let mut client = Client::connect_as(endpoint, &greeting, timeout)
        .await
        .map_err(lost)?;
    let id = client.call(&["CLIENT", "ID"]).await.map_err(lost)?.as_i64();
    Ok((client, id))
}

/// Two words at most: arguments may be secret.
fn command_name(args: &[&str]) -> String {
    let words = match args.first() {
        Some(&("CONFIG" | "CLIENT" | "ACL" | "FUNCTION")) => 2,
        _ => 1,
    };
    args[..words.min(args.len())].join(" ")
}
