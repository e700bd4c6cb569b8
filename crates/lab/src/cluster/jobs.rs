//! What a kubelet does for the Pod of a Job: runs its container once, with the claim's directory where it is mounted, and
//! writes its end and its last words into the Pod's status. The container is a binary of this machine, whatever its image.

use std::path::Path;

use serde_json::{Value, json};
use tokio::process::Command;

use super::Place;
use super::api::{Kind, Objects, name, now, text};
use crate::error::LabError;

/// Longest message that a kubelet takes over.
const MESSAGE_BYTES_MAX: usize = 4096;

/// Whether a Pod belongs to a Job.
pub(super) fn is_of_job(pod: &Value) -> bool {
    let owners = pod["metadata"]["ownerReferences"].as_array();
    owners.into_iter().flatten().any(|it| it["kind"] == "Job")
}

/// Runs it to its end, unless it has run.
pub(super) async fn run(
    objects: &Objects,
    place: &Place,
    pod: &Value,
    volume: &Path,
) -> Result<(), LabError> {
    if ["Succeeded", "Failed"].contains(&text(pod, "/status/phase")) {
        return Ok(());
    }
    let Some(binary) = &place.binary else {
        return Err(LabError::Answer {
            doing: format!("run Pod {} of a Job", name(pod)),
            answer: "ClusterOptions::binary names no program".to_owned(),
        });
    };
    let container = &pod["spec"]["containers"][0];
    let message = place
        .directory
        .join(format!("{}.message", text(pod, "/metadata/uid")));
    let mount = text(container, "/volumeMounts/0/mountPath");
    let words = container["args"].as_array().into_iter().flatten();
    let words = words.filter_map(Value::as_str).map(|word| match word {
        word if word == mount => volume.to_owned(),
        word if word == text(container, "/terminationMessagePath") => message.clone(),
        word => word.into(),
    });
    let begun = now();
    let ended = Command::new(binary)
        .args(words)
        .output()
        .await
        .map_err(LabError::io("run a Job's container"))?;
    let code = ended.status.code().unwrap_or(-1);
    let mut told = std::fs::read_to_string(&message).unwrap_or_default();
    if told.is_empty() && code != 0 {
        told = String::from_utf8_lossy(&ended.stderr).into_owned();
    }
    told.truncate(told.floor_char_boundary(MESSAGE_BYTES_MAX));
    let (phase, reason) = match code {
        0 => ("Succeeded", "Completed"),
        _ => ("Failed", "Error"),
    };
    let end = json!({"exitCode": code, "reason": reason, "message": told, "startedAt": begun, "finishedAt": now()});
    let image = text(container, "/image");
    let state = json!({"name": text(container, "/name"), "image": image, "imageID": image, "ready": false,
        "restartCount": 0, "state": {"terminated": end}});
    let status = json!({"phase": phase, "startTime": begun, "containerStatuses": [state]});
    objects.status(Kind::POD, name(pod), &status).await
}
