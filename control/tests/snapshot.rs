//! Local snapshots of real servers whose directory we do not see, of servers that cannot save, and on disks that are full.

#[cfg(test)]
mod snapshot_tests {
    use std::future::pending;
    use std::os::unix::fs::PermissionsExt;
    use std::path::{Path, PathBuf};
    use std::process::Command;
    use std::time::Duration;

    use tempfile::TempDir;
    use understudy_config::BackendUrl;
    use understudy_control::snapshot::{
        How, LocalSnapshots, SnapshotError, SnapshotProvider, SnapshotRecord, SnapshotWish,
    };
    use understudy_lab::{Server, ServerOptions, Version};
    use understudy_net::{Client, Endpoint, Value};
    use understudy_rdb::FileReader;

    const LIMIT: Duration = Duration::from_secs(10);
    const SETTING: &str = "stop-writes-on-bgsave-error";

    fn url(server: &Server) -> BackendUrl {
        server.url().parse().unwrap()
    }

    async fn client(server: &Server) -> Client {
        Client::connect(&Endpoint::from(&url(server)), LIMIT)
            .await
            .unwrap()
    }

    async fn call(client: &mut Client, line: &str) -> Value {
        client
            .call(&line.split(' ').collect::<Vec<_>>())
            .await
            .unwrap()
    }

    async fn setting(client: &mut Client, name: &str) -> String {
        let answer = client.call(&["CONFIG", "GET", name]).await.unwrap();
        answer.field(name).and_then(Value::as_str_lossy).unwrap()
    }

    /// Some keys of some types in two databases; gives how many.
    async fn fill(client: &mut Client) -> u64 {
        for i in 0..500 {
            let calls = [
                format!("SET string:{i} {}", "v".repeat(i)),
                format!("RPUSH list:{} {i}", i % 10),
            ];
            for line in calls {
                call(client, &line).await;
            }
        }
        for line in [
            "SET ttl v EX 1000",
            "XADD stream 1-1 f v",
            "XGROUP CREATE stream g 0",
            "SELECT 3",
            "SADD set 1 2 3",
            "SELECT 0",
        ] {
            call(client, line).await;
        }
        500 + 10 + 2 + 1
    }

    fn store() -> (TempDir, LocalSnapshots) {
        let directory = TempDir::new().unwrap();
        let snapshots = LocalSnapshots::open(directory.path().join("snapshots")).unwrap();
        (directory, snapshots)
    }

    fn files(directory: &TempDir) -> Vec<String> {
        let entries = std::fs::read_dir(directory.path().join("snapshots")).unwrap();
        let mut names: Vec<String> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    async fn take(
        snapshots: &LocalSnapshots,
        server: &Server,
    ) -> Result<SnapshotRecord, SnapshotError> {
        snapshots.take(&url(server), "sessions/s1", pending()).await
    }

    #[tokio::test]
    async fn the_newest_whole_snapshots_of_a_shard_stay() {
        let server = Server::start(Version::Redis8_2_3, ServerOptions::new())
            .await
            .unwrap();
        let (directory, snapshots) = store();
        let of_shard = async |shard: &str, run: &str| {
            let wish = SnapshotWish {
                run: run.to_owned(),
                pool: "p".to_owned(),
                shard: shard.to_owned(),
                server: server.url(),
                recipe: "local".to_owned(),
                level: understudy_control::snapshot::Level::App,
            };
            let taken = SnapshotProvider::take(&snapshots, &wish, &|_| {}).await;
            taken.unwrap().id
        };
        let by_hand = take(&snapshots, &server).await.unwrap().id;
        let other = of_shard("s2", "other").await;
        let mut taken = Vec::new();
        for run in ["one", "two", "three", "four"] {
            taken.push(of_shard("s1", run).await);
        }
        // The newest is damaged: it stays, and does not count as one of the two.
        let newest = directory.path().join(format!("snapshots/{}.rdb", taken[3]));
        std::fs::write(newest, b"REDIS").unwrap();
        snapshots.keep_newest("p", "s1", 2);
        let left = || -> std::collections::BTreeSet<String> {
            let records = snapshots.list().unwrap().into_iter();
            records.map(|record| record.id).collect()
        };
        let [_, two, three, four] = &taken[..] else {
            panic!("four")
        };
        let expect = [&by_hand, &other, two, three, four].map(Clone::clone);
        assert_eq!(left(), expect.into());
        for id in [two, three] {
            snapshots.verify(id).await.unwrap();
        }
        snapshots.keep_newest("p", "s1", 2);
        assert_eq!(left().len(), 5, "nothing more goes");
        assert_eq!(files(&directory).len(), 10, "no file is left over");
    }

    #[tokio::test]
    async fn every_version_is_taken_over_the_wire_in_both_forms() {
        for version in Version::ALL {
            for diskless in ["yes", "no"] {
                let options = ServerOptions::new().set("repl-diskless-sync", diskless);
                let server = Server::start(version, options).await.unwrap();
                let mut client = client(&server).await;
                let keys = fill(&mut client).await;
                let (directory, snapshots) = store();
                let record = take(&snapshots, &server).await.unwrap();
                let case = format!("{version} diskless {diskless}");
                assert_eq!(
                    (record.keys, record.how),
                    (keys, How::OverTheWire),
                    "{case}"
                );
                assert!(
                    version.to_string().ends_with(&record.version),
                    "{case}: {}",
                    record.version
                );
                assert_eq!(record.run_id.len(), 40, "{case}");
                assert_eq!(record.replid.len(), 40, "{case}");
                assert_eq!(
                    server.info("master_replid").await.unwrap(),
                    Some(record.replid.clone()),
                    "{case}"
                );
                assert_eq!(record.server, format!("127.0.0.1:{}", server.port()));
                assert_eq!(
                    snapshots.verify(&record.id).await.unwrap().keys,
                    keys,
                    "{case}"
                );
                assert_eq!(
                    snapshots.list().unwrap(),
                    std::slice::from_ref(&record),
                    "{case}"
                );
                assert_eq!(
                    files(&directory),
                    [format!("{}.json", record.id), format!("{}.rdb", record.id)],
                    "{case}"
                );
                let mode = std::fs::metadata(&record.path)
                    .unwrap()
                    .permissions()
                    .mode();
                assert_eq!(mode & 0o777, 0o600, "{case}: it holds everybody's data");
                let in_db_3 = |record: &understudy_rdb::Record| record.db == 3;
                let reader = FileReader::new(std::fs::File::open(&record.path).unwrap());
                assert_eq!(
                    reader.map(Result::unwrap).filter(in_db_3).count(),
                    1,
                    "{case}"
                );
                assert_eq!(
                    server.info("connected_slaves").await.unwrap().as_deref(),
                    Some("0"),
                    "{case}: we have left"
                );
                assert_eq!(setting(&mut client, SETTING).await, "yes", "{case}");
            }
        }
    }

    /// Its directory is gone from the file system altogether: nothing could be copied out of it.
    #[tokio::test]
    async fn the_server_s_directory_need_not_be_visible() {
        for version in Version::ALL {
            let home = TempDir::new().unwrap();
            let options = ServerOptions::new().directory(home.path());
            let server = Server::start(version, options).await.unwrap();
            drop(home);
            let keys = fill(&mut client(&server).await).await;
            let (_directory, snapshots) = store();
            let record = take(&snapshots, &server).await.unwrap();
            assert_eq!(
                (record.keys, record.how),
                (keys, How::OverTheWire),
                "{version}"
            );
        }
    }

    #[tokio::test]
    async fn nothing_is_copied_from_a_path_that_another_host_told() {
        let server = Server::bare(Version::Redis6_2_14).await.unwrap();
        call(
            &mut client(&server).await,
            "ACL SETUSER poor on >p ~* +@all -psync -sync",
        )
        .await;
        // Another name of this host, but not one that says so.
        let poor = format!("redis://poor:p@127.1:{}", server.port());
        let (_directory, snapshots) = store();
        let refused = snapshots
            .take(&poor.parse().unwrap(), "x", pending())
            .await
            .unwrap_err();
        let text = refused.to_string();
        assert!(
            text.contains("NOPERM") && text.contains("on another host"),
            "{text}"
        );
    }

    #[tokio::test]
    async fn a_field_s_expiry_survives_in_valkey_9() {
        let server = Server::bare(Version::Valkey9_1_2).await.unwrap();
        let mut client = client(&server).await;
        call(&mut client, "HSET h f v g w").await;
        call(&mut client, "HPEXPIREAT h 4102444800000 FIELDS 1 f").await;
        let (_directory, snapshots) = store();
        let record = take(&snapshots, &server).await.unwrap();
        let mut reader = FileReader::new(std::fs::File::open(&record.path).unwrap());
        let value = reader.next().unwrap().unwrap().value.decode().unwrap();
        let understudy_rdb::Object::Hash(fields) = value else {
            panic!("{value:?}")
        };
        let expiring: Vec<_> = fields.iter().filter_map(|field| field.expiry_ms).collect();
        assert_eq!(expiring, [4_102_444_800_000]);
    }

    #[tokio::test]
    async fn clients_write_on_while_it_is_taken() {
        let server = Server::bare(Version::Redis6_2_14).await.unwrap();
        let mut writer = client(&server).await;
        fill(&mut writer).await;
        let (stop, mut stopped) = tokio::sync::oneshot::channel::<()>();
        let writing = tokio::spawn(async move {
            let mut written = 0_u64;
            while stopped.try_recv().is_err() {
                written += 1;
                assert_eq!(
                    writer.call(&["INCR", "counter"]).await.unwrap(),
                    Value::Integer(written as i64)
                );
            }
            written
        });
        let (_directory, snapshots) = store();
        for _ in 0..5 {
            let record = take(&snapshots, &server).await.unwrap();
            assert!(record.keys == 513 || record.keys == 514, "{}", record.keys);
        }
        stop.send(()).unwrap();
        assert!(writing.await.unwrap() > 0);
        assert_eq!(snapshots.list().unwrap().len(), 5);
    }

    /// The server writes its RDB, and cannot give it its name: a directory is in the way.
    #[tokio::test]
    async fn a_save_that_fails_leaves_the_server_writable_and_is_made_good_later() {
        for version in [
            Version::Redis6_2_14,
            Version::Redis8_2_3,
            Version::Valkey9_1_2,
        ] {
            let options = ServerOptions::new()
                .set("repl-diskless-sync", "no")
                .set("save", "3600 1");
            let server = Server::start(version, options).await.unwrap();
            let mut client = client(&server).await;
            fill(&mut client).await;
            let in_the_way = server.directory().join("dump.rdb");
            std::fs::create_dir(&in_the_way).unwrap();
            let (directory, snapshots) = store();
            let failed = take(&snapshots, &server).await.unwrap_err();
            assert!(
                matches!(failed, SnapshotError::Ended { .. }),
                "{version}: {failed}"
            );
            assert!(
                failed.to_string().contains("could not save"),
                "{version}: {failed}"
            );
            let written = call(&mut client, "SET written after").await;
            assert_eq!(
                written,
                Value::Simple("OK".to_owned()),
                "{version}: writes go on"
            );
            assert_eq!(setting(&mut client, SETTING).await, "no", "{version}");
            assert!(snapshots.list().unwrap().is_empty());
            assert!(
                files(&directory).iter().all(|name| !name.contains(".rdb")),
                "{version}"
            );
            // Its disk is well again: the next snapshot succeeds and puts the setting back, also in another process.
            std::fs::remove_dir(&in_the_way).unwrap();
            let snapshots = LocalSnapshots::open(directory.path().join("snapshots")).unwrap();
            take(&snapshots, &server).await.unwrap();
            assert_eq!(setting(&mut client, SETTING).await, "yes", "{version}");
            assert_eq!(files(&directory).len(), 2, "{version}: the note is gone");
        }
    }

    #[tokio::test]
    async fn what_the_operator_had_switched_off_stays_off() {
        let server = Server::start(
            Version::Redis7_0_15,
            ServerOptions::new().set(SETTING, "no"),
        )
        .await
        .unwrap();
        let mut client = client(&server).await;
        fill(&mut client).await;
        let (_directory, snapshots) = store();
        take(&snapshots, &server).await.unwrap();
        assert_eq!(setting(&mut client, SETTING).await, "no");
    }

    #[tokio::test]
    async fn a_server_that_we_may_not_protect_is_left_alone() {
        let server = Server::bare(Version::Redis7_0_15).await.unwrap();
        let mut client = client(&server).await;
        fill(&mut client).await;
        call(&mut client, "ACL SETUSER poor on >p ~* +@all -config").await;
        let poor: BackendUrl = format!("redis://poor:p@127.0.0.1:{}", server.port())
            .parse()
            .unwrap();
        let (_directory, snapshots) = store();
        let refused = snapshots.take(&poor, "x", pending()).await.unwrap_err();
        assert!(
            matches!(refused, SnapshotError::Unprotected { .. }),
            "{refused}"
        );
        assert_eq!(
            server.info("sync_full").await.unwrap().as_deref(),
            Some("0")
        );
    }

    #[tokio::test]
    async fn where_psync_is_forbidden_a_save_is_copied() {
        for version in [Version::Redis6_2_14, Version::Valkey9_1_2] {
            let server = Server::bare(version).await.unwrap();
            let mut client = client(&server).await;
            let keys = fill(&mut client).await;
            call(&mut client, "ACL SETUSER poor on >p ~* +@all -psync -sync").await;
            let poor: BackendUrl = format!("redis://poor:p@127.0.0.1:{}", server.port())
                .parse()
                .unwrap();
            let (_directory, snapshots) = store();
            let record = snapshots.take(&poor, "x", pending()).await.unwrap();
            assert_eq!(
                (record.keys, record.how, record.offset),
                (keys, How::Copied, None),
                "{version}"
            );
            assert_eq!(snapshots.verify(&record.id).await.unwrap().keys, keys);
        }
    }

    #[tokio::test]
    async fn a_bit_that_flips_on_the_disk_is_found() {
        // Also where the server writes no checksum of its own.
        for rdbchecksum in ["yes", "no"] {
            let options = ServerOptions::new().set("rdbchecksum", rdbchecksum);
            let server = Server::start(Version::Redis7_0_15, options).await.unwrap();
            fill(&mut client(&server).await).await;
            let (_directory, snapshots) = store();
            let record = take(&snapshots, &server).await.unwrap();
            assert_eq!(record.checksum.is_some(), rdbchecksum == "yes");
            let good = std::fs::read(&record.path).unwrap();
            for at in [
                0,
                9,
                good.len() / 3,
                good.len() / 2,
                good.len() - 9,
                good.len() - 1,
            ] {
                let mut bad = good.clone();
                bad[at] ^= 1;
                std::fs::write(&record.path, bad).unwrap();
                let found = snapshots.verify(&record.id).await.unwrap_err();
                assert!(
                    matches!(found, SnapshotError::Damaged { .. }),
                    "byte {at}: {found}"
                );
                assert!(found.to_string().contains(&record.id), "{found}");
            }
            std::fs::write(&record.path, &good[..good.len() - 1]).unwrap();
            assert!(snapshots.verify(&record.id).await.is_err());
            std::fs::write(&record.path, &good).unwrap();
            snapshots.verify(&record.id).await.unwrap();
        }
    }

    #[tokio::test]
    async fn cancelling_leaves_nothing_and_puts_the_setting_back() {
        let server = Server::start(
            Version::Redis7_0_15,
            ServerOptions::new().set("repl-diskless-sync-delay", "5"),
        )
        .await
        .unwrap();
        let mut client = client(&server).await;
        fill(&mut client).await;
        let (directory, snapshots) = store();
        // Cancelled once the server has us as a replica that waits.
        let port = server.port();
        let cancel = async move {
            let mut asking = Client::connect(&Endpoint::tcp("127.0.0.1", port), LIMIT)
                .await
                .unwrap();
            loop {
                let clients = call(&mut asking, "CLIENT LIST")
                    .await
                    .as_str_lossy()
                    .unwrap();
                if clients.contains("cmd=psync") {
                    return;
                }
                tokio::task::yield_now().await;
            }
        };
        let cancelled = snapshots
            .take(&url(&server), "x", cancel)
            .await
            .unwrap_err();
        assert!(matches!(cancelled, SnapshotError::Cancelled), "{cancelled}");
        assert_eq!(files(&directory), [""; 0]);
        assert_eq!(setting(&mut client, SETTING).await, "yes");
    }

    #[tokio::test]
    async fn a_server_that_dies_meanwhile_leaves_nothing() {
        let options = ServerOptions::new()
            .set("rdb-key-save-delay", "1000")
            .set("repl-diskless-sync", "yes");
        let mut server = Server::start(Version::Redis7_0_15, options).await.unwrap();
        fill(&mut client(&server).await).await;
        let (directory, snapshots) = store();
        let address = url(&server);
        let task = {
            let snapshots = snapshots.clone();
            tokio::spawn(async move { snapshots.take(&address, "x", pending()).await })
        };
        let has_partial = || {
            files(&directory)
                .iter()
                .any(|name| name.ends_with(".partial") && name.contains("rdb"))
        };
        while !has_partial() {
            tokio::task::yield_now().await;
        }
        server.kill9().unwrap();
        let failed = task.await.unwrap().unwrap_err();
        assert!(
            failed.to_string().contains(&server.port().to_string()),
            "{failed}"
        );
        assert!(!files(&directory).iter().any(|name| name.contains(".rdb")));
    }

    #[tokio::test]
    async fn leftovers_are_swept_and_snapshots_can_be_removed() {
        let server = Server::bare(Version::Redis7_0_15).await.unwrap();
        fill(&mut client(&server).await).await;
        let (directory, snapshots) = store();
        let record = take(&snapshots, &server).await.unwrap();
        let folder = directory.path().join("snapshots");
        for leftover in [".x-1.rdb.partial", "no-record-2.rdb"] {
            std::fs::write(folder.join(leftover), b"half").unwrap();
        }
        let snapshots = LocalSnapshots::open(&folder).unwrap();
        assert_eq!(snapshots.list().unwrap(), std::slice::from_ref(&record));
        assert_eq!(files(&directory).len(), 2);
        for unknown in ["nothing", "../../etc/passwd", ""] {
            assert!(matches!(
                snapshots.verify(unknown).await,
                Err(SnapshotError::Unknown { .. })
            ));
        }
        snapshots.remove(&record.id).unwrap();
        assert_eq!(files(&directory), [""; 0]);
    }

    #[tokio::test]
    async fn a_password_is_needed_and_never_written_down() {
        let server = Server::start(
            Version::Redis6_2_14,
            ServerOptions::new().password("s3cret"),
        )
        .await
        .unwrap();
        fill(&mut client(&server).await).await;
        let (_directory, snapshots) = store();
        let record = take(&snapshots, &server).await.unwrap();
        let json = std::fs::read_to_string(record.path.with_extension("json")).unwrap();
        assert!(!json.contains("s3cret"));
        let stranger = BackendUrl::tcp("127.0.0.1", server.port());
        let refused = snapshots.take(&stranger, "x", pending()).await.unwrap_err();
        assert!(refused.to_string().contains("NOAUTH"), "{refused}");
    }

    const FULL_DISK: &str = "UNDERSTUDY_TEST_FULL_DISK";

    /// A full disk is a limit on the size of files here: this test runs itself again in a child that has one.
    #[tokio::test]
    async fn a_full_disk_is_told_clearly_and_leaves_no_file() {
        if let Ok(given) = std::env::var(FULL_DISK) {
            let (server, directory) = given.split_once(' ').unwrap();
            return with_a_full_disk(&server.parse().unwrap(), &PathBuf::from(directory)).await;
        }
        let server = Server::bare(Version::Redis7_0_15).await.unwrap();
        let mut client = client(&server).await;
        fill(&mut client).await;
        // What does not compress does not fit.
        for i in 0..200 {
            let noise: Vec<u8> = (0..2048_u64)
                .map(|n| ((n + i * 977).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40) as u8)
                .collect();
            client
                .call(&[b"SET", format!("noise:{i}").as_bytes(), &noise])
                .await
                .unwrap();
        }
        let directory = TempDir::new().unwrap();
        // The limit is in KiB. Ignored, the signal that comes with it becomes an error of write(2).
        let ended = Command::new("bash")
            .args(["-c", r#"trap "" XFSZ; ulimit -f 64; exec "$0" "$@""#])
            .arg(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "snapshot_tests::a_full_disk_is_told_clearly_and_leaves_no_file",
                "--nocapture",
            ])
            .env(
                FULL_DISK,
                format!("{} {}", server.url(), directory.path().display()),
            )
            .output()
            .unwrap();
        let output = String::from_utf8_lossy(&ended.stdout).into_owned()
            + &String::from_utf8_lossy(&ended.stderr);
        assert!(
            ended.status.success() && output.contains("1 passed"),
            "{output}"
        );
        assert_eq!(setting(&mut client, SETTING).await, "yes");
        assert!(call(&mut client, "SET written after").await.is_ok());
    }

    async fn with_a_full_disk(server: &BackendUrl, directory: &Path) {
        let snapshots = LocalSnapshots::open(directory).unwrap();
        let failed = snapshots.take(server, "x", pending()).await.unwrap_err();
        assert!(matches!(failed, SnapshotError::Write { .. }), "{failed}");
        let text = failed.to_string();
        assert!(
            text.contains(&directory.display().to_string()) && text.contains("too large"),
            "{text}"
        );
        assert_eq!(std::fs::read_dir(directory).unwrap().count(), 0);
    }
}
