//! End to end on a real API server: StatefulSets, a volume snapshot before each cutover, and what is in it.
//!
//! The lab plays scheduler, kubelet and CSI driver (`understudy_lab::Cluster`); the rest is the cluster's own: controllers,
//! binder, schemas, watches. `UNDERSTUDY_TEST_CLUSTER=1` allows the tests to use the cluster that `KUBECONFIG` names; it
//! needs a controller manager, and a user who may do everything. Without these each test says that it is skipped.
//! What we run ourselves has the rights that the chart gives its account, and no others.

#![expect(
    clippy::unwrap_used,
    reason = "in a test, a failed expectation ends the test"
)]

#[path = "../../control/kube/tests/chart/helm.rs"]
#[expect(
    dead_code,
    reason = "the tests of the chart use more of it; here its rights are rendered"
)]
mod helm;
mod refused;
mod restart;
mod sidecars;
mod stage;
mod whole;
