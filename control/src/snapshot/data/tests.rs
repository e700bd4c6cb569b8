//! Data directories as servers leave them, whole, cut and flipped: read to the end, or refused with the place.

use std::fs;
use std::path::Path;

use tempfile::TempDir;
use understudy_rdb::crc64::Crc64;

use super::{Checksum, DataRead, read_data};

/// What a server 8.2 writes: three commands, of which one chooses a database.
const COMMANDS: &[u8] = b"#TS:1\r\n*2\r\n$6\r\nSELECT\r\n$1\r\n0\r\n*3\r\n$3\r\nSET\r\n$1\r\na\r\n$2\r\n\r\n\r\n*2\r\n$4\r\nINCR\r\n$1\r\nn\r\n";
const MANIFEST: &str = "file a.aof.1.base.rdb seq 1 type b\nfile a.aof.1.incr.aof seq 1 type i\nfile a.aof.2.incr.aof seq 2 type i\n";

fn rdb() -> Vec<u8> {
    let mut bytes =
        b"REDIS0011\xFA\x09redis-ver\x058.2.3\xFA\x05ctime\x0A1800000000\xFE\x00\xFB\x02\x00\x00\x01k\x01v\x00\x01l\x01v\xFF"
            .to_vec();
    let mut crc = Crc64::new();
    crc.update(&bytes);
    bytes.extend_from_slice(&crc.value().to_le_bytes());
    bytes
}

fn with(files: &[(&str, &[u8])]) -> TempDir {
    let home = TempDir::new().unwrap();
    for (name, bytes) in files {
        let path = home.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
    home
}

fn read(files: &[(&str, &[u8])]) -> DataRead {
    read_data(with(files).path(), None)
}

fn damage(files: &[(&str, &[u8])]) -> String {
    let read = read(files);
    assert!(!read.sound, "{read:?}");
    read.damage.unwrap()
}

fn parts<'f>(first: &'f [u8], last: &'f [u8], base: &'f [u8]) -> [(&'static str, &'f [u8]); 4] {
    [
        ("appendonlydir/a.aof.manifest", MANIFEST.as_bytes()),
        ("appendonlydir/a.aof.1.base.rdb", base),
        ("appendonlydir/a.aof.1.incr.aof", first),
        ("appendonlydir/a.aof.2.incr.aof", last),
    ]
}

#[test]
fn an_rdb_is_found_under_its_name_alone_or_below_a_mount() {
    let rdb = rdb();
    let first = read(&[
        ("dump.rdb", &rdb),
        ("temp-7.rdb", b"REDIS"),
        ("old.rdb", b"x"),
    ]);
    assert!(first.sound && first.keys > 0, "{first:?}");
    assert_eq!(first.checksum, Checksum::Right);
    assert_eq!(first.files, ["dump.rdb"]);
    let alone = read(&[("other.rdb", &rdb), ("lost+found/x", b"")]);
    assert_eq!((alone.sound, alone.keys), (true, first.keys));
    let below = read(&[("redis/data/dump.rdb", &rdb)]);
    assert_eq!(below.files, ["redis/data/dump.rdb"]);
    let home = with(&[("a.rdb", &rdb), ("b.rdb", b"x")]);
    assert!(read_data(home.path(), Some("a.rdb")).sound);
    assert!(!read_data(home.path(), Some("c.rdb")).sound);
}

#[test]
fn what_is_not_there_or_there_twice_is_told() {
    assert!(damage(&[("notes.txt", b"x")]).contains("there is no *.rdb"));
    let two = damage(&[("a.rdb", b"x"), ("b.rdb", b"x")]);
    assert!(
        two.contains("more than one RDB") && two.contains("--rdb"),
        "{two}"
    );
    let rdb = rdb();
    let two = damage(&[("a/dump.rdb", &rdb), ("b/dump.rdb", &rdb)]);
    assert!(two.contains("more than one server"), "{two}");
    let none = read_data(Path::new("/nowhere/at/all"), None);
    assert!(none.damage.unwrap().contains("/nowhere/at/all"));
}

#[test]
fn parts_are_read_in_the_manifests_order_and_counted() {
    let rdb = rdb();
    let read = read(&parts(COMMANDS, COMMANDS, &rdb));
    assert!(read.sound, "{read:?}");
    assert_eq!(read.commands, 4);
    assert!(read.keys > 0 && read.files.len() == 4, "{read:?}");
    let missing = damage(&parts(COMMANDS, COMMANDS, &rdb)[..3]);
    assert!(missing.contains("a.aof.2.incr.aof"), "{missing}");
}

#[test]
fn a_torn_end_is_told_in_the_last_file_and_is_damage_in_any_other() {
    let rdb = rdb();
    let torn = &COMMANDS[..COMMANDS.len() - 3];
    let last = read(&parts(COMMANDS, torn, &rdb));
    assert!(last.sound && last.commands == 3, "{last:?}");
    assert!(last.lines[2].contains("torn"), "{last:?}");
    let first = damage(&parts(torn, COMMANDS, &rdb));
    assert!(
        first.contains("a.aof.1.incr.aof") && first.contains("not the last file"),
        "{first}"
    );
    // A transaction without its end is left out by a server.
    let open = [
        COMMANDS,
        b"*1\r\n$5\r\nMULTI\r\n*2\r\n$4\r\nINCR\r\n$1\r\nn\r\n",
    ]
    .concat();
    let last = read(&[("appendonly.aof", &open)]);
    assert_eq!((last.sound, last.commands), (true, 2));
    assert!(
        last.lines[0].contains(&format!("from byte {}", COMMANDS.len())),
        "{last:?}"
    );
}

#[test]
fn anything_else_that_is_no_command_is_damage_with_file_and_place() {
    for (tail, what) in [
        (&b"SET a b\r\n"[..], "multibulk"),
        (b"*0\r\n", "no words"),
        (b"*1\r\n$3\r\nDELx\n", "CRLF"),
        (b"\0\0\0\0", "multibulk"),
        (b"*1\r\n:3\r\n", "expected '$'"),
    ] {
        let bytes = [COMMANDS, tail].concat();
        let told = damage(&[("appendonly.aof", &bytes)]);
        let place = format!("appendonly.aof: no command at byte {}", COMMANDS.len());
        assert!(told.contains(&place) && told.contains(what), "{told}");
    }
}

#[test]
fn an_old_append_only_file_may_begin_with_an_rdb() {
    let rdb = rdb();
    let both = [&rdb[..], COMMANDS].concat();
    let read = read(&[("appendonly.aof", &both), ("dump.rdb", &rdb)]);
    assert!(
        read.sound && read.commands == 2 && read.keys > 0,
        "{read:?}"
    );
    assert!(
        read.lines.iter().any(|it| it.contains("appendonly says")),
        "{read:?}"
    );
    // A preamble that is cut off is loaded by no server.
    assert!(damage(&[("appendonly.aof", &rdb[..rdb.len() - 9])]).contains("appendonly.aof"));
}

#[test]
fn no_bytes_make_it_panic_and_no_flipped_byte_of_an_rdb_goes_unseen() {
    let rdb = rdb();
    let home = TempDir::new().unwrap();
    let path = home.path().join("dump.rdb");
    for at in 0..rdb.len() {
        let mut flipped = rdb.clone();
        flipped[at] ^= 0x10;
        fs::write(&path, &flipped).unwrap();
        assert!(!read_data(home.path(), None).sound, "byte {at}");
        fs::write(&path, &rdb[..at]).unwrap();
        assert!(!read_data(home.path(), None).sound, "cut at {at}");
    }
    fs::remove_file(&path).unwrap();
    let path = home.path().join("appendonly.aof");
    for at in 0..COMMANDS.len() {
        for change in [1, 0x10, 0x80] {
            let mut flipped = COMMANDS.to_vec();
            flipped[at] ^= change;
            fs::write(&path, &flipped).unwrap();
            let _read = read_data(home.path(), None); // A flipped byte of a value is a value.
        }
        fs::write(&path, &COMMANDS[..at]).unwrap();
        assert!(read_data(home.path(), None).sound, "torn at {at}");
    }
}

#[test]
fn an_answer_fits_into_a_pods_status() {
    let name = "x".repeat(300);
    let mut read = DataRead {
        files: vec![name.clone(); 200],
        lines: vec![name.repeat(4); 200],
        damage: Some("ä".repeat(3000)),
        keys: 7,
        ..DataRead::default()
    };
    for _ in 0..2 {
        let line = read.to_line(4096);
        assert!(line.len() <= 4096 && !line.contains('\n'), "{}", line.len());
        let back: DataRead = serde_json::from_str(&line).unwrap();
        assert_eq!((back.keys, back.sound), (7, false));
        read.lines.clear();
    }
    let small = DataRead::default();
    let back: DataRead = serde_json::from_str(&small.to_line(4096)).unwrap();
    assert_eq!(back, small);
}
