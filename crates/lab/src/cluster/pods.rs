//! What a scheduler and a kubelet do for Pods: bind, run, report, end.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::Path;

use serde_json::{Value, json};

use super::api::{Kind, Objects, name, now, text};
use super::volumes::directory_of;
use super::{Place, jobs};
use crate::error::LabError;
use crate::port::free_host;
use crate::server::{Server, ServerOptions};
use crate::version::Version;

/// Where every Redis in a cluster listens.
const PORT: u16 = 6379;

/// The servers of the Pods.
#[derive(Default)]
pub(super) struct Kubelet {
    pods: BTreeMap<String, Running>,
}

struct Running {
    /// None once it was handed over.
    server: Option<Server>,
    host: Ipv4Addr,
}

impl Kubelet {
    /// The server of a Pod that is ready; from now on it is the caller's to stop.
    pub(super) fn hand_over(&mut self, pod: &str) -> Option<Server> {
        self.pods.get_mut(pod)?.server.take()
    }

    /// Binds Pods, starts a server for each whose volume is there, says that it is ready, and lets go of those that end.
    pub(super) async fn pass(&mut self, objects: &Objects, place: &Place) -> Result<(), LabError> {
        for pod in objects.list(Kind::POD, "").await? {
            let name = name(&pod);
            if pod["metadata"]["deletionTimestamp"].is_string() {
                self.pods.remove(name);
                objects.delete(Kind::POD, name).await?;
                continue;
            }
            if text(&pod, "/spec/nodeName").is_empty() {
                objects.bind(name, &place.name).await?;
            }
            if jobs::is_of_job(&pod) {
                if let Some(directory) = volume_of(objects, &pod).await? {
                    jobs::run(objects, place, &pod, Path::new(&directory)).await?;
                }
                continue;
            }
            if !self.pods.contains_key(name) {
                let Some(directory) = volume_of(objects, &pod).await? else {
                    continue;
                };
                let running = run(&pod, Path::new(&directory)).await?;
                self.pods.insert(name.to_owned(), running);
            }
            if let Some(running) = self.pods.get(name)
                && text(&pod, "/status/phase") != "Running"
            {
                let status = ready(&pod, running.host);
                objects.status(Kind::POD, name, &status).await?;
            }
        }
        Ok(())
    }
}

/// The directory behind the Pod's first claim, once that is bound.
async fn volume_of(objects: &Objects, pod: &Value) -> Result<Option<String>, LabError> {
    let volumes = pod["spec"]["volumes"].as_array().into_iter().flatten();
    let claim = volumes
        .map(|volume| text(volume, "/persistentVolumeClaim/claimName"))
        .find(|claim| !claim.is_empty());
    match claim {
        Some(claim) => directory_of(objects, claim).await,
        None => Ok(None),
    }
}

async fn run(pod: &Value, directory: &Path) -> Result<Running, LabError> {
    let version = version_of(text(pod, "/spec/containers/0/image"))?;
    let host = free_host(PORT).map_err(LabError::io("find a free address"))?;
    let options = ServerOptions::new()
        .directory(directory)
        .place(SocketAddrV4::new(host, PORT));
    let server = Server::start(version, options).await?;
    Ok(Running {
        server: Some(server),
        host,
    })
}

/// `redis:6.2.14`, `valkey/valkey:8.1.8`.
fn version_of(image: &str) -> Result<Version, LabError> {
    let (product, tag) = image.rsplit_once(':').unwrap_or((image, ""));
    match product.contains("valkey") {
        true => format!("valkey-{tag}").parse(),
        false => tag.parse(),
    }
}

fn ready(pod: &Value, host: Ipv4Addr) -> Value {
    let since = now();
    let condition =
        |kind: &str| json!({"type": kind, "status": "True", "lastTransitionTime": since});
    let conditions = ["PodScheduled", "Initialized", "ContainersReady", "Ready"].map(condition);
    let image = text(pod, "/spec/containers/0/image");
    let container = json!({"name": text(pod, "/spec/containers/0/name"), "image": image, "imageID": image,
        "ready": true, "started": true, "restartCount": 0, "state": {"running": {"startedAt": since}}});
    json!({"phase": "Running", "podIP": host, "podIPs": [{"ip": host}], "hostIP": "127.0.0.1", "startTime": since,
        "conditions": conditions, "containerStatuses": [container]})
}

#[cfg(test)]
mod tests {
    use super::version_of;
    use crate::version::Version;

    #[test]
    fn the_image_says_which_server_runs() {
        assert_eq!(version_of("redis:6.2.14").unwrap(), Version::Redis6_2_14);
        let image = "docker.io/valkey/valkey:8.1.8";
        assert_eq!(version_of(image).unwrap(), Version::Valkey8_1_8);
        assert!(version_of("redis").is_err());
    }
}
