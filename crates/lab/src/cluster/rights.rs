//! A service account with no more rights than somebody else's objects give it.

use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use kube::config::{AuthInfo, Kubeconfig};
use serde_json::{Value, json};

use super::api::{Kind, Objects, name, text};
use super::{LABEL, Place, lock};
use crate::error::LabError;

/// Kinds that say who may do what. The others of a release are left out.
const RIGHTS: [Kind; 7] = [
    Kind::ACCOUNT,
    Kind::ROLE,
    Kind::ROLE_BINDING,
    Kind::CLUSTER_ROLE,
    Kind::CLUSTER_ROLE_BINDING,
    Kind::ADMISSION_POLICY,
    Kind::ADMISSION_POLICY_BINDING,
];

/// Makes what a release says of rights. What is of the whole cluster goes onto the list before it is made.
pub(super) async fn grant(
    objects: &Objects,
    place: &Place,
    release: &[Value],
    granted: &Mutex<Vec<(Kind, String)>>,
) -> Result<(), LabError> {
    for object in release {
        let kind = RIGHTS.into_iter().find(|it| it.is_of(object));
        let Some(kind) = kind else {
            continue;
        };
        let mut object = object.clone();
        object["metadata"]["labels"][LABEL] = json!(place.name);
        if !kind.is_namespaced() {
            lock(granted).push((kind, name(&object).to_owned()));
        }
        objects.create(kind, object).await?;
    }
    Ok(())
}

/// Writes the kubeconfig of an account, with a token that the API server made for it.
pub(super) async fn kubeconfig(
    objects: &Objects,
    place: &Place,
    admin: &Path,
    account: &str,
) -> Result<PathBuf, LabError> {
    let wrong = |cause: &dyn std::fmt::Display| LabError::Answer {
        doing: format!("make a kubeconfig for {account}"),
        answer: cause.to_string(),
    };
    let answer = objects.token(account).await?;
    let mut file = Kubeconfig::read_from(admin).map_err(|cause| wrong(&cause))?;
    for user in &mut file.auth_infos {
        user.auth_info = Some(AuthInfo {
            token: Some(text(&answer, "/status/token").to_owned().into()),
            ..AuthInfo::default()
        });
    }
    let yaml = serde_saphyr::to_string(&file).map_err(|cause| wrong(&cause))?;
    let path = place.directory.join(format!("{account}.kubeconfig"));
    let made = std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&path);
    let written = made.and_then(|mut file| std::io::Write::write_all(&mut file, yaml.as_bytes()));
    written.map_err(LabError::io("write a kubeconfig"))?;
    Ok(path)
}
