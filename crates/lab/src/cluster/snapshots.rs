//! What the snapshot controller and a CSI driver's snapshotter do: for each VolumeSnapshot a copy of the claim's directory,
//! a VolumeSnapshotContent, and the status of both, as the [`Fate`] of the moment says.

use std::collections::{BTreeMap, BTreeSet};
use std::time::UNIX_EPOCH;

use serde_json::{Value, json};

use super::api::{Kind, Objects, name, now, text};
use super::volumes::{copy, directory_of};
use super::{LABEL, Place};
use crate::error::LabError;

/// What becomes of snapshots, those that are there included: a change from `Ready` to `Slow` makes them flip back.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Fate {
    /// Cut and ready.
    #[default]
    Ready,
    /// Cut, and not ready for as long as this lasts.
    Slow,
    /// Not cut, with this text of the controller. Those that were cut before stay as they are.
    Fails(String),
    /// Nobody looks at them: the controller is away.
    Ignored,
}

/// The snapshots that were cut.
#[derive(Default)]
pub(super) struct Snapshotter {
    /// By uid of the VolumeSnapshot: its content's name.
    cut: BTreeMap<String, String>,
}

impl Snapshotter {
    pub(super) async fn pass(
        &mut self,
        objects: &Objects,
        place: &Place,
        fate: &Fate,
    ) -> Result<(), LabError> {
        if *fate == Fate::Ignored {
            return Ok(());
        }
        let all = objects.list(Kind::SNAPSHOT, "").await?;
        for snapshot in &all {
            if text(snapshot, "/spec/volumeSnapshotClassName") != place.name {
                continue;
            }
            let was_cut = self.cut.contains_key(text(snapshot, "/metadata/uid"));
            match fate {
                Fate::Fails(_) if was_cut => {}
                Fate::Fails(message) => fail(objects, snapshot, message).await?,
                _ => self.succeed(objects, place, snapshot, fate).await?,
            }
        }
        let there: BTreeSet<&str> = all.iter().map(|it| text(it, "/metadata/uid")).collect();
        let gone: Vec<String> = self
            .cut
            .keys()
            .filter(|uid| !there.contains(uid.as_str()))
            .cloned()
            .collect();
        for uid in gone {
            self.forget(objects, &uid).await?;
        }
        Ok(())
    }

    async fn succeed(
        &mut self,
        objects: &Objects,
        place: &Place,
        snapshot: &Value,
        fate: &Fate,
    ) -> Result<(), LabError> {
        let uid = text(snapshot, "/metadata/uid");
        let content = format!("snapcontent-{uid}");
        let handle = place.directory.join(&content);
        let claim = text(snapshot, "/spec/source/persistentVolumeClaimName");
        let Some(volume) = directory_of(objects, claim).await? else {
            return fail(objects, snapshot, &format!("claim {claim} is not bound")).await;
        };
        if !self.cut.contains_key(uid) {
            copy(volume.as_ref(), &handle).await?;
            objects
                .create(
                    Kind::CONTENT,
                    content_for(snapshot, &content, &volume, place),
                )
                .await?;
            self.cut.insert(uid.to_owned(), content.clone());
        }
        let ready = *fate == Fate::Ready;
        if snapshot["status"]["readyToUse"] == ready {
            return Ok(());
        }
        let since = UNIX_EPOCH.elapsed().unwrap_or_default().as_nanos();
        let nanos = i64::try_from(since).unwrap_or(i64::MAX);
        let mut status =
            json!({"snapshotHandle": handle, "readyToUse": ready, "restoreSize": RESTORE_BYTES});
        let mut seen = json!({"boundVolumeSnapshotContentName": content, "readyToUse": ready, "restoreSize": "1Gi", "error": null});
        if snapshot["status"]["creationTime"].is_null() {
            status["creationTime"] = json!(nanos);
            seen["creationTime"] = json!(now());
        }
        objects.status(Kind::CONTENT, &content, &status).await?;
        objects.status(Kind::SNAPSHOT, name(snapshot), &seen).await
    }

    /// The snapshot was deleted: so is its content, and the copy, where its policy says so.
    async fn forget(&mut self, objects: &Objects, uid: &str) -> Result<(), LabError> {
        let Some(content) = self.cut.remove(uid) else {
            return Ok(());
        };
        let Some(found) = objects.get(Kind::CONTENT, &content).await? else {
            return Ok(());
        };
        if text(&found, "/spec/deletionPolicy") == "Delete" {
            let handle = text(&found, "/status/snapshotHandle");
            if !handle.is_empty() {
                std::fs::remove_dir_all(handle).map_err(LabError::io("delete a snapshot"))?;
            }
            objects.delete(Kind::CONTENT, &content).await?;
        }
        Ok(())
    }
}

/// What every volume of ours has: 1 GiB.
const RESTORE_BYTES: u64 = 1 << 30;

fn content_for(snapshot: &Value, content: &str, volume: &str, place: &Place) -> Value {
    let snapshot_ref = json!({"apiVersion": "snapshot.storage.k8s.io/v1", "kind": "VolumeSnapshot", "name": name(snapshot),
        "namespace": text(snapshot, "/metadata/namespace"), "uid": text(snapshot, "/metadata/uid")});
    json!({"metadata": {"name": content, "labels": {LABEL: place.name}}, "spec": {
        "deletionPolicy": "Delete", "driver": place.driver(), "source": {"volumeHandle": volume},
        "volumeSnapshotClassName": place.name, "volumeSnapshotRef": snapshot_ref}})
}

async fn fail(objects: &Objects, snapshot: &Value, message: &str) -> Result<(), LabError> {
    if text(snapshot, "/status/error/message") == message {
        return Ok(());
    }
    let status = json!({"readyToUse": false, "error": {"message": message, "time": now()}});
    objects
        .status(Kind::SNAPSHOT, name(snapshot), &status)
        .await
}
