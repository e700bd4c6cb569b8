//! The journal keeps what it was told, over a reopening, a lock and a damaged file.

use super::*;
use crate::effect::Outcome;
use crate::phase::Phase;

fn options() -> Options {
    Options {
        snapshot: SnapshotChoice::Recipe("local".to_owned()),
        cutover: CutoverMode::Auto,
        hold_max_ms: 100,
        soak_s: None,
        replace: false,
        accept: vec!["big-keys".to_owned()],
    }
}

fn upgrade(id: u64) -> UpgradeRecord {
    UpgradeRecord {
        v: FORMAT,
        id,
        pool: "sessions".to_owned(),
        shards: vec!["s1".to_owned()],
        options: options(),
        started_at_ms: 1,
    }
}

fn shard() -> ShardRecord {
    ShardRecord::new(
        &upgrade(1),
        "s1",
        "redis://127.0.0.1:6001".into(),
        "redis://127.0.0.1:6002".into(),
        0,
    )
}

fn route() -> RouteRecord {
    RouteRecord {
        v: FORMAT,
        pool: "sessions".to_owned(),
        shard: "s1".to_owned(),
        epoch: 1,
        url: "redis://127.0.0.1:6002".to_owned(),
        retired: vec!["redis://127.0.0.1:6001".to_owned()],
    }
}

fn promote() -> Effect {
    Effect::Promote {
        server: "redis://127.0.0.1:6002".to_owned(),
    }
}

#[tokio::test]
async fn what_was_recorded_is_there_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let journal = Journal::open(directory.path()).await.unwrap();
    journal.start(upgrade(1), vec![shard()]).await.unwrap();
    let mut moved = shard();
    moved.phase = Phase::Committed;
    journal.commit(moved.clone(), route()).await.unwrap();
    let journal = reopen(journal, directory.path()).await;
    assert_eq!(journal.shards().await.unwrap(), [moved]);
    assert_eq!(
        journal.route("sessions", "s1").await.unwrap(),
        Some(route())
    );
    assert_eq!(journal.upgrades().await.unwrap(), [upgrade(1)]);
}

/// Drops the handle and opens the file again as soon as it is free.
async fn reopen(journal: Journal, directory: &Path) -> Journal {
    drop(journal);
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(5);
    loop {
        match Journal::open(directory).await {
            Ok(journal) => return journal,
            Err(JournalError::Locked { .. }) if std::time::Instant::now() < deadline => {
                tokio::task::yield_now().await;
            }
            Err(error) => panic!("{error}"),
        }
    }
}

#[tokio::test]
async fn terms_only_grow_over_restarts_and_pass_what_proxies_have_seen() {
    let directory = tempfile::tempdir().unwrap();
    let journal = Journal::open(directory.path()).await.unwrap();
    assert_eq!(journal.next_term(0).await.unwrap(), 1);
    assert_eq!(journal.next_term(41).await.unwrap(), 41);
    let journal = reopen(journal, directory.path()).await;
    assert_eq!(journal.next_term(7).await.unwrap(), 42);
}

#[tokio::test]
async fn an_effect_that_was_begun_and_not_settled_stays_unknown() {
    let directory = tempfile::tempdir().unwrap();
    let journal = Journal::open(directory.path()).await.unwrap();
    let begun = journal
        .begin("sessions", "s1", vec![promote(), promote()], None)
        .await
        .unwrap();
    assert_eq!([begun[0].seq, begun[1].seq], [1, 2]);
    journal
        .settle(begun[0].clone(), EffectState::Confirmed(Outcome::Done))
        .await
        .unwrap();
    let states: Vec<EffectState> = journal
        .effects()
        .await
        .unwrap()
        .into_iter()
        .map(|effect| effect.state)
        .collect();
    assert_eq!(
        states,
        [EffectState::Confirmed(Outcome::Done), EffectState::Begun]
    );
}

#[tokio::test]
async fn a_result_that_was_queued_is_on_disk_before_what_is_recorded_later() {
    let directory = tempfile::tempdir().unwrap();
    let journal = Journal::open(directory.path()).await.unwrap();
    let begun = journal
        .begin("sessions", "s1", vec![promote()], None)
        .await
        .unwrap();
    journal
        .settle_later(begun[0].clone(), EffectState::Confirmed(Outcome::Done))
        .await
        .unwrap();
    journal.commit(shard(), route()).await.unwrap();
    assert_eq!(
        journal.effects().await.unwrap()[0].state,
        EffectState::Confirmed(Outcome::Done)
    );
}

#[tokio::test]
async fn a_second_process_is_told_that_the_journal_is_open() {
    let directory = tempfile::tempdir().unwrap();
    let _journal = Journal::open(directory.path()).await.unwrap();
    let error = Journal::open(directory.path()).await.unwrap_err();
    assert!(
        error.to_string().contains("open in another process"),
        "{error}"
    );
}

#[tokio::test]
async fn a_damaged_file_is_named_and_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join(FILE_NAME);
    std::fs::write(
        &path,
        b"this is no journal, and it is long enough to look at",
    )
    .unwrap();
    let error = Journal::open(directory.path()).await.unwrap_err();
    assert!(error.to_string().contains("damaged"), "{error}");
    assert_eq!(
        std::fs::read(&path).unwrap(),
        b"this is no journal, and it is long enough to look at"
    );
}

#[tokio::test]
async fn the_dump_is_json_that_a_person_can_read() {
    let directory = tempfile::tempdir().unwrap();
    let journal = Journal::open(directory.path()).await.unwrap();
    journal.start(upgrade(1), vec![shard()]).await.unwrap();
    let dump: serde_json::Value = serde_json::from_str(&journal.dump().await.unwrap()).unwrap();
    assert_eq!(dump["shards"][0]["phase"], "plan");
    assert_eq!(dump["upgrades"][0]["options"]["accept"][0], "big-keys");
}

#[tokio::test]
async fn a_probe_proves_that_the_journal_can_be_written() {
    let directory = tempfile::tempdir().unwrap();
    let journal = Journal::open(directory.path()).await.unwrap();
    assert!(journal.probe().await.unwrap() > std::time::Duration::ZERO);
}

/// What the first journals said of a snapshot, of the choice of one, and of the taking of one.
#[test]
fn a_journal_of_before_there_were_providers_is_read() {
    let mut record = serde_json::to_value(shard()).unwrap();
    let fields = record.as_object_mut().unwrap();
    for new in ["earlier_snapshots", "snapshot_wish", "snapshot_runs"] {
        fields.remove(new).unwrap();
    }
    let note = serde_json::json!({
        "id": "p-s1-1-17", "server": "redis://127.0.0.1:6001", "keys": 3, "bytes": 200,
        "place": "/data/snapshots/p-s1-1-17.rdb", "how": "OverTheWire", "taken_at_ms": 17
    });
    fields.insert("snapshot".to_owned(), note);
    let record: ShardRecord = serde_json::from_value(record).unwrap();
    let handle = record
        .snapshot_of("redis://127.0.0.1:6001")
        .unwrap()
        .handle();
    assert_eq!(
        (handle.id.as_str(), handle.recipe.as_str(), handle.keys),
        ("p-s1-1-17", "local", Some(3))
    );
    let choices = [
        ("\"local\"", SnapshotChoice::Recipe("local".to_owned())),
        ("\"none\"", SnapshotChoice::None),
    ];
    for (word, choice) in choices {
        assert_eq!(
            serde_json::from_str::<SnapshotChoice>(word).unwrap(),
            choice
        );
        assert_eq!(serde_json::to_string(&choice).unwrap(), word);
    }
    let effect = r#"{"effect":"take-snapshot","server":"redis://127.0.0.1:6001","label":"p-s1-1"}"#;
    let effect: crate::effect::Effect = serde_json::from_str(effect).unwrap();
    assert_eq!(effect.name(), "take-snapshot");
    let again = serde_json::to_string(&effect).unwrap();
    assert_eq!(
        serde_json::from_str::<crate::effect::Effect>(&again).unwrap(),
        effect
    );
}

#[test]
fn snapshots_stay_on_record_and_the_last_one_of_a_server_is_found() {
    let of = |id: &str, server: &str| {
        SnapshotNote::new(crate::snapshot::SnapshotHandle {
            id: id.to_owned(),
            server: server.to_owned(),
            ..crate::snapshot::SnapshotHandle::default()
        })
    };
    let mut record = shard();
    for (id, server) in [("1", "a"), ("2", "a"), ("3", "b")] {
        record.guarded_by(of(id, server));
    }
    assert_eq!(record.snapshot_of("a").unwrap().id, "2");
    assert_eq!(record.snapshot.as_ref().unwrap().id, "3");
    assert_eq!(record.snapshots().count(), 3);
    for id in 0..100 {
        record.guarded_by(of(&id.to_string(), "b"));
    }
    assert!(record.snapshots().count() < 40);
    assert!(
        record
            .notes
            .iter()
            .any(|note| note.contains("is left where it is"))
    );
}
