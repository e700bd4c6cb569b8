//! Reads keys off one server: values, expiries and the replication offset of one moment, in one transaction.

use std::time::Duration;

use tokio::time::Instant;
use understudy_config::BackendUrl;
use understudy_net::{Client, ClientError, Endpoint, Value};

use super::info;
use super::judge::KeyState;
use super::outcome::{KeyRef, VerifyError};
use super::reading::{Position, Reading};

/// Between the first two looks at a target that lags; each later wait is twice as long, up to `LAG_LOOK_MAX`.
const LAG_LOOK: Duration = Duration::from_millis(1);
/// Longest wait between two looks at a target that lags.
const LAG_LOOK_MAX: Duration = Duration::from_millis(20);

/// One of the two servers.
pub(crate) struct Side {
    name: String,
    client: Client,
    timeout: Duration,
    db: Option<u32>,
    expiries: Expiries,
    pub(crate) version: (u32, u32, u32),
}

/// How a server tells when a key expires.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Expiries {
    /// PEXPIRETIME, since 7.0.
    Absolute,
    /// PTTL, beside the server's own TIME.
    Relative,
}

impl Side {
    pub(crate) async fn connect(url: &BackendUrl, timeout: Duration) -> Result<Self, VerifyError> {
        let name = url.address();
        let endpoint = Endpoint::from(url).with_db(0);
        let ask = |cause| VerifyError::Ask {
            server: name.clone(),
            what: "a connection",
            cause,
        };
        let mut client = Client::connect(&endpoint, timeout).await.map_err(ask)?;
        client.set_timeout(timeout);
        let mut side = Self {
            name,
            client,
            timeout,
            db: Some(0),
            expiries: Expiries::Relative,
            version: (0, 0, 0),
        };
        let info = side.info("server").await?;
        side.version = info::version(&info).ok_or_else(|| side.nonsense("INFO server"))?;
        side.expiries = if side.version >= (7, 0, 0) {
            Expiries::Absolute
        } else {
            Expiries::Relative
        };
        // Our reads must not make cold keys look used, nor cost a client its connection. Older servers know neither.
        for courtesy in [["CLIENT", "NO-EVICT", "on"], ["CLIENT", "NO-TOUCH", "on"]] {
            side.ask("a courtesy", &courtesy).await?;
        }
        Ok(side)
    }

    pub(crate) fn replicates_relative_expiries(&self) -> bool {
        self.expiries == Expiries::Relative
    }

    pub(crate) async fn info(&mut self, section: &str) -> Result<String, VerifyError> {
        let answer = self.ask("INFO", &["INFO", section]).await?;
        let answer = self.accepted("INFO", answer)?;
        answer.as_str_lossy().ok_or_else(|| self.nonsense("INFO"))
    }

    /// One page of keys, and the cursor of the next; 0 after the last one.
    pub(crate) async fn scan(
        &mut self,
        db: u32,
        cursor: u64,
        count: usize,
    ) -> Result<(u64, Vec<KeyRef>), VerifyError> {
        self.select(db).await?;
        let answer = self
            .ask(
                "SCAN",
                &["SCAN", &cursor.to_string(), "COUNT", &count.to_string()],
            )
            .await?;
        let page = self
            .accepted("SCAN", answer)?
            .into_vec()
            .unwrap_or_default();
        let Ok([next, keys]) = <[Value; 2]>::try_from(page) else {
            return Err(self.nonsense("SCAN"));
        };
        let next = next
            .as_str_lossy()
            .and_then(|next| next.parse().ok())
            .ok_or_else(|| self.nonsense("SCAN"))?;
        let keys = keys
            .into_vec()
            .unwrap_or_default()
            .into_iter()
            .filter_map(Value::into_bytes);
        Ok((
            next,
            keys.map(|key| KeyRef {
                db,
                key: key.to_vec(),
            })
            .collect(),
        ))
    }

    /// Which of these keys, all of one database, do not exist here.
    pub(crate) async fn absent(&mut self, keys: Vec<KeyRef>) -> Result<Vec<KeyRef>, VerifyError> {
        let Some(first) = keys.first() else {
            return Ok(keys);
        };
        self.select(first.db).await?;
        let commands: Vec<[&[u8]; 2]> = keys.iter().map(|key| [&b"EXISTS"[..], &key.key]).collect();
        let answers = self
            .client
            .pipeline(&commands)
            .await
            .map_err(|cause| self.lost("EXISTS", cause))?;
        let mut absent = Vec::new();
        for (key, answer) in keys.into_iter().zip(answers) {
            if self.accepted("EXISTS", answer)?.as_i64() == Some(0) {
                absent.push(key);
            }
        }
        Ok(absent)
    }

    /// Values and expiries of keys, all of one database, at one moment.
    pub(crate) async fn read(&mut self, keys: &[KeyRef]) -> Result<Reading, VerifyError> {
        let reading = self.read_watched(keys).await?;
        reading.ok_or_else(|| self.nonsense("EXEC"))
    }

    /// From here until the next reading on this connection, whoever touches one of these keys is noticed.
    pub(crate) async fn watch(&mut self, keys: &[KeyRef]) -> Result<Position, VerifyError> {
        const WHAT: &str = "WATCH";
        if let Some(first) = keys.first() {
            self.select(first.db).await?;
        }
        let mut watch: Vec<&[u8]> = vec![b"WATCH"];
        watch.extend(keys.iter().map(|key| &key.key[..]));
        let answers = self
            .pipeline(WHAT, &[&watch, &[b"INFO", b"replication"]])
            .await?;
        let mut position = None;
        for answer in answers {
            let answer = self.accepted(WHAT, answer)?;
            position = answer
                .as_str_lossy()
                .and_then(|info| Position::parse(&info));
        }
        position.ok_or_else(|| self.nonsense("INFO replication"))
    }

    /// As `read`, but `None` if one of the watched keys was touched.
    pub(crate) async fn read_watched(
        &mut self,
        keys: &[KeyRef],
    ) -> Result<Option<Reading>, VerifyError> {
        const WHAT: &str = "keys with their expiries";
        if let Some(first) = keys.first() {
            self.select(first.db).await?;
        }
        let expiry_command: &[u8] = match self.expiries {
            Expiries::Absolute => b"PEXPIRETIME",
            Expiries::Relative => b"PTTL",
        };
        // The expiries stand together and beside TIME: a large DUMP between them would shift what is relative.
        let mut commands: Vec<Vec<&[u8]>> = vec![vec![b"MULTI"], vec![b"TIME"]];
        commands.extend(keys.iter().map(|key| vec![expiry_command, &key.key]));
        commands.extend(keys.iter().map(|key| vec![&b"DUMP"[..], &key.key]));
        commands.push(vec![b"INFO", b"replication"]);
        commands.push(vec![b"EXEC"]);
        let queued = commands.len() - 2;
        let answers = self
            .client
            .pipeline(&commands)
            .await
            .map_err(|cause| self.lost(WHAT, cause))?;
        let mut executed = Value::Null;
        for answer in answers {
            executed = self.accepted(WHAT, answer)?; // A command that was refused when it was queued says why.
        }
        if executed == Value::Null {
            return Ok(None);
        }
        let mut accepted = Vec::with_capacity(queued);
        for answer in executed.into_vec().unwrap_or_default() {
            accepted.push(self.accepted(WHAT, answer)?);
        }
        if accepted.len() != queued {
            return Err(self.nonsense(WHAT));
        }
        self.reading(accepted, keys.len()).map(Some)
    }

    /// TIME, expiries, values, INFO.
    fn reading(&self, mut answers: Vec<Value>, keys: usize) -> Result<Reading, VerifyError> {
        let info = answers
            .pop()
            .and_then(|info| info.as_str_lossy())
            .unwrap_or_default();
        let position = Position::parse(&info).ok_or_else(|| self.nonsense("INFO replication"))?;
        let payloads = answers.split_off(1 + keys);
        let expiries = answers.split_off(1);
        let now_ms = answers
            .first()
            .and_then(millis)
            .ok_or_else(|| self.nonsense("TIME"))?;
        let mut reading = Reading {
            states: Vec::with_capacity(keys),
            now_ms,
            position,
            bytes: 0,
        };
        for (expiry, payload) in expiries.into_iter().zip(payloads) {
            let expiry = expiry.as_i64().ok_or_else(|| self.nonsense("an expiry"))?;
            let expiry_ms = match self.expiries {
                _ if expiry < 0 => None,
                Expiries::Absolute => Some(expiry),
                Expiries::Relative => Some(now_ms.saturating_add(expiry)),
            };
            let state = payload
                .into_bytes()
                .map(|payload| KeyState { payload, expiry_ms });
            reading.bytes += state.as_ref().map_or(0, |state| state.payload.len());
            reading.states.push(state);
        }
        Ok(reading)
    }

    /// Waits until this replica has applied everything up to `source`. Says nothing about a server of another history.
    pub(crate) async fn catch_up(&mut self, source: &Position) -> Result<(), VerifyError> {
        let deadline = Instant::now() + self.timeout;
        let mut pause = LAG_LOOK;
        loop {
            let info = self.info("replication").await?;
            let own = Position::parse(&info).ok_or_else(|| self.nonsense("INFO replication"))?;
            if !own.is_replica || own.replid != source.replid || own.offset >= source.offset {
                return Ok(());
            }
            if Instant::now() >= deadline {
                return Err(VerifyError::Behind {
                    wanted: source.offset,
                    applied: own.offset,
                    timeout: self.timeout,
                });
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LAG_LOOK_MAX);
        }
    }

    /// Any other command. An error reply is an answer.
    pub(crate) async fn ask<A: AsRef<[u8]>>(
        &mut self,
        what: &'static str,
        args: &[A],
    ) -> Result<Value, VerifyError> {
        self.client
            .call(args)
            .await
            .map_err(|cause| self.lost(what, cause))
    }

    /// Several commands, not as one. Error replies are answers.
    pub(crate) async fn pipeline(
        &mut self,
        what: &'static str,
        commands: &[&[&[u8]]],
    ) -> Result<Vec<Value>, VerifyError> {
        self.client
            .pipeline(commands)
            .await
            .map_err(|cause| self.lost(what, cause))
    }

    pub(crate) async fn select(&mut self, db: u32) -> Result<(), VerifyError> {
        if self.db == Some(db) {
            return Ok(());
        }
        self.db = None;
        let answer = self.ask("SELECT", &["SELECT", &db.to_string()]).await?;
        self.accepted("SELECT", answer)?;
        self.db = Some(db);
        Ok(())
    }

    pub(crate) fn accepted(&self, what: &'static str, answer: Value) -> Result<Value, VerifyError> {
        answer.into_ok().map_err(|refused| VerifyError::Refused {
            server: self.name.clone(),
            what,
            text: refused.to_string(),
        })
    }

    pub(crate) fn nonsense(&self, what: &'static str) -> VerifyError {
        VerifyError::Nonsense {
            server: self.name.clone(),
            what,
        }
    }

    fn lost(&self, what: &'static str, cause: ClientError) -> VerifyError {
        VerifyError::Ask {
            server: self.name.clone(),
            what,
            cause,
        }
    }
}

/// The answer to TIME, in milliseconds since 1970.
pub(crate) fn millis(time: &Value) -> Option<i64> {
    let [seconds, micros] = time.as_slice()? else {
        return None;
    };
    seconds
        .as_i64()?
        .checked_mul(1000)?
        .checked_add(micros.as_i64()? / 1000)
}
