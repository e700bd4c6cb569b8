//! Files of real servers, read as a restored volume's are: RDB, multi-part and old append-only files, damaged and torn ones.

#[cfg(test)]
mod data_tests {
    use std::fs::{self, OpenOptions};
    use std::path::{Path, PathBuf};
    use std::time::Duration;

    use tempfile::TempDir;
    use understudy_control::snapshot::{Checksum, read_data};
    use understudy_lab::{Server, ServerOptions, Version};

    const VERSIONS: [Version; 3] = [
        Version::Redis6_2_14,
        Version::Redis7_0_15,
        Version::Redis8_2_3,
    ];
    const KEYS: u64 = 300;

    async fn call(server: &Server, line: &str) {
        let words: Vec<&str> = line.split(' ').collect();
        let reply = server.call(&words).await.unwrap();
        assert!(!format!("{reply:?}").contains("Error"), "{line}: {reply:?}");
    }

    async fn fill(server: &Server, prefix: &str) {
        for number in 0..KEYS {
            let line = match number % 3 {
                0 => format!("SET {prefix}:{number} {}", "v".repeat(number as usize)),
                1 => format!("RPUSH {prefix}:{number} a b c"),
                _ => format!("SET {prefix}:{number} v EX 10000"),
            };
            call(server, &line).await;
        }
    }

    /// Waits until INFO says so.
    async fn until(server: &Server, field: &str, value: &str) {
        while server.info(field).await.unwrap().as_deref() != Some(value) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// The directory of a server that appended to its file, rewrote it, appended again, and is gone.
    async fn appended(version: Version, setting: &'static str, value: &str) -> TempDir {
        let home = TempDir::new().unwrap();
        let options = ServerOptions::new()
            .directory(home.path())
            .set("appendonly", "yes")
            .set(setting, value)
            .set("appendfsync", "always");
        let server = Server::start(version, options).await.unwrap();
        fill(&server, "first").await;
        call(&server, "BGREWRITEAOF").await;
        until(&server, "aof_rewrite_in_progress", "0").await;
        fill(&server, "second").await;
        home
    }

    fn file(home: &Path, end: &str) -> PathBuf {
        let all = fs::read_dir(home).unwrap().map(|it| it.unwrap().path());
        let mut all: Vec<PathBuf> = all
            .filter(|it| it.to_string_lossy().ends_with(end))
            .collect();
        assert_eq!(all.len(), 1, "{all:?}");
        all.remove(0)
    }

    fn flip(path: &Path, at_part: f64) {
        let mut bytes = fs::read(path).unwrap();
        let at = (bytes.len() as f64 * at_part) as usize;
        bytes[at] ^= 0x40;
        fs::write(path, bytes).unwrap();
    }

    fn shorten(path: &Path, by: u64) {
        let file = OpenOptions::new().write(true).open(path).unwrap();
        file.set_len(file.metadata().unwrap().len() - by).unwrap();
    }

    #[tokio::test]
    async fn an_rdb_of_each_server_is_sound_until_one_byte_is_another() {
        for version in VERSIONS {
            let home = TempDir::new().unwrap();
            let options = ServerOptions::new().directory(home.path());
            let server = Server::start(version, options).await.unwrap();
            fill(&server, "k").await;
            call(&server, "SAVE").await;
            let read = read_data(home.path(), None);
            assert!(read.sound && read.keys == KEYS, "{version}: {read:?}");
            assert_eq!(read.checksum, Checksum::Right, "{version}");
            assert!(read.saved_at_s.is_some(), "{version}: {read:?}");
            let rdb = home.path().join("dump.rdb");
            for part in [0.1, 0.5, 0.99] {
                flip(&rdb, part);
                let read = read_data(home.path(), None);
                assert!(!read.sound, "{version}: {read:?}");
                let damage = read.damage.unwrap();
                assert!(damage.contains("dump.rdb"), "{version}: {damage}");
                flip(&rdb, part);
            }
            assert!(read_data(home.path(), None).sound, "{version}");
            shorten(&rdb, 1);
            assert!(!read_data(home.path(), None).sound, "{version}");
        }
    }

    #[tokio::test]
    async fn a_multi_part_file_of_each_server_is_read_by_its_manifest() {
        for version in [Version::Redis7_0_15, Version::Redis8_2_3] {
            let home = appended(version, "aof-timestamp-enabled", "yes").await;
            let read = read_data(home.path(), None);
            assert!(read.sound, "{version}: {read:?}");
            assert_eq!((read.keys, read.commands), (KEYS, KEYS), "{version}");
            let parts = home.path().join("appendonlydir");
            shorten(&file(&parts, ".incr.aof"), 2);
            let torn = read_data(home.path(), None);
            assert!(torn.sound, "{version}: {torn:?}");
            assert_eq!(torn.commands, KEYS - 1, "{version}");
            assert!(torn.lines.iter().any(|it| it.contains("torn")), "{torn:?}");
            flip(&file(&parts, ".base.rdb"), 0.5);
            let flipped = read_data(home.path(), None);
            assert!(!flipped.sound, "{version}: {flipped:?}");
        }
    }

    #[tokio::test]
    async fn an_old_file_with_a_preamble_and_one_without_are_read() {
        for preamble in ["yes", "no"] {
            let home = appended(Version::Redis6_2_14, "aof-use-rdb-preamble", preamble).await;
            let read = read_data(home.path(), None);
            assert!(read.sound, "{preamble}: {read:?}");
            match preamble {
                "yes" => assert_eq!((read.keys, read.commands), (KEYS, KEYS)),
                _ => assert!(read.keys == 0 && read.commands >= 2 * KEYS, "{read:?}"),
            }
            let file = home.path().join("appendonly.aof");
            shorten(&file, 2);
            assert!(read_data(home.path(), None).sound, "{preamble}");
            // Commands have no checksum: a flipped byte of a value is a value. That of a frame is seen.
            flip(&file, if preamble == "yes" { 0.01 } else { 0.0 });
            let damage = read_data(home.path(), None).damage.unwrap();
            assert!(damage.contains("appendonly.aof"), "{preamble}: {damage}");
        }
    }
}
