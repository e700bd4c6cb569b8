//! A file that was cut off, replaced, refused or outgrown.

use std::os::unix::fs::MetadataExt;

use super::super::Standing;
use super::*;

fn overlay(epoch: u64, shards: usize) -> Overlay {
    (0..shards).fold(Overlay::default(), |overlay, number| {
        let entry = Entry {
            pool: "p".into(),
            shard: format!("s{number}"),
            epoch,
            term: epoch + 6,
            backend: format!("redis://b:{epoch}"),
            standing: Standing::Prepared,
            retired: Vec::new(),
        };
        overlay.with(entry, "redis://a:1")
    })
}

fn load(data_dir: &Path) -> Result<Overlay, OverlayError> {
    OverlayFile::open(data_dir).map(|(_, overlay)| overlay)
}

fn inode(data_dir: &Path) -> u64 {
    fs::metadata(file(data_dir)).unwrap().ino()
}

#[test]
fn what_was_stored_last_is_loaded_and_every_write_overwrites() {
    let dir = tempfile::tempdir().unwrap();
    let (file, empty) = OverlayFile::open(dir.path()).unwrap();
    assert_eq!(empty, Overlay::default());
    let laid_out = inode(dir.path());
    for epoch in 1..6 {
        file.store(&overlay(epoch, 2)).unwrap();
        assert_eq!(load(dir.path()).unwrap(), overlay(epoch, 2));
    }
    assert_eq!(inode(dir.path()), laid_out);
    // Another start goes on where this one stopped.
    let (file, _) = OverlayFile::open(dir.path()).unwrap();
    file.store(&overlay(6, 2)).unwrap();
    assert_eq!(load(dir.path()).unwrap(), overlay(6, 2));
    assert_eq!(inode(dir.path()), laid_out);
}

#[test]
fn a_write_that_is_cut_off_at_any_byte_leaves_what_was_there_or_what_it_wrote() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = OverlayFile::open(dir.path()).unwrap();
    for epoch in 1..3 {
        store.store(&overlay(epoch, 9)).unwrap();
        let before = fs::read(file(dir.path())).unwrap();
        store.store(&overlay(epoch + 1, 9)).unwrap();
        let after = fs::read(file(dir.path())).unwrap();
        let (old, new) = (overlay(epoch, 9), overlay(epoch + 1, 9));
        let mut ends = [0, 0];
        for cut in (0..=after.len()).step_by(61).chain([after.len()]) {
            // From the front, and from the back: the system writes pages in any order.
            for (from_after, from_before) in
                [(0..cut, cut..after.len()), (cut..after.len(), 0..cut)]
            {
                let mut torn = after.clone();
                torn[from_after.clone()].copy_from_slice(&after[from_after]);
                torn[from_before.clone()].copy_from_slice(&before[from_before]);
                let (read, _) = read(&torn).unwrap();
                assert!(read == old || read == new, "cut at {cut}");
                ends[usize::from(read == new)] += 1;
            }
        }
        assert!(ends[0] > 0 && ends[1] > 0, "{ends:?}");
    }
}

#[test]
fn routes_that_outgrow_their_slot_get_a_larger_file() {
    let dir = tempfile::tempdir().unwrap();
    let (file, _) = OverlayFile::open(dir.path()).unwrap();
    for shards in [1, 60, 200] {
        file.store(&overlay(1, shards)).unwrap();
        let laid_out = inode(dir.path());
        assert_eq!(load(dir.path()).unwrap(), overlay(1, shards));
        file.store(&overlay(2, shards)).unwrap();
        assert_eq!(load(dir.path()).unwrap(), overlay(2, shards));
        assert_eq!(inode(dir.path()), laid_out);
    }
}

#[test]
fn a_file_that_somebody_removed_or_wrote_is_replaced_whole() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = OverlayFile::open(dir.path()).unwrap();
    store.store(&overlay(1, 2)).unwrap();
    fs::remove_file(file(dir.path())).unwrap();
    store.store(&overlay(2, 2)).unwrap();
    assert_eq!(load(dir.path()).unwrap(), overlay(2, 2));
    fs::write(file(dir.path()), "{\"form\":1,\"shards\":[]}").unwrap();
    store.store(&overlay(3, 2)).unwrap();
    assert_eq!(load(dir.path()).unwrap(), overlay(3, 2));
}

#[test]
fn a_write_that_fails_leaves_the_old_file_and_the_next_one_mends_it() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = OverlayFile::open(dir.path()).unwrap();
    store.store(&overlay(1, 2)).unwrap();
    fs::create_dir(dir.path().join("routes.json.new")).unwrap();
    // Too large for its slot, and no new file can be made.
    let error = store.store(&overlay(2, 100)).unwrap_err();
    assert!(error.to_string().starts_with("create "), "{error}");
    assert_eq!(load(dir.path()).unwrap(), overlay(1, 2));
    fs::remove_dir(dir.path().join("routes.json.new")).unwrap();
    store.store(&overlay(2, 100)).unwrap();
    assert_eq!(load(dir.path()).unwrap(), overlay(2, 100));
}

#[test]
fn a_disk_that_takes_no_new_file_still_takes_a_write() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = OverlayFile::open(dir.path()).unwrap();
    fs::create_dir(dir.path().join("routes.json.new")).unwrap();
    store.store(&overlay(1, 2)).unwrap();
    assert_eq!(load(dir.path()).unwrap(), overlay(1, 2));
}

#[test]
fn a_disk_that_takes_no_file_does_not_stop_the_start() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("routes.json.new")).unwrap();
    let (store, overlay) = OverlayFile::open(dir.path()).unwrap();
    assert_eq!(overlay, Overlay::default());
    assert!(store.store(&self::overlay(1, 1)).is_err());
}

#[test]
fn a_file_of_the_first_form_is_read_and_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let shards = serde_json::to_string(overlay(3, 2).entries()).unwrap();
    fs::write(
        file(dir.path()),
        format!("{{\"form\":1,\"shards\":{shards}}}"),
    )
    .unwrap();
    assert_eq!(load(dir.path()).unwrap(), overlay(3, 2));
    let text = fs::read_to_string(file(dir.path())).unwrap();
    assert!(text.starts_with("{\"form\":2,\"write\":1,"), "{text}");
}

#[test]
fn a_file_of_another_form_or_a_part_of_one_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = OverlayFile::open(dir.path()).unwrap();
    store.store(&overlay(1, 2)).unwrap();
    let whole = fs::read_to_string(file(dir.path())).unwrap();
    for text in [
        "{\"form\":3,\"shards\":[]}",
        "{\"form\":2,\"shards\":[]}",
        "{",
        "",
        "{\"form\":1,\"shards\":[],\"more\":1}",
        &whole[..whole.len() / 2],
        &whole[..whole.len() - 1],
        &whole.replace("b:1", "b:2").replace("a:1", "a:2"),
        &whole.replace("\"form\":2", "\"form\":3"),
    ] {
        fs::write(file(dir.path()), text).unwrap();
        let read = load(dir.path());
        // The slot of the layout, without routes, is whole where only the other was spoilt.
        let older = read.as_ref().is_ok_and(|it| it.entries().is_empty());
        assert!(
            matches!(read, Err(OverlayError::Unreadable { .. })) || older && text.contains("b:2"),
            "{text}: {read:?}"
        );
    }
}
