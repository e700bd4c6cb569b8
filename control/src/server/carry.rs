//! What is carried from one server to the other beside its keys: users and functions.

use bytes::Bytes;
use understudy_net::Value;

use super::error::ServerError;
use super::link::ServerLink;

/// Whether a user may run a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DryRun {
    /// It may.
    Allowed,
    /// It may not, in the server's words.
    Denied(String),
}

impl ServerLink {
    /// Who we are at the server.
    pub async fn acl_whoami(&mut self) -> Result<String, ServerError> {
        Ok(self
            .ask(&["ACL", "WHOAMI"])
            .await?
            .as_str_lossy()
            .unwrap_or_default())
    }

    /// Every user as one line that ACL SETUSER takes.
    pub async fn acl_list(&mut self) -> Result<Vec<String>, ServerError> {
        let answer = self.ask(&["ACL", "LIST"]).await?;
        Ok(answer
            .into_vec()
            .unwrap_or_default()
            .iter()
            .filter_map(Value::as_str_lossy)
            .collect())
    }

    /// Whether a user may run a command; `None` where the server cannot say without running it (before 7.0).
    pub async fn acl_dry_run(
        &mut self,
        user: &str,
        command: &[&str],
    ) -> Result<Option<DryRun>, ServerError> {
        let args: Vec<&str> = ["ACL", "DRYRUN", user]
            .into_iter()
            .chain(command.iter().copied())
            .collect();
        match self.raw(&args).await? {
            Value::Error(text) if is_unknown(&text) => Ok(None),
            Value::Error(text) => Err(self.refused("ACL DRYRUN", &text)),
            allowed if allowed.is_ok() => Ok(Some(DryRun::Allowed)),
            denied => Ok(Some(DryRun::Denied(
                denied.as_str_lossy().unwrap_or_default(),
            ))),
        }
    }

    /// All function libraries as one payload; `None` where the server knows no functions (before 7.0).
    pub async fn function_dump(&mut self) -> Result<Option<Bytes>, ServerError> {
        match self.raw(&["FUNCTION", "DUMP"]).await? {
            Value::Bulk(payload) => Ok(Some(payload)),
            Value::Error(text) if is_unknown(&text) => Ok(None),
            Value::Error(text) => Err(self.refused("FUNCTION DUMP", &text)),
            other => Err(self.unexpected("FUNCTION DUMP", &format!("{other:?}"))),
        }
    }

    /// Loads what `function_dump` gave, in the place of libraries of the same names.
    pub async fn function_restore(&mut self, payload: &[u8]) -> Result<(), ServerError> {
        match self
            .raw(&[b"FUNCTION".as_slice(), b"RESTORE", payload, b"REPLACE"])
            .await?
        {
            Value::Error(text) => Err(self.refused("FUNCTION RESTORE", &text)),
            _ => Ok(()),
        }
    }
}

fn is_unknown(text: &str) -> bool {
    let text = text.to_ascii_lowercase();
    text.starts_with("err unknown command") || text.starts_with("err unknown subcommand")
}
