//! Triggers and looks by the system's own HTTP API.
//!
//! A request that started something cannot be found again by a label. So a ConfigMap is made before it is sent and is
//! told its answer: a run that finds the one without the other does not know, says so, and never sends it again.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use serde_json::{Map, Value, json};

use super::context::LABEL_RUN;
use super::drive::Engine;
use super::name::object_name;
use super::trigger::{Begun, NAMES_MAX, StartError, Target};
use crate::cluster::{Api, CallError, CallKind, HttpAnswer, HttpRequest, Place};
use crate::recipe::{Http, Vars, fill, fill_text};

impl Engine<'_> {
    pub(super) async fn begun_http(
        &self,
        apis: &BTreeMap<String, Api>,
        _vars: &Vars,
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
                Ok(found) if found["data"]["answer"].is_null() => {
                    let text = format!(
                        "{} says that the request was about to be sent, and not what was answered: whether it arrived is unknown",
                        target.text()
                    );
                    return Err(CallError::new(CallKind::Refused, text).into());
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
        http: &Http,
        target: &Target,
        vars: &Vars,
        notes: &Value,
    ) -> Result<Value, StartError> {
        let namespace = target.namespace.as_deref();
        let note = json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": target.name, "namespace": namespace, "labels": self.context.labels(), "annotations": notes},
            "data": {LABEL_RUN.replace('/', "."): self.context.request.run},
        });
        self.cluster.create(&target.api, namespace, &note).await?;
        let answer = self.ask_http(http, vars).await?;
        if !(200..300).contains(&answer.status) {
            let text = format!("it answered {}: {}", answer.status, answer.body);
            return Err(CallError::of_status(answer.status, text).into());
        }
        let patch = json!({"data": {"answer": answer.body.to_string()}});
        Ok(self.cluster.patch(target.place(), &patch).await?)
    }

    /// Sends a request; after a 401 it logs in once more.
    pub(super) async fn ask_http(
        &self,
        http: &Http,
        vars: &Vars,
    ) -> Result<HttpAnswer, StartError> {
        let (mut vars, authorities) = self.secret(http, vars).await?;
        let mut tries = 0;
        loop {
            self.login(http, &mut vars, authorities.as_deref()).await?;
            let mut headers = BTreeMap::new();
            for (name, value) in &http.headers {
                headers.insert(name.clone(), fill_text(value, &vars)?);
            }
            if let Some(auth) = &http.auth {
                headers.insert(auth.header.clone(), fill_text(&auth.value, &vars)?);
            }
            let request = HttpRequest {
                method: http.method.clone(),
                url: fill_text(&http.url, &vars)?,
                headers,
                body: http.body.as_ref().map(|it| fill(it, &vars)).transpose()?,
                timeout: http.timeout,
                authorities: authorities.clone(),
            };
            let answer = self.cluster.http(&request).await?;
            tries += 1;
            let may_login = http.auth.as_ref().is_some_and(|it| it.login.is_some());
            if answer.status != 401 || tries > 1 || !may_login {
                return Ok(answer);
            }
        }
    }

    async fn secret(&self, http: &Http, vars: &Vars) -> Result<(Vars, Option<String>), StartError> {
        let mut vars = vars.clone();
        let Some(auth) = &http.auth else {
            return Ok((vars, None));
        };
        let api = Api {
            group: String::new(),
            version: "v1".to_owned(),
            kind: "Secret".to_owned(),
            plural: "secrets".to_owned(),
            cluster: false,
        };
        let namespace = self.namespace(&api, auth.namespace.as_ref(), &vars)?;
        let name = fill_text(&auth.secret, &vars)?;
        let at = Place {
            api: &api,
            namespace: namespace.as_deref(),
            name: &name,
        };
        let secret = self.cluster.get(at).await?;
        let (mut plain, mut coded) = (Map::new(), Map::new());
        for (key, value) in secret["data"].as_object().into_iter().flatten() {
            let bytes = serde_json::from_value::<ByteString>(value.clone());
            if let Some(text) = bytes.ok().and_then(|it| String::from_utf8(it.0).ok()) {
                plain.insert(key.clone(), Value::String(text.trim_end().to_owned()));
                coded.insert(key.clone(), value.clone());
            }
        }
        let authorities = plain
            .get("ca.crt")
            .and_then(Value::as_str)
            .map(str::to_owned);
        vars.insert("secret".to_owned(), Value::Object(plain));
        vars.insert("secret64".to_owned(), Value::Object(coded));
        Ok((vars, authorities))
    }

    async fn login(
        &self,
        http: &Http,
        vars: &mut Vars,
        authorities: Option<&str>,
    ) -> Result<(), StartError> {
        let login = http.auth.as_ref().and_then(|auth| auth.login.as_ref());
        let Some(login) = login else { return Ok(()) };
        let request = HttpRequest {
            method: "POST".to_owned(),
            url: fill_text(&login.url, vars)?,
            headers: BTreeMap::new(),
            body: Some(fill(&login.body, vars)?),
            timeout: http.timeout,
            authorities: authorities.map(str::to_owned),
        };
        let answer = self.cluster.http(&request).await?;
        let token = login.token.path.select(&answer.body);
        match token.first().and_then(|it| it.as_str()) {
            Some(token) if (200..300).contains(&answer.status) => {
                vars.insert("token".to_owned(), json!(token));
                Ok(())
            }
            _ => {
                let text = format!("login was refused: it answered {}", answer.status);
                Err(CallError::of_status(answer.status.max(401), text).into())
            }
        }
    }
}
