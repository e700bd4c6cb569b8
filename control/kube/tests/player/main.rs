//! Every shipped recipe against its system's controller, played: each recipe and scenario is one named test.
//!
//! What a controller writes is data, in `tests/players/<recipe>.yaml`; the scenarios are one table for all (`scenario.rs`). A scenario that a
//! system cannot show is named there with the reason; a recipe that knows such a state all the same is an error.

#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests: where it panics is what is wrong"
)]

mod data;
mod docs;
#[path = "../chart/helm.rs"]
#[expect(
    dead_code,
    reason = "the tests of the chart use more of it; here the chart is only rendered"
)]
mod helm;
mod live;
mod own;
mod play;
mod policy;
mod read_back;
mod scenario;
mod stage;

use scenario::Scenario;

/// One module for each recipe, one test for each scenario in it.
macro_rules! recipes {
    ($($module:ident = $name:literal),+ $(,)?) => {
        /// Every recipe that is played.
        const PLAYED: &[&str] = &[$($name),+];
        $(mod $module {
            use super::{Scenario, play};
            recipes!(@ $name, success Success, slow Slow, transient_error Transient, final_failure Failure,
                success_with_nothing_in_it Nothing, no_answer Silence, skipped_or_queued Skipped,
                ready_that_flips_back Flip, resurrection_after_failure Resurrection, foreign_object_of_the_same_name Foreign,
                rights_denied Rights, quota_or_webhook_denial Denied, api_server_away Away, own_restart Restart,
                restored Restored, read_back_and_forgotten Verified, deleted Deleted);
        })+
    };
    (@ $name:literal, $($test:ident $scenario:ident),+) => {
        $(#[test]
        fn $test() {
            if let play::Played::Cannot(why) = play::play($name, Scenario::$scenario) {
                eprintln!("it cannot show this: {why}");
            }
        })+
    };
}

recipes!(
    commvault = "commvault",
    commvault_job = "commvault-job",
    csi = "csi",
    csi_group = "csi-group",
    k8up = "k8up",
    kanister = "kanister",
    kasten = "kasten",
    kasten_policy = "kasten-policy",
    kubemove = "kubemove",
    kubestash = "kubestash",
    longhorn = "longhorn",
    longhorn_csi = "longhorn-csi",
    longhorn_snapshot = "longhorn-snapshot",
    openebs_csi = "openebs-csi",
    openebs_velero = "openebs-velero",
    restic = "restic",
    stash = "stash",
    stork = "stork",
    stork_app = "stork-app",
    stork_group = "stork-group",
    trident_csi = "trident-csi",
    trident_protect = "trident-protect",
    trilio = "trilio",
    velero = "velero",
    volsync = "volsync",
);

#[test]
fn every_shipped_recipe_is_played() {
    let shipped: Vec<&str> = understudy_kube::recipe::BUILTIN
        .iter()
        .map(|(name, _)| *name)
        .collect();
    assert_eq!(PLAYED, shipped);
}
