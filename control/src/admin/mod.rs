//! `UPGRADE …`: the verbs that an operator types, and what they answer.

mod begin;
mod grammar;
mod proxies;
mod verbs;

use std::pin::Pin;
use std::sync::Arc;

use understudy_net::{AdminHandler, AdminRequest, Value};

use crate::control::Inner;
use grammar::{Refusal, Request, USAGE};

/// Answers `UPGRADE …`.
pub(crate) struct Upgrades {
    inner: Arc<Inner>,
}

impl Upgrades {
    pub(crate) fn new(inner: Arc<Inner>) -> Upgrades {
        Upgrades { inner }
    }

    async fn answer(&self, request: &AdminRequest) -> Value {
        let arguments: Vec<&[u8]> = request.args.iter().map(AsRef::as_ref).collect();
        let answer = match grammar::parse(&arguments) {
            Ok(request) => self.act(request).await,
            Err(refusal) => Err(refusal.into()),
        };
        answer.unwrap_or_else(|no| Value::error(no.0.replace(['\r', '\n'], " ")))
    }

    async fn act(&self, request: Request) -> Result<Value, No> {
        match request {
            Request::Plan(start) => begin::plan(&self.inner, start).await,
            Request::Start(start) => begin::start(&self.inner, start).await,
            Request::Status { pool, json } => verbs::status(&self.inner, pool.as_deref(), json),
            Request::Cutover { pool } => verbs::cutover(&self.inner, &pool),
            Request::Rehearse { pool } => verbs::rehearse(&self.inner, &pool).await,
            Request::Abort { pool } => verbs::abort(&self.inner, &pool).await,
            Request::Finalize { pool } => verbs::finalize(&self.inner, &pool).await,
            Request::Report { pool, json } => verbs::report(&self.inner, &pool, json).await,
            Request::Rollback {
                pool,
                shard,
                accept_loss,
            } => verbs::roll_back(&self.inner, &pool, shard.as_deref(), accept_loss).await,
            Request::Wait {
                pool,
                phase,
                timeout_ms,
            } => verbs::wait(&self.inner, &pool, phase, timeout_ms).await,
            Request::List => Ok(verbs::list(&self.inner)),
            Request::Register(said) => proxies::register(&self.inner, said).await,
            Request::Leave { id, life } => proxies::leave(&self.inner, &id, &life).await,
            Request::Forget { id } => proxies::forget(&self.inner, &id).await,
            Request::Proxies => Ok(proxies::list(&self.inner)),
            Request::Help => Ok(Value::Array(
                USAGE
                    .iter()
                    .map(|(form, what)| help_line(form, what))
                    .collect(),
            )),
            Request::Journal => {
                let dump = self.inner.world.journal.dump().await;
                dump.map(Value::text).map_err(No::wrong)
            }
        }
    }
}

fn help_line(form: &str, what: &str) -> Value {
    Value::Simple(format!("UPGRADE {form} -- {what}"))
}

/// An error reply, code first.
pub(crate) struct No(String);

impl No {
    /// `-ERR …`
    pub(crate) fn wrong(what: impl std::fmt::Display) -> No {
        No(format!("ERR {what}"))
    }

    /// `-BLOCKED …`
    pub(crate) fn blocked(what: impl std::fmt::Display) -> No {
        No(format!("BLOCKED {what}"))
    }

    /// `-NOUPGRADE …`
    pub(crate) fn no_upgrade(pool: &str) -> No {
        No(format!(
            "NOUPGRADE pool '{pool}' has no upgrade: UPGRADE START begins one"
        ))
    }
}

impl From<Refusal> for No {
    fn from(refusal: Refusal) -> No {
        match refusal {
            Refusal::Wrong(text) => No::wrong(text),
            Refusal::Blocked(text) => No::blocked(text),
        }
    }
}

impl AdminHandler for Upgrades {
    fn call<'a>(
        &'a self,
        request: AdminRequest,
    ) -> Pin<Box<dyn Future<Output = Value> + Send + 'a>> {
        Box::pin(async move { self.answer(&request).await })
    }

    fn help(&self) -> Vec<(&'static str, &'static str)> {
        USAGE.to_vec()
    }

    fn only_waits(&self, request: &AdminRequest) -> bool {
        request.is("WAIT")
    }
}
