//! Control in a process of its own, driving two proxies of one pool.

use understudy_lab::{Cast, SceneOptions, Version};

use crate::stage::{LIMIT, all, assert_clean, options, served, under_load, verdict};

fn two_proxies() -> SceneOptions {
    let mut wanted = options(Version::Redis6_2_14, Version::Redis8_2_3);
    wanted.cast = Cast::Separate { proxies: 2 };
    wanted
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_proxies_of_one_pool_switch_together() {
    let (scene, load) = under_load(&two_proxies()).await;
    scene.start_upgrade(&[]).await.unwrap();
    scene.wait_for("soak", LIMIT).await.unwrap();
    assert_clean(&verdict(load, &all(&scene.targets)).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proxy_that_stands_still_aborts_the_attempt_and_nothing_else() {
    let (scene, load) = under_load(&two_proxies()).await;
    scene.start_upgrade(&["CUTOVER", "manual"]).await.unwrap();
    scene
        .wait_until("verified", LIMIT, |status| {
            status["shards"][0]["phase"] == "cutover"
        })
        .await
        .unwrap();
    scene.proxies[1].freeze().unwrap();
    scene
        .call(&["UPGRADE", "CUTOVER", understudy_lab::POOL])
        .await
        .ok();
    scene
        .wait_until("aborted", LIMIT, |status| status["phase"] == "aborted")
        .await
        .unwrap();
    scene.proxies[1].thaw().unwrap();
    served(&load).await;
    assert_clean(&verdict(load, &all(&scene.sources)).await);
}
