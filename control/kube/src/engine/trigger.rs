//! Starts a step, once: what it began before is found again by its name and label.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};
use understudy_control::snapshot::{ProviderError, ProviderErrorKind};

use super::context::LABEL_RUN;
use super::drive::Engine;
use super::name::object_name;
use super::refuse::call_failed;
use crate::cluster::{Api, CallError, CallKind, Place};
use crate::recipe::{Change, FillError, NewObject, Step, Trigger, Vars, fill, fill_text, merge};

/// Most names that a run may use: skipped attempts, and names that somebody else has taken. Default: 8.
pub(super) const NAMES_MAX: u32 = 8;

/// Where a step's object is.
#[derive(Clone, Debug)]
pub(super) struct Target {
    pub(super) api: Api,
    pub(super) namespace: Option<String>,
    pub(super) name: String,
}

impl Target {
    pub(super) fn place(&self) -> Place<'_> {
        Place {
            api: &self.api,
            namespace: self.namespace.as_deref(),
            name: &self.name,
        }
    }

    pub(super) fn text(&self) -> String {
        match &self.namespace {
            Some(namespace) => format!("{} {namespace}/{}", self.api.kind, self.name),
            None => format!("{} {}", self.api.kind, self.name),
        }
    }
}

/// What is there of a step.
pub(super) enum Begun {
    /// Ours: it was triggered.
    Ours(Target, Value),
    /// Nothing of ours; this name is free.
    Free(Target),
}

/// Why a step could not be looked for or started.
#[derive(Debug)]
pub(super) enum StartError {
    Fill(FillError),
    Call(CallError),
    NoName,
    /// Whether a request arrived is unknown, and it is looked for.
    Unsure(String),
    /// The run ends with this.
    Final(String),
}

impl From<FillError> for StartError {
    fn from(cause: FillError) -> Self {
        Self::Fill(cause)
    }
}

impl From<CallError> for StartError {
    fn from(cause: CallError) -> Self {
        Self::Call(cause)
    }
}

impl StartError {
    pub(super) fn into_error(self, what: &str) -> ProviderError {
        match self {
            Self::Fill(cause) => ProviderError::misconfigured(format!(
                "{what}: {cause}; look at the recipe and its parameters"
            )),
            Self::Call(cause) => call_failed(what, &cause),
            Self::Unsure(text) => ProviderError::new(ProviderErrorKind::Unreachable, text),
            Self::Final(text) => ProviderError::failed(text),
            Self::NoName => {
                let text = format!(
                    "{what}: every name that the run could use is taken by somebody else's objects; remove them"
                );
                ProviderError::new(ProviderErrorKind::Misconfigured, text)
            }
        }
    }
}

impl Engine<'_> {
    /// Looks for what a step began, without touching anything. `skip` names attempts that the system skipped.
    pub(super) async fn begun(
        &self,
        apis: &BTreeMap<String, Api>,
        step: &Step,
        vars: &Vars,
        skip: &[String],
    ) -> Result<Begun, StartError> {
        match &step.trigger {
            Trigger::Create(object)
            | Trigger::Apply(object)
            | Trigger::JobFromCronJob { job: object, .. } => {
                self.begun_object(apis, object, vars, skip).await
            }
            Trigger::Patch(change) => self.begun_patch(apis, change, vars).await,
            Trigger::Http(http) => self.begun_http(apis, step, http, vars).await,
        }
    }

    async fn begun_object(
        &self,
        apis: &BTreeMap<String, Api>,
        object: &NewObject,
        vars: &Vars,
        skip: &[String],
    ) -> Result<Begun, StartError> {
        let api = self.api(apis, &object.kind)?;
        let namespace = self.namespace(api, object.namespace.as_ref(), vars)?;
        let wanted = match &object.name {
            Some(name) => fill_text(name, vars)?,
            None => self.context.request.run.clone(),
        };
        let target = |name: String| Target {
            api: api.clone(),
            namespace: namespace.clone(),
            name,
        };
        if object.generate_name {
            let labels = [(
                LABEL_RUN.to_owned(),
                super::context::label(&self.context.request.run),
            )];
            let found = self
                .cluster
                .list(api, namespace.as_deref(), &labels.into_iter().collect())
                .await?;
            let name = |it: &Value| {
                it["metadata"]["name"]
                    .as_str()
                    .unwrap_or_default()
                    .to_owned()
            };
            let ours = found.into_iter().find(|it| !skip.contains(&name(it)));
            return Ok(match ours {
                Some(ours) => Begun::Ours(target(name(&ours)), ours),
                None => Begun::Free(target(format!("{}-", object_name(&wanted, 1)))),
            });
        }
        for attempt in 1..=NAMES_MAX {
            let target = target(object_name(&wanted, attempt));
            if skip.contains(&target.name) {
                continue;
            }
            match self.cluster.get(target.place()).await {
                Ok(found) if self.is_ours(&found) => return Ok(Begun::Ours(target, found)),
                Ok(_) => (self.progress)(format!(
                    "{} is somebody else's: another name is used",
                    target.text()
                )),
                Err(cause) if cause.kind == CallKind::NotFound => return Ok(Begun::Free(target)),
                Err(cause) => return Err(cause.into()),
            }
        }
        Err(StartError::NoName)
    }

    async fn begun_patch(
        &self,
        apis: &BTreeMap<String, Api>,
        change: &Change,
        vars: &Vars,
    ) -> Result<Begun, StartError> {
        let target = self.changed_object(apis, change, vars)?;
        let found = self.cluster.get(target.place()).await?;
        let noted = found["metadata"]["annotations"][LABEL_RUN].as_str();
        Ok(if noted == Some(self.context.request.run.as_str()) {
            Begun::Ours(target, found)
        } else {
            Begun::Free(target)
        })
    }

    pub(super) fn changed_object(
        &self,
        apis: &BTreeMap<String, Api>,
        change: &Change,
        vars: &Vars,
    ) -> Result<Target, StartError> {
        let api = self.api(apis, &change.kind)?;
        Ok(Target {
            namespace: self.namespace(api, change.namespace.as_ref(), vars)?,
            name: fill_text(&change.name, vars)?,
            api: api.clone(),
        })
    }

    pub(super) fn is_ours(&self, object: &Value) -> bool {
        let run = object["metadata"]["labels"][LABEL_RUN].as_str();
        run == Some(super::context::label(&self.context.request.run).as_str())
    }

    /// Starts a step. `notes` are annotations of what is known of the server.
    pub(super) async fn start(
        &self,
        step: &Step,
        target: &Target,
        vars: &Vars,
        notes: &Value,
    ) -> Result<Value, StartError> {
        let metadata = json!({"labels": self.context.labels(), "annotations": notes});
        match &step.trigger {
            Trigger::Create(object) => {
                let whole = self.whole(object, target, vars, &metadata)?;
                Ok(self
                    .cluster
                    .create(&target.api, target.namespace.as_deref(), &whole)
                    .await?)
            }
            Trigger::Apply(object) => {
                let whole = self.whole(object, target, vars, &metadata)?;
                Ok(self.cluster.apply(target.place(), &whole).await?)
            }
            Trigger::Patch(change) => {
                let noted = merge(notes, &json!({LABEL_RUN: self.context.request.run}));
                let patch = merge(
                    &fill(&change.patch, vars)?,
                    &json!({"metadata": {"annotations": noted}}),
                );
                Ok(self.cluster.patch(target.place(), &patch).await?)
            }
            Trigger::JobFromCronJob { from, job, env } => {
                let whole = self.whole(job, target, vars, &metadata)?;
                let cron = vars.get(from).cloned().unwrap_or_default();
                let env = fill(
                    &Value::Object(env.clone().into_iter().collect::<Map<_, _>>()),
                    vars,
                )?;
                let whole = job_of(&cron, &whole, &env);
                Ok(self
                    .cluster
                    .create(&target.api, target.namespace.as_deref(), &whole)
                    .await?)
            }
            Trigger::Http(http) => self.start_http(step, http, target, vars, notes).await,
        }
    }

    /// An object of a recipe with our labels, to be made.
    pub(super) fn made(
        &self,
        object: &NewObject,
        target: &Target,
        vars: &Vars,
    ) -> Result<Value, FillError> {
        self.whole(
            object,
            target,
            vars,
            &json!({"labels": self.context.labels()}),
        )
    }

    fn whole(
        &self,
        object: &NewObject,
        target: &Target,
        vars: &Vars,
        metadata: &Value,
    ) -> Result<Value, FillError> {
        let mut whole = json!({
            "apiVersion": target.api.api_version(),
            "kind": target.api.kind,
            "metadata": metadata,
        });
        let name = if object.generate_name {
            "generateName"
        } else {
            "name"
        };
        whole["metadata"][name] = json!(target.name);
        if let Some(namespace) = &target.namespace {
            whole["metadata"]["namespace"] = json!(namespace);
        }
        // Ours lie on top: nothing in a recipe can take the run's label away.
        Ok(merge(&fill(&object.object, vars)?, &whole))
    }
}

/// A Job as `kubectl create job --from` makes it, so that the CronJob's history limits count it.
fn job_of(cron: &Value, whole: &Value, env: &Value) -> Value {
    let template = &cron["spec"]["jobTemplate"];
    let mut job = merge(
        &json!({"metadata": {
        "labels": template["metadata"]["labels"],
        "annotations": merge(&json!({}), &template["metadata"]["annotations"]),
    }, "spec": template["spec"]}),
        whole,
    );
    if let Value::Object(map) = &mut job["metadata"]["annotations"] {
        map.insert(
            "cronjob.kubernetes.io/instantiate".to_owned(),
            json!("manual"),
        );
    } else {
        job["metadata"]["annotations"] = json!({"cronjob.kubernetes.io/instantiate": "manual"});
    }
    job["metadata"]["ownerReferences"] = json!([{
        "apiVersion": "batch/v1", "kind": "CronJob", "controller": true,
        "name": cron["metadata"]["name"], "uid": cron["metadata"]["uid"],
    }]);
    let containers = job["spec"]["template"]["spec"]["containers"].as_array_mut();
    for container in containers.into_iter().flatten() {
        let own = container["env"].as_array().cloned().unwrap_or_default();
        let ours = env.as_object().into_iter().flatten();
        let ours: Vec<Value> = ours
            .map(|(name, value)| json!({"name": name, "value": value}))
            .collect();
        let kept = own
            .into_iter()
            .filter(|it| ours.iter().all(|mine| mine["name"] != it["name"]));
        container["env"] = kept.chain(ours.clone()).collect();
    }
    job
}
