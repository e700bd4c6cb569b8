//! Who takes snapshots of volumes, where the config has `kubernetes:`: this process, by recipes. And who says whether the Pod
//! of a silent proxy is gone.
//!
//! No API server is asked at the start: one that is away then holds up upgrades, not clients.

use std::sync::Arc;

use understudy_config::Config;
use understudy_control::Whereabouts;
use understudy_control::snapshot::SnapshotProvider;

/// The providers beside `local`; none where the config names no cluster, or sidecars take the snapshots.
#[cfg(feature = "kube")]
pub(crate) async fn providers(
    config: &Arc<Config>,
) -> anyhow::Result<Vec<Arc<dyn SnapshotProvider>>> {
    use anyhow::Context;
    use understudy_config::SnapshotsBy;
    use understudy_control::snapshot::Logins;
    use understudy_kube::cluster::live::LiveCluster;
    use understudy_kube::{KubeSnapshots, Settings, book_of};

    let Some(section) = &config.kubernetes else {
        return Ok(Vec::new());
    };
    if config.control.snapshots == SnapshotsBy::Agents {
        return Ok(Vec::new());
    }
    let book = book_of(section).context("read the recipes")?;
    let cluster = LiveCluster::connect(section.kubeconfig.as_deref())
        .await
        .context("kubernetes")?;
    let settings = Settings::of(section, &book, cluster.namespace())?;
    let notes = config.data_dir.join("snapshots");
    let logins = Logins::new(config.clone());
    let provider = KubeSnapshots::new(Arc::new(cluster), book, settings, logins, notes);
    Ok(vec![Arc::new(provider)])
}

/// A build without `kube` has none, and says so where one is wanted.
#[cfg(not(feature = "kube"))]
pub(crate) async fn providers(
    config: &Arc<Config>,
) -> anyhow::Result<Vec<Arc<dyn SnapshotProvider>>> {
    anyhow::ensure!(
        config.kubernetes.is_none(),
        "the config has `kubernetes`, and this build was made without the feature `kube`"
    );
    Ok(Vec::new())
}

/// Where Kubernetes puts a service account's token.
#[cfg(feature = "kube")]
const TOKEN: &str = "/var/run/secrets/kubernetes.io/serviceaccount/token";

/// Who knows where the Pods of silent proxies are: the API server that the config names, or that of the Pod we run in where it
/// has a token for us.
#[cfg(feature = "kube")]
pub(crate) async fn whereabouts(config: &Config) -> anyhow::Result<Option<Arc<dyn Whereabouts>>> {
    use anyhow::Context;
    use understudy_kube::Pods;
    use understudy_kube::cluster::live::LiveCluster;

    let kubeconfig = match &config.kubernetes {
        Some(section) => section.kubeconfig.as_deref(),
        None if std::path::Path::new(TOKEN).exists() => None,
        None => return Ok(None),
    };
    let cluster = LiveCluster::connect(kubeconfig)
        .await
        .context("kubernetes")?;
    Ok(Some(Arc::new(Pods::new(Arc::new(cluster)))))
}

/// A build without `kube` asks nobody.
#[cfg(not(feature = "kube"))]
pub(crate) async fn whereabouts(_: &Config) -> anyhow::Result<Option<Arc<dyn Whereabouts>>> {
    Ok(None)
}

/// Reads the recipes and what the config tells them, as the start does; every problem at once. Answers how many there are.
#[cfg(feature = "kube")]
pub(crate) fn check(config: &Config) -> anyhow::Result<Option<usize>> {
    use understudy_kube::{Settings, book_of};

    let Some(section) = &config.kubernetes else {
        return Ok(None);
    };
    let book = book_of(section)?;
    Settings::of(section, &book, "")?;
    Ok(Some(book.names().len()))
}

/// A build without `kube` reads no recipes, and refuses a config that wants some.
#[cfg(not(feature = "kube"))]
pub(crate) fn check(config: &Config) -> anyhow::Result<Option<usize>> {
    anyhow::ensure!(
        config.kubernetes.is_none(),
        "the config has `kubernetes`, and this build was made without the feature `kube`"
    );
    Ok(None)
}
