//! Triggers and looks by the system's own HTTP API.
//!
//! A request that started something cannot be found again by a label. So a ConfigMap is made before it is sent and is
//! told its answer. A run that finds the one without the other does not know: it looks for what it may have begun, ends with
//! a line that says what to look for, and never sends the request again.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::context::LABEL_RUN;
use super::drive::Engine;
use super::name::object_name;
use super::run::ask;
use super::trigger::{Begun, NAMES_MAX, StartError, Target};
use crate::cluster::{Api, CallError, CallKind, HttpAnswer};
use crate::predicate::{Objects, select};
use crate::recipe::{Deadlines, Http, HttpTrigger, Step, Vars, Via, fill, fill_text};

/// Most letters of an answer that are told. Default: 500.
const TOLD_MAX: usize = 500;

impl Engine<'_> {
    pub(super) async fn begun_http(
        &self,
        apis: &BTreeMap<String, Api>,
        step: &Step,
        trigger: &HttpTrigger,
        vars: &Vars,
    ) -> Result<Begun, StartError> {
        let api = self.api(apis, "configmap")?;
        for attempt in 1..=NAMES_MAX {
            let target = Target {
                api: api.clone(),
                namespace: Some(self.context.request.namespace.clone()),
                name: object_name(&format!("{}-http", self.context.request.run), attempt),
            };
            match self.cluster.get(target.place()).await {
                Ok(found) if !self.is_ours(&found) => (self.progress)(format!(
                    "{} is somebody else's: another name is used",
                    target.text()
                )),
                Ok(found) if !found["data"]["refused"].is_null() => return Ok(Begun::Free(target)),
                Ok(found) if found["data"]["answer"].is_null() => {
                    let found = self.look_for(step, trigger, &target, &found, vars).await?;
                    return Ok(Begun::Ours(target, found));
                }
                Ok(found) => return Ok(Begun::Ours(target, found)),
                Err(cause) if cause.kind == CallKind::NotFound => return Ok(Begun::Free(target)),
                Err(cause) => return Err(cause.into()),
            }
        }
        Err(StartError::NoName)
    }

    /// The answer that a ConfigMap of ours keeps.
    pub(super) fn answer_of(noted: &Value) -> Value {
        let text = noted["data"]["answer"].as_str().unwrap_or("null");
        serde_json::from_str(text).unwrap_or_default()
    }

    pub(super) async fn start_http(
        &self,
        step: &Step,
        trigger: &HttpTrigger,
        target: &Target,
        vars: &Vars,
        notes: &Value,
    ) -> Result<Value, StartError> {
        // First the login: one that fails has sent nothing, and nothing is noted for it.
        self.session(&trigger.http, vars, false).await?;
        self.note(target, notes).await?;
        let refused = match self.ask(&trigger.http, vars).await {
            Ok(Ok(answer)) if (200..300).contains(&answer.status) => {
                return self.answered(step, target, &answer, vars).await;
            }
            Ok(Ok(answer)) if answer.status >= 500 || answer.status == 408 => {
                let text = format!("it answered {}", told(&answer));
                return self.unsure(target, &text).await;
            }
            Ok(Err(cause)) if cause.kind == CallKind::Unreachable => {
                return self.unsure(target, &cause.text).await;
            }
            Ok(Ok(answer)) => {
                let text = format!("it answered {}", told(&answer));
                CallError::of_status(answer.status, text).into()
            }
            Ok(Err(cause)) => cause.into(),
            Err(cause) => cause,
        };
        // It did nothing, and may be sent again.
        let patch = json!({"data": {"refused": "yes"}});
        self.cluster.patch(target.place(), &patch).await?;
        Err(refused)
    }

    /// Notes that the request is about to be sent.
    async fn note(&self, target: &Target, notes: &Value) -> Result<(), StartError> {
        let namespace = target.namespace.as_deref();
        let note = json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": target.name, "namespace": namespace, "labels": self.context.labels(), "annotations": notes},
            "data": {LABEL_RUN.replace('/', "."): self.context.request.run},
        });
        let taken = match self.cluster.create(&target.api, namespace, &note).await {
            Ok(_) => return Ok(()),
            Err(cause) if cause.kind == CallKind::Conflict => cause,
            Err(cause) => return Err(cause.into()),
        };
        let found = self.cluster.get(target.place()).await?;
        if !self.is_ours(&found) || found["data"]["refused"].is_null() {
            return Err(taken.into());
        }
        let version = &found["metadata"]["resourceVersion"];
        let patch = json!({"metadata": {"resourceVersion": version, "annotations": notes}, "data": {"refused": null}});
        self.cluster.patch(target.place(), &patch).await?;
        Ok(())
    }

    async fn answered(
        &self,
        step: &Step,
        target: &Target,
        answer: &HttpAnswer,
        vars: &Vars,
    ) -> Result<Value, StartError> {
        let patch = json!({"data": {"answer": answer.body.to_string()}});
        let noted = self.cluster.patch(target.place(), &patch).await?;
        if let Via::Http(poll) = &step.observe.via {
            let mut vars = vars.clone();
            vars.insert("response".to_owned(), answer.body.clone());
            if let Err(missing) = fill_text(&poll.url, &vars) {
                let text = format!(
                    "{}: it answered {}, so there is nothing to look at ({missing}); put right what it says, then begin a new run",
                    target.text(),
                    told(answer)
                );
                return Err(StartError::Final(text));
            }
        }
        Ok(noted)
    }

    /// Whether the request arrived is unknown. What came is noted for whoever goes on.
    async fn unsure<T>(&self, target: &Target, came: &str) -> Result<T, StartError> {
        self.sessions.unsure_since();
        let patch = json!({"data": {"came": came}});
        if let Err(cause) = self.cluster.patch(target.place(), &patch).await {
            tracing::debug!("what came of a request was not noted: {cause}");
        }
        Err(StartError::Unsure(format!(
            "{}: the request was sent, and {came}: whether it arrived is unknown, and it is not sent again",
            target.text()
        )))
    }

    /// Looks for what a request may have begun whose answer is unknown.
    async fn look_for(
        &self,
        step: &Step,
        trigger: &HttpTrigger,
        target: &Target,
        noted: &Value,
        vars: &Vars,
    ) -> Result<Value, StartError> {
        let came = noted["data"]["came"].as_str();
        let came = came.unwrap_or("what was answered was not noted");
        let sent = noted["metadata"]["creationTimestamp"].as_str();
        let mut text = format!(
            "{}: the request was to be sent at {}, and {came}: whether it arrived is unknown, and it is never sent again",
            target.text(),
            sent.unwrap_or("an unknown time")
        );
        let since = self.sessions.unsure_since();
        if trigger.find.is_some() {
            match self.find_begun(trigger, vars).await {
                Ok(found) => match found.as_slice() {
                    [one] => {
                        let patch = json!({"data": {"answer": one.to_string()}});
                        return Ok(self.cluster.patch(target.place(), &patch).await?);
                    }
                    [] => text += "; its API lists nothing of this run",
                    many => text += &format!("; its API lists {} of this run", many.len()),
                },
                Err(cause) => {
                    text += &format!("; asking for it: {}", cause.into_error("its list").text);
                }
            }
            let accept = step
                .deadlines
                .accept
                .or(self.context.recipe.deadlines.accept);
            if since.elapsed() < accept.unwrap_or(Deadlines::ACCEPT) {
                return Err(StartError::Unsure(format!("{text}; it is looked for")));
            }
        }
        let look_for = trigger.look_for.as_ref();
        let look_for = look_for.and_then(|it| fill_text(it, vars).ok());
        let look_for = look_for
            .unwrap_or_else(|| format!("what {} began at that time", self.context.recipe.title));
        Err(StartError::Final(format!(
            "{text}; look for {look_for}, and end or delete it if it is there; then begin a new run"
        )))
    }

    /// What the system's own list has of this run, as the answers that its trigger would have given.
    async fn find_begun(
        &self,
        trigger: &HttpTrigger,
        vars: &Vars,
    ) -> Result<Vec<Value>, StartError> {
        let Some(find) = &trigger.find else {
            return Ok(Vec::new());
        };
        let answer = self.ask_http(&find.http, vars).await?;
        if !(200..300).contains(&answer.status) {
            let text = format!("it answered {}", told(&answer));
            return Err(CallError::of_status(answer.status, text).into());
        }
        let objects = Objects {
            here: &answer.body,
            named: vars,
        };
        let mut found = Vec::new();
        for here in select(&find.each, objects) {
            if ask(&find.that, Objects { here, named: vars }).is_yes() {
                let mut vars = vars.clone();
                vars.insert("found".to_owned(), here.clone());
                found.push(fill(&find.response, &vars)?);
            }
        }
        Ok(found)
    }

    /// A request that may be repeated, and its answer.
    pub(super) async fn ask_http(
        &self,
        http: &Http,
        vars: &Vars,
    ) -> Result<HttpAnswer, StartError> {
        Ok(self.ask(http, vars).await??)
    }
}

fn told(answer: &HttpAnswer) -> String {
    let body = match &answer.body {
        Value::Null => return answer.status.to_string(),
        body => body.to_string(),
    };
    let cut: String = body.chars().take(TOLD_MAX).collect();
    format!("{}: {cut}", answer.status)
}
