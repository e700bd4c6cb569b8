//! What the provisioner of a CSI driver does: for each claim of our class a directory, empty or copied from a snapshot.
//! The server's own binder binds the two.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::api::{Kind, Objects, name, text};
use super::{LABEL, Place};
use crate::error::LabError;

/// Gives every claim that waits for it a volume.
pub(super) async fn pass(objects: &Objects, place: &Place) -> Result<(), LabError> {
    for claim in objects.list(Kind::CLAIM, "").await? {
        let ours = text(&claim, "/spec/storageClassName") == place.name;
        if !ours || !text(&claim, "/spec/volumeName").is_empty() {
            continue;
        }
        let volume = format!("pvc-{}", text(&claim, "/metadata/uid"));
        let directory = place.directory.join(&volume);
        if !directory.exists() {
            match text(&claim, "/spec/dataSource/kind") {
                "" => fs::create_dir(&directory).map_err(LabError::io("make a volume"))?,
                _ => match snapshot_of(objects, &claim).await? {
                    Some(from) => copy(&from, &directory).await?,
                    None => continue,
                },
            }
        }
        objects
            .create(Kind::VOLUME, volume_for(&claim, &volume, &directory, place))
            .await?;
    }
    Ok(())
}

fn volume_for(claim: &Value, volume: &str, directory: &Path, place: &Place) -> Value {
    let claim_ref = json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "name": name(claim),
        "namespace": text(claim, "/metadata/namespace"), "uid": text(claim, "/metadata/uid")});
    json!({"metadata": {"name": volume, "labels": {LABEL: place.name}}, "spec": {
        "capacity": claim["spec"]["resources"]["requests"], "accessModes": claim["spec"]["accessModes"],
        "csi": {"driver": place.driver(), "volumeHandle": directory}, "claimRef": claim_ref,
        "storageClassName": place.name, "persistentVolumeReclaimPolicy": "Retain"}})
}

/// The directory of the snapshot that a claim is to be restored from, once it can be.
async fn snapshot_of(objects: &Objects, claim: &Value) -> Result<Option<PathBuf>, LabError> {
    let source = text(claim, "/spec/dataSource/name");
    let Some(snapshot) = objects.get(Kind::SNAPSHOT, source).await? else {
        return Ok(None);
    };
    if snapshot["status"]["readyToUse"] != true {
        return Ok(None);
    }
    let content = text(&snapshot, "/status/boundVolumeSnapshotContentName");
    let content = objects.get(Kind::CONTENT, content).await?;
    Ok(content.map(|it| PathBuf::from(text(&it, "/status/snapshotHandle"))))
}

/// The directory behind a claim that is bound.
pub(super) async fn directory_of(
    objects: &Objects,
    claim: &str,
) -> Result<Option<String>, LabError> {
    let Some(claim) = objects.get(Kind::CLAIM, claim).await? else {
        return Ok(None);
    };
    if text(&claim, "/status/phase") != "Bound" {
        return Ok(None);
    }
    let volume = text(&claim, "/spec/volumeName");
    let volume = objects.get(Kind::VOLUME, volume).await?;
    Ok(volume.map(|it| text(&it, "/spec/csi/volumeHandle").to_owned()))
}

/// Copies a directory whole; it appears by one rename. Files are taken one after the other: what a server renames into
/// place (an RDB) is in the copy whole, old or new.
pub(super) async fn copy(from: &Path, to: &Path) -> Result<(), LabError> {
    let (from, to) = (from.to_owned(), to.to_owned());
    let copying = tokio::task::spawn_blocking(move || {
        let half = to.with_extension("half");
        if half.exists() {
            fs::remove_dir_all(&half)?;
        }
        copy_files(&from, &half)?;
        fs::rename(&half, &to)
    });
    let copied = copying.await.map_err(std::io::Error::other);
    copied
        .and_then(|copied| copied)
        .map_err(LabError::io("copy a volume"))
}

fn copy_files(from: &Path, to: &Path) -> std::io::Result<()> {
    fs::create_dir(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        let kind = entry.file_type()?;
        let copied = if kind.is_dir() {
            copy_files(&entry.path(), &target)
        } else if kind.is_file() {
            fs::copy(entry.path(), &target).map(drop)
        } else {
            Ok(())
        };
        match copied {
            // A temporary file of the server that was there a moment ago.
            Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => {}
            other => other?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::copy;

    #[tokio::test]
    async fn a_copy_has_every_file_and_leaves_nothing_half_done() {
        let home = tempfile::tempdir().unwrap();
        let from = home.path().join("from");
        std::fs::create_dir_all(from.join("appendonlydir")).unwrap();
        std::fs::write(from.join("appendonlydir/a.aof"), "x").unwrap();
        std::fs::write(from.join("dump.rdb"), "y").unwrap();
        let to = home.path().join("to");
        copy(&from, &to).await.unwrap();
        assert_eq!(std::fs::read(to.join("appendonlydir/a.aof")).unwrap(), b"x");
        assert_eq!(std::fs::read(to.join("dump.rdb")).unwrap(), b"y");
        assert_eq!(std::fs::read_dir(home.path()).unwrap().count(), 2);
    }
}
