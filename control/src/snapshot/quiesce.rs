//! Makes what clients were told is written lie on the server's volume, while they go on.
//!
//! ```text
//!  level app    look: INFO ── AOF on? ── yes ── a change of ours · WAITAOF 1 0   7.2 and later; before, and where we may not
//!                 │                              write: an fsync that began after the look, and none pending
//!                 │           └──────── no ─── BGSAVE ── rdb_last_save_time newer than the look · status ok
//!  level crash  look: INFO, and nothing else
//! ```
//!
//! - No client is held, here or anywhere: what is written after the look may be on the volume or not.
//! - The offset is the look's, so the volume holds at least everything before it. The keys are counted at the same moment.
//! - A save that fails does not stop the server's writes (`stop-writes-on-bgsave-error`, see `protect`).
//! - WAITAOF looks at the connection's own last change: on one that changed nothing it is always content (measured on 8.2.3,
//!   8.1.8 and 9.1.2). So a key that nobody has is set and deleted in one transaction first. It is never seen by anybody.

use std::path::Path;
use std::time::Duration;

use tokio::time::Instant;
use understudy_net::{Client, ClientError, Endpoint, Value};

use super::protect::{LastSave, Protection};
use super::provider::{Level, Progress, ProviderError, ProviderErrorKind};
use crate::verify::info;

/// Longest wait for a connection or an answer. Default: 5 s.
const CALL_TIMEOUT: Duration = Duration::from_secs(5);
/// Between two looks at a save or a sync that runs.
const LOOK: Duration = Duration::from_millis(50);
/// One WAITAOF; it is said again until the deadline.
const WAITAOF_MS: &str = "1000";
/// An fsync of `everysec` that was due at the look has begun after so long, by the server's clock of whole seconds.
const FSYNC_DUE: Duration = Duration::from_millis(2_100);
/// Saves that a FLUSHALL or a CONFIG SET killed are begun again so often.
const SAVES_MAX: u32 = 3;

/// What is to be quieted, and for whom.
#[derive(Clone, Copy)]
pub struct Quiesce<'a> {
    /// How the server is dialed; see [`super::Logins::endpoint`].
    pub endpoint: &'a Endpoint,
    /// How it is called in messages: its address, without login.
    pub server: &'a str,
    /// The run, which names the key that is changed for WAITAOF.
    pub run: &'a str,
    /// How far.
    pub level: Level,
    /// A directory of this process where is written down what has to be put back on the server, should we die meanwhile.
    pub notes: &'a Path,
    /// Longest wait for the save or the sync.
    pub patience: Duration,
}

/// How the server stood, and what its volume holds by now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quiesced {
    /// What was reached.
    pub level: Level,
    /// How: `bgsave`, `waitaof`, `aof-fsync` or `none`.
    pub how: &'static str,
    /// The replication offset at the look: the volume holds everything before it, at level `app`.
    pub offset: u64,
    /// Keys in all databases at the look.
    pub keys: u64,
    /// The server's process.
    pub run_id: String,
    /// The server's version.
    pub version: String,
    /// Whether it writes an append-only file: what a restore starts from.
    pub appendonly: bool,
}

/// Quiets a server as far as `what.level` asks for. Cancel safe but for `stop-writes-on-bgsave-error`, which the next
/// snapshot of that server puts back.
pub async fn quiesce(what: Quiesce<'_>, progress: Progress<'_>) -> Result<Quiesced, ProviderError> {
    let mut asking = Asking::connect(what).await?;
    let mut seen = asking.look().await?;
    if what.level == Level::Crash {
        return Ok(seen);
    }
    if asking.last_look.is_replica() {
        return Err(ProviderError::misconfigured(format!(
            "{} is a replica: level app needs the primary; name the server that serves",
            what.server
        )));
    }
    seen.level = Level::App;
    seen.how = match seen.appendonly {
        true => asking.sync(progress).await?,
        false => asking.save(progress).await?,
    };
    // A server that was restarted meanwhile has another history than the one that was looked at.
    let now = asking.look().await?;
    if now.run_id != seen.run_id {
        return Err(ProviderError::failed(format!(
            "{} was restarted while its data was brought to the disk; try again",
            what.server
        )));
    }
    Ok(seen)
}

struct Asking<'a> {
    what: Quiesce<'a>,
    client: Client,
    deadline: Instant,
    last_look: Look,
}

/// An answer to INFO.
#[derive(Debug, Default)]
struct Look(String);

impl Look {
    fn is(&self, field: &str, value: &str) -> bool {
        info::field(&self.0, field) == Some(value)
    }

    fn text(&self, field: &str) -> String {
        info::field(&self.0, field).unwrap_or_default().to_owned()
    }

    fn number(&self, field: &str) -> u64 {
        info::number(&self.0, field).unwrap_or(0)
    }

    fn is_replica(&self) -> bool {
        self.is("role", "slave")
    }

    /// A child that saves, rewrites or belongs to a module: only one can run at a time.
    fn has_child(&self) -> bool {
        let children = [
            "rdb_bgsave_in_progress",
            "aof_rewrite_in_progress",
            "module_fork_in_progress",
        ];
        children.iter().any(|field| self.is(field, "1"))
    }
}

impl<'a> Asking<'a> {
    async fn connect(what: Quiesce<'a>) -> Result<Self, ProviderError> {
        let client = Client::connect(what.endpoint, CALL_TIMEOUT).await;
        let mut client = client.map_err(|cause| unreachable(what.server, &cause))?;
        client.set_timeout(CALL_TIMEOUT);
        Ok(Self {
            what,
            client,
            deadline: Instant::now() + what.patience,
            last_look: Look::default(),
        })
    }

    /// Says something; an error reply is the server's refusal.
    async fn ask(&mut self, words: &[&str]) -> Result<Value, ProviderError> {
        let answer = self.client.call(words).await;
        let answer = answer.map_err(|cause| unreachable(self.what.server, &cause))?;
        answer.into_ok().map_err(|refused| {
            let command = words.first().copied().unwrap_or_default();
            let text = format!(
                "{} refused {command}: {refused}; allow it, or use level crash",
                self.what.server
            );
            ProviderError::new(ProviderErrorKind::Denied, text)
        })
    }

    async fn look_again(&mut self) -> Result<(), ProviderError> {
        let answer = self.ask(&["INFO", "everything"]).await?;
        self.last_look = Look(answer.as_str_lossy().unwrap_or_default());
        match self.last_look.is("loading", "1") {
            true => Err(ProviderError::new(
                ProviderErrorKind::NotReady,
                format!(
                    "{} loads its data; try again when it serves",
                    self.what.server
                ),
            )),
            false => Ok(()),
        }
    }

    async fn look(&mut self) -> Result<Quiesced, ProviderError> {
        self.look_again().await?;
        let look = &self.last_look;
        let version = match look.text("valkey_version") {
            none if none.is_empty() => look.text("redis_version"),
            valkey => valkey,
        };
        Ok(Quiesced {
            level: Level::Crash,
            how: "none",
            offset: look.number("master_repl_offset"),
            keys: info::keyspace(&look.0).values().sum(),
            run_id: look.text("run_id"),
            version,
            appendonly: look.is("aof_enabled", "1"),
        })
    }

    /// Waits a little, unless the patience is at its end.
    async fn wait(&mut self, what: &str) -> Result<(), ProviderError> {
        if Instant::now() >= self.deadline {
            return Err(ProviderError::failed(format!(
                "{}: {what} for {} s; look at its log and its disk, then try again",
                self.what.server,
                self.what.patience.as_secs()
            )));
        }
        tokio::time::sleep(LOOK).await;
        self.look_again().await
    }

    async fn until_no_child(&mut self) -> Result<(), ProviderError> {
        while self.last_look.has_child() {
            self.wait("a save or a rewrite of its own has not ended")
                .await?;
        }
        Ok(())
    }

    /// What was written before now is synced to the append-only file.
    async fn sync(&mut self, progress: Progress<'_>) -> Result<&'static str, ProviderError> {
        progress("the server's append-only file is synced".to_owned());
        self.may_sync().await?;
        match self.change_of_our_own().await? {
            true => self.wait_aof().await,
            false => self.wait_for_fsync().await,
        }
    }

    async fn may_sync(&mut self) -> Result<(), ProviderError> {
        let answer = self.ask(&["CONFIG", "GET", "appendfsync"]).await?;
        let policy = answer
            .field("appendfsync")
            .and_then(Value::as_str_lossy)
            .unwrap_or_default();
        if policy == "no" {
            return Err(ProviderError::misconfigured(format!(
                "{} has appendfsync no: nobody knows what of its append-only file is on the volume; set appendfsync everysec, \
                 or use level crash",
                self.what.server
            )));
        }
        if self.last_look.is("aof_last_write_status", "err") {
            return Err(ProviderError::failed(format!(
                "{} could not write its append-only file (its log says why); mend that first",
                self.what.server
            )));
        }
        // While a child runs, no-appendfsync-on-rewrite keeps everything from being synced.
        self.until_no_child().await
    }

    /// True when the server took a change of this connection and knows WAITAOF.
    async fn change_of_our_own(&mut self) -> Result<bool, ProviderError> {
        let known = self.ask(&["COMMAND", "INFO", "WAITAOF"]).await?;
        // What it does not know is null there.
        let entry = known.as_slice().and_then(|found| found.first()?.as_slice());
        if entry.is_none_or(<[Value]>::is_empty) {
            return Ok(false);
        }
        let key = format!("understudy:waitaof:{}", self.what.run);
        let change = [
            &["MULTI"][..],
            &["SET", &key, "", "NX"],
            &["DEL", &key],
            &["EXEC"],
        ];
        let mut took = true;
        for words in change {
            let answer = self.client.call(words).await;
            let answer = answer.map_err(|cause| unreachable(self.what.server, &cause))?;
            // No right to write, no memory left: then the clock has to do.
            took &= answer.as_error().is_none();
        }
        Ok(took)
    }

    async fn wait_aof(&mut self) -> Result<&'static str, ProviderError> {
        loop {
            let answer = self.ask(&["WAITAOF", "1", "0", WAITAOF_MS]).await?;
            let synced = answer
                .as_slice()
                .and_then(|counts| counts.first()?.as_i64());
            if synced.is_some_and(|count| count >= 1) {
                return Ok("waitaof");
            }
            self.wait("its append-only file was not synced").await?;
        }
    }

    /// An fsync that was due at the look has begun, and none is pending.
    async fn wait_for_fsync(&mut self) -> Result<&'static str, ProviderError> {
        let mut since = Instant::now();
        loop {
            self.wait("its append-only file was not synced").await?;
            if self.last_look.has_child() {
                since = Instant::now();
            }
            let pending = self.last_look.number("aof_pending_bio_fsync");
            if since.elapsed() >= FSYNC_DUE && pending == 0 {
                return Ok("aof-fsync");
            }
        }
    }

    /// An RDB that was begun after now is finished.
    async fn save(&mut self, progress: Progress<'_>) -> Result<&'static str, ProviderError> {
        progress("the server saves its data".to_owned());
        let (server, notes) = (self.what.server, self.what.notes);
        let protection = Protection::lift(&mut self.client, server, notes).await?;
        let saved = self.save_protected().await;
        if !self.client.is_usable() {
            let again = Client::connect(self.what.endpoint, CALL_TIMEOUT).await;
            self.client = again.map_err(|cause| unreachable(server, &cause))?;
        }
        let put_back = protection.restore(&mut self.client).await;
        match (&saved, put_back) {
            (Ok(()), Err(cause)) => {
                tracing::warn!("put back a setting of {server}: {cause}");
            }
            (Ok(()), Ok(LastSave::Failed)) => {
                return Err(could_not_save(server));
            }
            (Ok(()), Ok(LastSave::Good | LastSave::Running)) | (Err(_), _) => {}
        }
        saved.map(|()| "bgsave")
    }

    async fn save_protected(&mut self) -> Result<(), ProviderError> {
        for _ in 0..SAVES_MAX {
            let before = self.begin_save().await?;
            loop {
                self.look_again().await?;
                let look = &self.last_look;
                if look.is("rdb_bgsave_in_progress", "1") {
                    self.wait("its save has not ended").await?;
                    continue;
                }
                if !look.is("rdb_last_bgsave_status", "ok") {
                    return Err(could_not_save(self.what.server));
                }
                if look.number("rdb_last_save_time") > before {
                    return Ok(());
                }
                break; // Somebody ended it without its having failed.
            }
        }
        Err(ProviderError::failed(format!(
            "{}: its save was ended {SAVES_MAX} times before it was done; something flushes or saves all the time",
            self.what.server
        )))
    }

    /// Gives the time of the save before; the clock has gone on since by at least a second.
    async fn begin_save(&mut self) -> Result<u64, ProviderError> {
        loop {
            self.until_no_child().await?;
            let before = self.last_look.number("rdb_last_save_time");
            let time = self.ask(&["TIME"]).await?;
            let now = time.as_slice().and_then(|time| time.first()?.as_i64());
            if now.is_none_or(|now| u64::try_from(now).unwrap_or(0) <= before) {
                // The time of a save is told in whole seconds: one of this second could not be told from the last one.
                self.wait("its clock stands still").await?;
                continue;
            }
            let answer = self.client.call(&["BGSAVE"]).await;
            let answer = answer.map_err(|cause| unreachable(self.what.server, &cause))?;
            match answer.into_ok() {
                Ok(_) => return Ok(before),
                Err(refused) if refused.to_string().contains("progress") => {
                    self.wait("a save or a rewrite of its own has not ended")
                        .await?;
                }
                Err(refused) => {
                    return Err(ProviderError::failed(format!(
                        "{} does not save: {refused}; mend that, or use level crash",
                        self.what.server
                    )));
                }
            }
        }
    }
}

fn could_not_save(server: &str) -> ProviderError {
    ProviderError::failed(format!(
        "{server} could not save (its log says why); its writes go on; give its disk room, then try again"
    ))
}

fn unreachable(server: &str, cause: &ClientError) -> ProviderError {
    let text = format!("ask {server}: {}", crate::world::one_line(cause));
    ProviderError::new(ProviderErrorKind::Unreachable, text)
}

impl std::fmt::Debug for Quiesce<'_> {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Quiesce")
            .field("server", &self.server)
            .field("run", &self.run)
            .field("level", &self.level)
            .finish_non_exhaustive()
    }
}
