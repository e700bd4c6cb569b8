//! The overlay on the disk: one file with two slots that are written in turn, so that a write costs clients one sync.
//!
//! ```text
//!  0                                  room                                2 × room
//!  | {"form":2,"write":6,…}           | {"form":2,"write":7,…}            |     each slot: a line that says which write it is
//!  | {"shards":[…]}      blanks       | {"shards":[…]}       blanks       |     and its digest, the routes as JSON, blanks
//! ```
//!
//! The slot with the highest number that is whole is the one that counts; the next write goes to the other. So a write that
//! was cut off anywhere leaves the routes as they were before it, and since it overwrites bytes that the disk has already,
//! it needs no room and no sync of the directory. A file that is not there, is too small, or is not as this process left
//! it is replaced whole: temporary file, sync, rename, sync of the directory.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use super::{Entry, Overlay, OverlayError};
use crate::worker::sha1_hex;

/// The form of the file that this program writes. It also reads form 1, which had no slots; any other number is refused:
/// routes must not be guessed.
const FORM: u32 = 2;

/// Bytes of a slot at least. Routes of twenty shards fit.
const ROOM_MIN: usize = 8 << 10;

/// A slot begins on a page of its own: the system writes pages, and a torn one must not touch the other slot.
const PAGE: usize = 4 << 10;

/// The file, and what of it this process knows to be on the disk.
pub(crate) struct OverlayFile {
    data_dir: PathBuf,
    /// `None`: nothing that the next write could build upon.
    place: Mutex<Option<Place>>,
}

/// Where the last write is.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Place {
    write: u64,
    second: bool,
    room: usize,
    /// The slot's first line: whether the file is still the one that was written.
    line: Vec<u8>,
}

/// The first line of a slot.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Head {
    form: u32,
    /// Number of the write; only grows within a file.
    write: u64,
    /// Bytes of a slot.
    room: usize,
    /// Of the number and the routes.
    sha1: String,
}

/// The rest of a slot.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Routes {
    shards: Vec<Entry>,
}

/// What form 1 was.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FirstForm {
    #[serde(rename = "form")]
    _form: u32,
    shards: Vec<Entry>,
}

/// Any form, for its number.
#[derive(Deserialize)]
struct AnyForm {
    form: u32,
}

impl OverlayFile {
    /// Reads the file, and lays it out if it is not there, so that the first write of an upgrade finds it. A disk that takes
    /// no file yet is no reason not to serve: the first write tries again.
    pub(crate) fn open(data_dir: &Path) -> Result<(OverlayFile, Overlay), OverlayError> {
        let path = file(data_dir);
        let (overlay, place) = match fs::read(&path) {
            Ok(bytes) => read(&bytes).map_err(|why| OverlayError::Unreadable {
                path: path.clone(),
                why,
            })?,
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => (Overlay::default(), None),
            Err(cause) => return Err(failed("read", &path)(cause)),
        };
        // What was read may be in memory only: whoever wrote it may have been killed before its sync.
        let place = place.filter(|_| File::open(&path).is_ok_and(|file| file.sync_data().is_ok()));
        let opened = OverlayFile {
            data_dir: data_dir.to_owned(),
            place: Mutex::new(place.clone()),
        };
        if place.is_none()
            && let Err(cause) = opened.store(&overlay)
        {
            tracing::warn!(%cause, "lay out data_dir/routes.json; the next upgrade tries again");
        }
        Ok((opened, overlay))
    }

    /// Makes this overlay durable. Blocks on the disk: call it off the worker threads.
    pub(crate) fn store(&self, overlay: &Overlay) -> Result<(), OverlayError> {
        let mut place = self.place.lock().unwrap_or_else(PoisonError::into_inner);
        // Taken, not looked at: after a sync that failed nobody knows what is on the disk.
        if let Some(last) = place.take()
            && let Some(slot) = Slot::fill(overlay, last.write + 1, last.room)?
        {
            match self.overwrite(&last, &slot) {
                Ok(()) => {
                    *place = Some(slot.place(!last.second));
                    return Ok(());
                }
                Err(cause) => tracing::debug!(%cause, "write data_dir/routes.json anew"),
            }
        }
        *place = Some(self.replace(overlay)?);
        Ok(())
    }

    /// Writes the slot that does not count, if the file is still as it was left.
    fn overwrite(&self, last: &Place, slot: &Slot) -> Result<(), OverlayError> {
        let path = file(&self.data_dir);
        let opened = OpenOptions::new().read(true).write(true).open(&path);
        let opened = opened.map_err(failed("open", &path))?;
        let offset = |second: bool| if second { last.room as u64 } else { 0 };
        let mut line = vec![0; last.line.len()];
        opened
            .read_exact_at(&mut line, offset(last.second))
            .map_err(failed("read", &path))?;
        let length = opened.metadata().map_err(failed("look at", &path))?.len();
        if line != last.line || length != 2 * last.room as u64 {
            return Err(failed("recognize", &path)(io::Error::other(
                "another program has written it",
            )));
        }
        opened
            .write_all_at(&slot.bytes, offset(!last.second))
            .map_err(failed("write", &path))?;
        opened.sync_data().map_err(failed("sync", &path))
    }

    /// Puts a new file in the place of the old one.
    fn replace(&self, overlay: &Overlay) -> Result<Place, OverlayError> {
        let path = file(&self.data_dir);
        let temporary = self.data_dir.join("routes.json.new");
        let mut room = ROOM_MIN;
        let slot = loop {
            match Slot::fill(overlay, 1, room)? {
                // Half of it stays free, for what the next upgrades add.
                Some(slot) if slot.used <= room / 2 || slot.used <= ROOM_MIN / 2 => break slot,
                Some(_) | None => room *= 2,
            }
        };
        if let Err(error) = write_synced(&temporary, &slot) {
            // Half a file of ours helps nobody; the next write starts over.
            let _ = fs::remove_file(&temporary);
            return Err(error);
        }
        fs::rename(&temporary, &path).map_err(failed("rename onto", &path))?;
        let directory = File::open(&self.data_dir).map_err(failed("open", &self.data_dir))?;
        directory
            .sync_all()
            .map_err(failed("sync", &self.data_dir))?;
        Ok(slot.place(false))
    }
}

/// A slot's bytes, `room` of them.
struct Slot {
    write: u64,
    line: Vec<u8>,
    bytes: Vec<u8>,
    /// How many are not blank.
    used: usize,
}

impl Slot {
    /// `None` when it does not fit.
    fn fill(overlay: &Overlay, write: u64, room: usize) -> Result<Option<Slot>, OverlayError> {
        let encode = |cause| failed("encode", Path::new("routes.json"))(io::Error::other(cause));
        let routes = Routes {
            shards: overlay.entries.clone(),
        };
        let routes = serde_json::to_vec_pretty(&routes).map_err(encode)?;
        let head = Head {
            form: FORM,
            write,
            room,
            sha1: digest(write, &routes),
        };
        let mut line = serde_json::to_vec(&head).map_err(encode)?;
        line.push(b'\n');
        let mut bytes = line.clone();
        bytes.extend_from_slice(&routes);
        bytes.push(b'\n');
        let used = bytes.len();
        if used >= room {
            return Ok(None);
        }
        bytes.resize(room - 1, b' ');
        bytes.push(b'\n');
        Ok(Some(Slot {
            write,
            line,
            bytes,
            used,
        }))
    }

    fn place(self, second: bool) -> Place {
        Place {
            write: self.write,
            second,
            room: self.bytes.len(),
            line: self.line,
        }
    }
}

/// The routes, and where they were found; `None` for a file of form 1, which the next write replaces.
fn read(bytes: &[u8]) -> Result<(Overlay, Option<Place>), String> {
    let (first, second) = bytes.split_at(bytes.len() / 2);
    let slots = [read_slot(first, false), read_slot(second, true)];
    let damaged = slots.iter().find_map(|slot| slot.as_ref().err()).cloned();
    let newest = slots
        .into_iter()
        .filter_map(Result::ok)
        .flatten()
        .max_by_key(|(_, place)| place.write);
    if let Some((overlay, place)) = newest {
        if let Some(why) = damaged {
            tracing::warn!(
                why,
                "a write of data_dir/routes.json was cut off: the one before it counts"
            );
        }
        return Ok((overlay, Some(place)));
    }
    match form(bytes)? {
        1 => {
            let first: FirstForm =
                serde_json::from_slice(bytes).map_err(|cause| cause.to_string())?;
            let entries = first.shards;
            Ok((Overlay { entries }, None))
        }
        FORM => Err(damaged.unwrap_or_else(|| "it is blank".to_owned())),
        other => Err(format!("its form is {other}, this program reads {FORM}")),
    }
}

/// The number that the first JSON value in the file gives.
fn form(bytes: &[u8]) -> Result<u32, String> {
    let first = serde_json::Deserializer::from_slice(bytes)
        .into_iter::<AnyForm>()
        .next();
    match first {
        Some(Ok(any)) => Ok(any.form),
        Some(Err(cause)) => Err(cause.to_string()),
        None => Err("it is blank".to_owned()),
    }
}

/// The routes of one slot; `None` for one that was never written, an error for one that is not whole.
fn read_slot(bytes: &[u8], second: bool) -> Result<Option<(Overlay, Place)>, String> {
    if bytes.trim_ascii().is_empty() {
        return Ok(None);
    }
    let end = bytes
        .iter()
        .position(|byte| *byte == b'\n')
        .ok_or("a slot has no first line")?;
    let (line, rest) = bytes.split_at(end + 1);
    let head: Head = serde_json::from_slice(line).map_err(|cause| cause.to_string())?;
    if head.form != FORM {
        return Err(format!(
            "its form is {}, this program reads {FORM}",
            head.form
        ));
    }
    let routes = rest.trim_ascii_end();
    if head.room != bytes.len() || head.sha1 != digest(head.write, routes) {
        return Err(format!("write {} is not whole", head.write));
    }
    let routes: Routes = serde_json::from_slice(routes).map_err(|cause| cause.to_string())?;
    let place = Place {
        write: head.write,
        second,
        room: head.room,
        line: line.to_vec(),
    };
    let entries = routes.shards;
    Ok(Some((Overlay { entries }, place)))
}

fn digest(write: u64, routes: &[u8]) -> String {
    let mut said = format!("{write}\n").into_bytes();
    said.extend_from_slice(routes);
    String::from_utf8_lossy(&sha1_hex(&said)).into_owned()
}

fn file(data_dir: &Path) -> PathBuf {
    data_dir.join("routes.json")
}

/// A first slot, and a blank second one: every byte that later writes overwrite is on the disk.
fn write_synced(path: &Path, slot: &Slot) -> Result<(), OverlayError> {
    debug_assert_eq!(slot.bytes.len() % PAGE, 0, "a slot ends where a page does");
    let mut file = File::create(path).map_err(failed("create", path))?;
    file.write_all(&slot.bytes).map_err(failed("write", path))?;
    let mut blank = vec![b' '; slot.bytes.len() - 1];
    blank.push(b'\n');
    file.write_all(&blank).map_err(failed("write", path))?;
    file.sync_all().map_err(failed("sync", path))
}

fn failed<'a>(step: &'static str, path: &'a Path) -> impl Fn(io::Error) -> OverlayError + 'a {
    move |cause| OverlayError::File {
        step,
        path: path.to_owned(),
        cause,
    }
}

#[cfg(test)]
mod tests;
