//! Logins at a backup system's own API: one for each run, kept, and made again only when the system no longer takes it.
//!
//! The Secret is read when we log in, so a changed password counts from the next login on. Nothing of it is told or kept elsewhere.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use k8s_openapi::ByteString;
use serde_json::{Map, Value, json};
use tokio::time::Instant;

use super::drive::Engine;
use super::trigger::StartError;
use crate::cluster::{Api, CallError, HttpAnswer, HttpRequest, Place};
use crate::recipe::{Auth, Http, Vars, fill, fill_text};

/// Longest wait for the answer to a log-out. Default: 5 s; it is not asked again.
const LEAVE_MAX: Duration = Duration::from_secs(5);

/// The logins of one run.
#[derive(Default)]
pub(super) struct Sessions {
    open: Mutex<BTreeMap<String, Session>>,
    unsure: Mutex<Option<Instant>>,
}

/// What a login gave.
#[derive(Clone, Default)]
pub(super) struct Session {
    /// `secret`, `secret64` and `token`.
    vars: Vars,
    authorities: Option<String>,
    until: Option<Instant>,
    leave: Option<HttpRequest>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Sessions {
    /// Since when this run does not know whether its request arrived.
    pub(super) fn unsure_since(&self) -> Instant {
        *locked(&self.unsure).get_or_insert_with(Instant::now)
    }
}

impl Engine<'_> {
    /// A request and its answer; after a 401 or 403 it logs in once more. The outer error says that nothing was sent.
    pub(super) async fn ask(
        &self,
        http: &Http,
        vars: &Vars,
    ) -> Result<Result<HttpAnswer, CallError>, StartError> {
        let may_login = http.auth.as_ref().is_some_and(|it| it.login.is_some());
        let mut anew = false;
        loop {
            let session = self.session(http, vars, anew).await?;
            let request = filled(http, vars, &session)?;
            let answer = self.cluster.http(&request).await;
            let denied = (answer.as_ref()).is_ok_and(|it| matches!(it.status, 401 | 403));
            if !denied || anew || !may_login {
                return Ok(answer);
            }
            anew = true;
        }
    }

    /// The run's login for a request; `anew` when the system does not take it any more.
    pub(super) async fn session(
        &self,
        http: &Http,
        vars: &Vars,
        anew: bool,
    ) -> Result<Session, StartError> {
        let Some(auth) = &http.auth else {
            return Ok(Session::default());
        };
        let api = Api::v1("", "Secret", "secrets");
        let namespace = self.namespace(&api, auth.namespace.as_ref(), vars)?;
        let at = Place {
            api: &api,
            namespace: namespace.as_deref(),
            name: &fill_text(&auth.secret, vars)?,
        };
        let url = auth.login.as_ref().map(|it| fill_text(&it.url, vars));
        let url = url.transpose()?.unwrap_or_default();
        let key = format!("{}/{} {url}", at.namespace.unwrap_or_default(), at.name);
        let open = locked(&self.sessions.open).get(&key).cloned();
        let in_time = |it: &Session| it.until.is_none_or(|until| Instant::now() < until);
        if let Some(open) = open.filter(|it| !anew && in_time(it)) {
            return Ok(open);
        }
        let session = self.log_in(http, auth, at, vars).await?;
        if auth.login.is_some() {
            locked(&self.sessions.open).insert(key, session.clone());
        }
        Ok(session)
    }

    async fn log_in(
        &self,
        http: &Http,
        auth: &Auth,
        at: Place<'_>,
        vars: &Vars,
    ) -> Result<Session, StartError> {
        let mut session = of_secret(&self.cluster.get(at).await?);
        let Some(login) = &auth.login else {
            return Ok(session);
        };
        let known = session.with(vars);
        let request = HttpRequest {
            method: "POST".to_owned(),
            url: fill_text(&login.url, vars)?,
            headers: BTreeMap::new(),
            body: Some(fill(&login.body, &known)?),
            timeout: http.timeout,
            authorities: session.authorities.clone(),
        };
        let answer = self.cluster.http(&request).await?;
        let token = login.token.path.select(&answer.body);
        let token = token.first().and_then(|it| it.as_str());
        let Some(token) = token.filter(|_| (200..300).contains(&answer.status)) else {
            let text = format!("login was refused: it answered {}", answer.status);
            return Err(CallError::of_status(answer.status.max(401), text).into());
        };
        session.vars.insert("token".to_owned(), json!(token));
        session.until = login.lasts.map(|lasts| Instant::now() + lasts);
        if let Some(logout) = &auth.logout {
            session.leave = Some(HttpRequest {
                method: logout.method.clone(),
                url: fill_text(&logout.url, vars)?,
                headers: header(auth, &session.with(vars))?,
                body: None,
                timeout: http.timeout.min(LEAVE_MAX),
                authorities: session.authorities.clone(),
            });
        }
        Ok(session)
    }

    /// Logs out where the system has that. One that cannot be told forgets the login by itself.
    pub(super) async fn leave(&self) {
        let open = std::mem::take(&mut *locked(&self.sessions.open));
        for request in open.into_values().filter_map(|it| it.leave) {
            match self.cluster.http(&request).await {
                Ok(answer) if answer.status < 400 => {}
                Ok(answer) => tracing::debug!("the log-out was answered with {}", answer.status),
                Err(cause) => tracing::debug!("the log-out was not answered: {cause}"),
            }
        }
    }
}

impl Session {
    fn with(&self, vars: &Vars) -> Vars {
        let own = self.vars.clone().into_iter();
        vars.clone().into_iter().chain(own).collect()
    }
}

fn of_secret(secret: &Value) -> Session {
    let (mut plain, mut coded) = (Map::new(), Map::new());
    for (key, value) in secret["data"].as_object().into_iter().flatten() {
        let bytes = serde_json::from_value::<ByteString>(value.clone());
        if let Some(text) = bytes.ok().and_then(|it| String::from_utf8(it.0).ok()) {
            plain.insert(key.clone(), Value::String(text.trim_end().to_owned()));
            coded.insert(key.clone(), value.clone());
        }
    }
    let authorities = plain.get("ca.crt").and_then(Value::as_str);
    Session {
        authorities: authorities.map(str::to_owned),
        vars: Vars::from([
            ("secret".to_owned(), Value::Object(plain)),
            ("secret64".to_owned(), Value::Object(coded)),
        ]),
        ..Session::default()
    }
}

fn header(auth: &Auth, vars: &Vars) -> Result<BTreeMap<String, String>, StartError> {
    let value = fill_text(&auth.value, vars)?;
    Ok(BTreeMap::from([(auth.header.clone(), value)]))
}

fn filled(http: &Http, vars: &Vars, session: &Session) -> Result<HttpRequest, StartError> {
    let mut headers = BTreeMap::new();
    for (name, value) in &http.headers {
        headers.insert(name.clone(), fill_text(value, vars)?);
    }
    if let Some(auth) = &http.auth {
        headers.extend(header(auth, &session.with(vars))?);
    }
    Ok(HttpRequest {
        method: http.method.clone(),
        url: fill_text(&http.url, vars)?,
        headers,
        body: http.body.as_ref().map(|it| fill(it, vars)).transpose()?,
        timeout: http.timeout,
        authorities: session.authorities.clone(),
    })
}
