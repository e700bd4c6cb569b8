//! Recipes as a provider of snapshots: what `UPGRADE … SNAPSHOT csi` calls.
//!
//! A run is found again by its objects' label, a snapshot by its record. The claim is the one that the config names for
//! the shard, or the one behind the server's address.

use std::path::PathBuf;
use std::sync::Arc;

use serde_json::Map;
use understudy_control::snapshot::{
    Answer, Level, Logins, Preflight, PreflightProblem, Progress, ProviderError, ProviderErrorKind,
    Release, RestoreTo, SnapshotHandle, SnapshotProvider, SnapshotWish, Verified,
};

use crate::cluster::{CallError, CallKind, Cluster};
use crate::engine::{
    Context, Engine, Facts, Refusals, Request, Said, Server, ServerError, scratch_run,
};
use crate::latch::latched;
use crate::locate::{LocateError, locate};
use crate::recipe::{Book, Recipe, Right};
use crate::records::Records;
use crate::redis::RedisServer;
use crate::settings::Settings;

/// Snapshots by recipes, against one API server.
pub struct KubeSnapshots {
    cluster: Arc<dyn Cluster>,
    book: Book,
    settings: Settings,
    logins: Logins,
    notes: PathBuf,
}

/// For calls that need nothing of the server.
struct NoServer;

impl Server for NoServer {
    fn quiesce(&self, _level: Level) -> Said<'_, Facts> {
        Box::pin(async { Err(ServerError("no server is named".to_owned())) })
    }

    fn hold(&self, _most: std::time::Duration) -> Said<'_, ()> {
        Box::pin(async { Err(ServerError("no server is named".to_owned())) })
    }

    fn lift(&self) -> Said<'_, ()> {
        Box::pin(async { Ok(()) })
    }
}

impl KubeSnapshots {
    /// `notes` is a directory of this process, where is written down what has to be put back on a server.
    pub fn new(
        cluster: Arc<dyn Cluster>,
        book: Book,
        settings: Settings,
        logins: Logins,
        notes: PathBuf,
    ) -> Self {
        Self {
            cluster,
            book,
            settings,
            logins,
            notes,
        }
    }

    fn recipe(&self, name: &str) -> Result<&Recipe, ProviderError> {
        let known = || self.book.names().join(", ");
        match self.book.find(name) {
            Some(recipe) if recipe.enabled => Ok(recipe),
            Some(_) => Err(ProviderError::misconfigured(format!(
                "the recipe {name} is off; turn it on by a recipe of yours that extends it"
            ))),
            None => Err(ProviderError::misconfigured(format!(
                "no recipe {name}; there are: {}",
                known()
            ))),
        }
    }

    fn records(&self) -> Records<'_> {
        Records {
            cluster: self.cluster.as_ref(),
            namespace: &self.settings.namespace,
        }
    }

    /// The claim of a wish: named in the config, or behind the server's address.
    async fn claim(&self, wish: &SnapshotWish) -> Result<(String, String), LocateError> {
        if let Some((namespace, claim)) = self.settings.volumes.get(&wish.shard) {
            return Ok((namespace.clone(), claim.clone()));
        }
        let found = locate(
            self.cluster.as_ref(),
            &wish.server,
            &self.settings.namespace,
        )
        .await?;
        Ok((found.namespace, found.claim))
    }

    fn request(&self, wish: &SnapshotWish, (namespace, claim): (String, String)) -> Request {
        Request {
            run: wish.run.clone(),
            pool: wish.pool.clone(),
            shard: wish.shard.clone(),
            server: wish.server.clone(),
            level: wish.level,
            params: self.params(&wish.recipe),
            namespace,
            claim,
        }
    }

    fn params(&self, recipe: &str) -> Map<String, serde_json::Value> {
        self.settings
            .params
            .get(recipe)
            .cloned()
            .unwrap_or_default()
    }

    /// The request that a handle came from.
    fn request_of(&self, handle: &SnapshotHandle) -> Request {
        let part = |key: &str| handle.handle.get(key).cloned().unwrap_or_default();
        Request {
            run: handle.run.clone(),
            pool: handle.pool.clone(),
            shard: handle.shard.clone(),
            server: handle.server.clone(),
            level: if handle.level_reached == "app" {
                Level::App
            } else {
                Level::Crash
            },
            params: self.params(&handle.recipe),
            namespace: part("claimNamespace"),
            claim: part("claim"),
        }
    }

    async fn found(&self, id: &str) -> Result<SnapshotHandle, ProviderError> {
        let found = self
            .records()
            .find(id)
            .await
            .map_err(|cause| called(&cause))?;
        found.ok_or_else(|| {
            ProviderError::misconfigured(format!(
                "no snapshot {id} in namespace {}; SNAPSHOT LIST names them",
                self.settings.namespace
            ))
        })
    }

    /// An engine that needs nothing of the server.
    async fn without_server<T>(
        &self,
        handle: &SnapshotHandle,
        progress: Progress<'_>,
        act: impl AsyncFnOnce(Engine<'_>) -> Result<T, ProviderError>,
    ) -> Result<T, ProviderError> {
        let recipe = self.recipe(&handle.recipe)?;
        let mut request = self.request_of(handle);
        if request.claim.is_empty() {
            // A run that did not end has no handle: its claim is found as it was then.
            let wish = SnapshotWish {
                run: handle.run.clone(),
                pool: handle.pool.clone(),
                shard: handle.shard.clone(),
                server: handle.server.clone(),
                recipe: handle.recipe.clone(),
                level: Level::Crash,
            };
            let claim = self.claim(&wish).await.map_err(|cause| located(&cause))?;
            request = self.request(&wish, claim);
        }
        let engine = Engine::new(
            self.cluster.as_ref(),
            &NoServer,
            Context {
                request: &request,
                recipe,
            },
            progress,
        );
        act(engine).await
    }

    async fn refuse_by_records(&self, refusals: &mut Refusals) -> Result<(), CallError> {
        let rights: Vec<Right> = self.records().rights();
        for right in &rights {
            if !self.cluster.can_i(right).await?.yes {
                let text = format!(
                    "no right to {} {} in namespace {}, where records of snapshots are kept",
                    right.verb, right.resource, self.settings.namespace
                );
                refusals.add(
                    "snapshot-rights",
                    text,
                    "add it to the role of our service account",
                );
            }
        }
        Ok(())
    }

    async fn look_before(&self, wish: &SnapshotWish) -> Result<Preflight, ProviderError> {
        let recipe = self.recipe(&wish.recipe)?;
        let claim = match self.claim(wish).await {
            Ok(claim) => claim,
            Err(LocateError::Unclear(text)) => {
                let (text, remedy) = text.split_once("; ").unwrap_or((&text, "name it"));
                return Ok(Preflight {
                    problems: vec![problem("snapshot-claim", text, remedy)],
                    notes: Vec::new(),
                });
            }
            Err(LocateError::Call(cause)) => return Err(called(&cause)),
        };
        let mut notes = vec![format!(
            "{}: the volume of {} is claim {}/{}",
            wish.shard, wish.server, claim.0, claim.1
        )];
        let request = self.request(wish, claim);
        let quiet = |_: String| {};
        let engine = Engine::new(
            self.cluster.as_ref(),
            &NoServer,
            Context {
                request: &request,
                recipe,
            },
            &quiet,
        );
        let (mut refusals, more) = engine.preflight().await?;
        self.refuse_by_records(&mut refusals)
            .await
            .map_err(|cause| called(&cause))?;
        notes.extend(more);
        let problems = refusals
            .0
            .into_iter()
            .map(|it| problem(it.code, &it.text, &it.remedy));
        Ok(Preflight {
            problems: problems.collect(),
            notes,
        })
    }

    async fn take_it(
        &self,
        wish: &SnapshotWish,
        progress: Progress<'_>,
    ) -> Result<SnapshotHandle, ProviderError> {
        let recipe = self.recipe(&wish.recipe)?;
        let claim = self.claim(wish).await.map_err(|cause| located(&cause))?;
        let request = self.request(wish, claim);
        let endpoint = self
            .logins
            .endpoint(&wish.pool, &wish.shard, &wish.server)
            .map_err(ProviderError::misconfigured)?;
        let server = RedisServer {
            endpoint: &endpoint,
            name: &wish.server,
            run: &wish.run,
            notes: &self.notes,
            progress,
        };
        let engine = Engine::new(
            self.cluster.as_ref(),
            &server,
            Context {
                request: &request,
                recipe,
            },
            progress,
        );
        let handle = latched(self.records(), wish, engine.take()).await?;
        self.records()
            .keep(&handle)
            .await
            .map_err(|cause| called(&cause))?;
        Ok(handle)
    }
}

fn problem(code: &str, text: &str, remedy: &str) -> PreflightProblem {
    PreflightProblem {
        code: code.to_owned(),
        text: text.to_owned(),
        remedy: remedy.to_owned(),
    }
}

/// What a failed call means to control.
pub(crate) fn called(cause: &CallError) -> ProviderError {
    let kind = match cause.kind {
        CallKind::Denied => ProviderErrorKind::Denied,
        CallKind::Busy | CallKind::Unreachable => ProviderErrorKind::Unreachable,
        CallKind::NotFound | CallKind::Conflict | CallKind::Refused => {
            ProviderErrorKind::Misconfigured
        }
    };
    ProviderError::new(
        kind,
        format!(
            "the API server: {}; look at it, or at our rights",
            cause.text
        ),
    )
}

fn located(cause: &LocateError) -> ProviderError {
    match cause {
        LocateError::Call(cause) => called(cause),
        LocateError::Unclear(text) => ProviderError::misconfigured(text.clone()),
    }
}

impl SnapshotProvider for KubeSnapshots {
    fn recipes(&self) -> Answer<'_, Vec<String>> {
        Box::pin(async { Ok(self.book.names()) })
    }

    fn preflight<'a>(&'a self, wish: &'a SnapshotWish) -> Answer<'a, Preflight> {
        Box::pin(self.look_before(wish))
    }

    fn take<'a>(
        &'a self,
        wish: &'a SnapshotWish,
        progress: Progress<'a>,
    ) -> Answer<'a, SnapshotHandle> {
        Box::pin(self.take_it(wish, progress))
    }

    fn check<'a>(&'a self, handle: &'a SnapshotHandle) -> Answer<'a, ()> {
        Box::pin(async move {
            self.without_server(handle, &|_| {}, async |engine| engine.check(handle).await)
                .await
        })
    }

    fn release<'a>(&'a self, handle: &'a SnapshotHandle, why: Release) -> Answer<'a, ()> {
        Box::pin(async move {
            let recipe = self.recipe(&handle.recipe)?;
            let may = recipe.delete.as_ref().is_some_and(|it| it.abandoned);
            let delete = why == Release::Abandoned && may;
            self.without_server(handle, &|_| {}, async |engine| {
                engine.release(handle, delete).await
            })
            .await?;
            if delete && !handle.id.is_empty() {
                self.records()
                    .forget(&handle.id)
                    .await
                    .map_err(|cause| called(&cause))?;
            }
            Ok(())
        })
    }

    fn list(&self) -> Answer<'_, Vec<SnapshotHandle>> {
        Box::pin(async { self.records().all().await.map_err(|cause| called(&cause)) })
    }

    fn show<'a>(&'a self, id: &'a str) -> Answer<'a, Vec<(String, String)>> {
        Box::pin(async move {
            let handle = self.found(id).await?;
            let state = match self.check(&handle).await {
                Ok(()) => "ready and verified".to_owned(),
                Err(cause) => cause.to_string(),
            };
            Ok(fields(&handle, state))
        })
    }

    fn restore<'a>(
        &'a self,
        id: &'a str,
        to: &'a RestoreTo,
        progress: Progress<'a>,
    ) -> Answer<'a, Vec<(String, String)>> {
        Box::pin(async move {
            let handle = self.found(id).await?;
            let RestoreTo::Object { namespace, name } = to else {
                return Err(ProviderError::misconfigured(format!(
                    "a snapshot of recipe {} is restored to object:[namespace/]name, not to {to}",
                    handle.recipe
                )));
            };
            let own = handle
                .handle
                .get("claimNamespace")
                .cloned()
                .unwrap_or_default();
            let namespace = namespace.clone().unwrap_or(own);
            self.check(&handle).await?;
            self.without_server(&handle, progress, async |engine| {
                engine.restore(&handle, &namespace, name).await
            })
            .await
        })
    }

    fn verify<'a>(&'a self, id: &'a str, progress: Progress<'a>) -> Answer<'a, Verified> {
        Box::pin(async move {
            let handle = self.found(id).await?;
            self.check(&handle).await?;
            let recipe = self.recipe(&handle.recipe)?;
            let request = Request {
                run: scratch_run(&handle.run),
                ..self.request_of(&handle)
            };
            let context = Context {
                request: &request,
                recipe,
            };
            let engine = Engine::new(self.cluster.as_ref(), &NoServer, context, progress);
            engine.audit(&handle, &self.settings.verify).await
        })
    }

    fn delete<'a>(&'a self, id: &'a str) -> Answer<'a, ()> {
        Box::pin(async move {
            let handle = self.found(id).await?;
            self.without_server(&handle, &|_| {}, async |engine| {
                engine.release(&handle, true).await
            })
            .await?;
            self.records()
                .forget(id)
                .await
                .map_err(|cause| called(&cause))
        })
    }
}

/// A handle as fields for a person.
fn fields(handle: &SnapshotHandle, state: String) -> Vec<(String, String)> {
    let number = |it: Option<u64>| it.map(|it| it.to_string()).unwrap_or_default();
    let mut fields: Vec<(String, String)> = [
        ("id", handle.id.clone()),
        ("state", state),
        ("recipe", handle.recipe.clone()),
        ("pool", handle.pool.clone()),
        ("shard", handle.shard.clone()),
        ("server", handle.server.clone()),
        ("taken_at_ms", handle.taken_at_ms.to_string()),
        ("level", handle.level_reached.clone()),
        ("offset", number(handle.offset)),
        ("keys", number(handle.keys)),
        ("run_id", handle.run_id.clone().unwrap_or_default()),
        ("version", handle.version.clone().unwrap_or_default()),
        ("object", handle.place()),
    ]
    .into_iter()
    .filter(|(_, value)| !value.is_empty())
    .map(|(name, value)| (name.to_owned(), value))
    .collect();
    fields.extend(
        handle
            .handle
            .iter()
            .map(|(key, value)| (format!("handle.{key}"), value.clone())),
    );
    fields
}
