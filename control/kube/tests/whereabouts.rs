//! What a real API server says of a proxy's Pod, where one may be used: `UNDERSTUDY_TEST_CLUSTER=1` and `KUBECONFIG`.

use std::path::PathBuf;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Namespace, Pod, ServiceAccount};
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams};
use serde_json::json;
use understudy_control::{Fate, PodName, Whereabouts};
use understudy_kube::Pods;
use understudy_kube::cluster::live::LiveCluster;

#[tokio::test]
async fn a_pod_runs_ends_and_is_gone_on_a_real_server() {
    if std::env::var_os("UNDERSTUDY_TEST_CLUSTER").is_none_or(|it| it != "1") {
        eprintln!("skipped: UNDERSTUDY_TEST_CLUSTER=1 and KUBECONFIG name no cluster to use");
        return;
    }
    let kubeconfig = std::env::var_os("KUBECONFIG").map(PathBuf::from);
    let kubeconfig = kubeconfig.expect("KUBECONFIG");
    let cluster = LiveCluster::connect(Some(&kubeconfig)).await.unwrap();
    let client = cluster.client();
    let there = Pods::new(Arc::new(cluster));

    let namespace = format!("us-where-{:x}", std::process::id());
    let named = |name: &str| serde_json::from_value(json!({ "metadata": { "name": name } }));
    let make = PostParams::default();
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let home = named(&namespace).unwrap();
    namespaces.create(&make, &home).await.unwrap();
    // Without its controllers the server admits no Pod before there is a service account; with them there may be one.
    let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), &namespace);
    let account = serde_json::from_value(json!({ "metadata": { "name": "default" } })).unwrap();
    accounts.create(&make, &account).await.ok();
    let pods: Api<Pod> = Api::namespaced(client, &namespace);
    let pod = json!({
        "metadata": { "name": "web-1", "finalizers": ["understudy.io/test"] },
        "spec": { "automountServiceAccountToken": false, "containers": [{ "name": "proxy", "image": "understudy" }] },
    });
    let pod: Pod = serde_json::from_value(pod).unwrap();
    let pod = pods.create(&make, &pod).await.unwrap();
    let uid = pod.metadata.uid.unwrap();
    let name = |uid: &str| PodName::parse(&format!("{namespace}/web-1/{uid}/proxy")).unwrap();

    let fate = there.of(&name(&uid)).await;
    assert_eq!(fate, Fate::Runs("is there".to_owned()));
    let fate = there
        .of(&name("00000000-0000-0000-0000-000000000000"))
        .await;
    assert!(
        matches!(&fate, Fate::Gone(text) if text.contains(&uid)),
        "{fate:?}"
    );

    // Deleted, and not gone yet: nobody has taken it down.
    let at_once = DeleteParams::default().grace_period(0);
    pods.delete("web-1", &at_once).await.unwrap();
    let fate = there.of(&name(&uid)).await;
    assert!(
        matches!(&fate, Fate::Ending(text) if text.contains("since 2")),
        "{fate:?}"
    );
    let free = json!({ "metadata": { "finalizers": null } });
    let patch = PatchParams::default();
    pods.patch("web-1", &patch, &Patch::Merge(&free))
        .await
        .unwrap();
    let fate = there.of(&name(&uid)).await;
    assert_eq!(fate, Fate::Gone("is not there any more".to_owned()));

    if let Some(path) = std::env::var_os("UNDERSTUDY_TEST_NOBODY") {
        let nobody = LiveCluster::connect(Some(&PathBuf::from(path))).await;
        let fate = Pods::new(Arc::new(nobody.unwrap())).of(&name(&uid)).await;
        assert!(
            matches!(&fate, Fate::Unknown(text) if text.contains("control needs `get` on pods")),
            "{fate:?}"
        );
    } else {
        eprintln!("skipped: UNDERSTUDY_TEST_NOBODY names no kubeconfig of a user without rights");
    }
    namespaces
        .delete(&namespace, &DeleteParams::default())
        .await
        .unwrap();
}
