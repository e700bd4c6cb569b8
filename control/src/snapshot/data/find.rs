//! Finds a server's files in a directory, or in the only directory below it that has some: a volume is often mounted above.

use std::fs;
use std::path::{Path, PathBuf};

use super::Damage;

/// How far down is looked. Default: 4 directories.
const DEPTH_MAX: usize = 4;
/// Most entries that are looked at in all. Default: 10,000.
const ENTRIES_MAX: usize = 10_000;
/// How a server calls its RDB unless it is told otherwise.
const RDB: &str = "dump.rdb";
/// The same of its append-only file, before Redis 7.
const APPENDED: &str = "appendonly.aof";

/// The files of one server.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) rdb: Option<PathBuf>,
    pub(super) appended: Option<Appended>,
    /// Files of data that a server would pass over.
    pub(super) ignored: Vec<PathBuf>,
}

/// How the append-only file is kept.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Appended {
    /// In parts that a manifest names.
    Parts(PathBuf),
    /// In one file.
    Single(PathBuf),
}

impl Found {
    fn is_empty(&self) -> bool {
        self.rdb.is_none() && self.appended.is_none()
    }
}

/// What is in one directory.
#[derive(Debug, Default)]
struct Listing {
    files: Vec<PathBuf>,
    directories: Vec<PathBuf>,
}

/// A walk, with what it may still look at and what it was not let into.
struct Walk<'w> {
    rdb: Option<&'w str>,
    entries_left: usize,
    closed: Vec<String>,
}

/// Finds the files; there must be some, and of one server only.
pub(super) fn find(directory: &Path, rdb: Option<&str>) -> Result<Found, Damage> {
    let mut walk = Walk {
        rdb,
        entries_left: ENTRIES_MAX,
        closed: Vec::new(),
    };
    let top = list(directory, &mut walk.entries_left).map_err(|cause| Damage::Read {
        path: directory.display().to_string(),
        cause,
    })?;
    let mut homes = Vec::new();
    walk.down(directory, top, 0, &mut homes)?;
    if homes.len() > 1 {
        let names: Vec<String> = homes
            .iter()
            .map(|(home, _)| home.display().to_string())
            .collect();
        return Err(Damage::Nothing(format!(
            "there is data of more than one server: {}; name one of these directories",
            names.join(", ")
        )));
    }
    if let Some((_, found)) = homes.pop() {
        return Ok(found);
    }
    let wanted = rdb.unwrap_or("*.rdb");
    let closed = match walk.closed.is_empty() {
        true => String::new(),
        false => format!("; not readable: {}", walk.closed.join(", ")),
    };
    Err(Damage::Nothing(format!(
        "there is no {wanted}, no appendonlydir with a manifest and no *.aof in {}{closed}",
        directory.display()
    )))
}

fn list(directory: &Path, entries_left: &mut usize) -> std::io::Result<Listing> {
    let mut listing = Listing::default();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        *entries_left = entries_left.saturating_sub(1);
        if *entries_left == 0 {
            break;
        }
        // A link may lead out of the volume: it is not followed.
        let kind = entry.file_type()?;
        if kind.is_dir() {
            listing.directories.push(entry.path());
        } else if kind.is_file() {
            listing.files.push(entry.path());
        }
    }
    listing.files.sort();
    listing.directories.sort();
    Ok(listing)
}

impl Walk<'_> {
    fn down(
        &mut self,
        home: &Path,
        here: Listing,
        depth: usize,
        homes: &mut Vec<(PathBuf, Found)>,
    ) -> Result<(), Damage> {
        let mut below = Vec::new();
        for directory in here.directories {
            match list(&directory, &mut self.entries_left) {
                Ok(listing) => below.push((directory, listing)),
                // lost+found, and whatever else is not the server's.
                Err(cause) => self
                    .closed
                    .push(format!("{}: {cause}", directory.display())),
            }
        }
        let found = self.here(&here.files, &below)?;
        if !found.is_empty() {
            homes.push((home.to_owned(), found));
            return Ok(());
        }
        if depth < DEPTH_MAX {
            for (directory, listing) in below {
                self.down(&directory, listing, depth + 1, homes)?;
            }
        }
        Ok(())
    }

    /// The files of a server whose directory this is.
    fn here(&self, files: &[PathBuf], below: &[(PathBuf, Listing)]) -> Result<Found, Damage> {
        let mut found = Found::default();
        // In the directory itself only where somebody named that one.
        let manifests = below
            .iter()
            .flat_map(|(_, listing)| &listing.files)
            .chain(files)
            .filter(|it| ends_with(it, ".aof.manifest"));
        let manifest = one(manifests, None, "manifest")?;
        let in_parts = manifest.is_some_and(|it| files.contains(it));
        found.appended = manifest.cloned().map(Appended::Parts);
        if in_parts {
            return Ok(found);
        }
        let rdbs = files.iter().filter(|it| match self.rdb {
            Some(name) => is(it, name),
            None => ends_with(it, ".rdb"),
        });
        found.rdb = one(rdbs, Some(RDB), "RDB")?.cloned();
        let singles: Vec<&PathBuf> = files.iter().filter(|it| ends_with(it, ".aof")).collect();
        if found.appended.is_some() {
            found.ignored = singles.into_iter().cloned().collect();
        } else {
            let single = one(singles.into_iter(), Some(APPENDED), "append-only file")?;
            found.appended = single.cloned().map(Appended::Single);
        }
        Ok(found)
    }
}

fn is(path: &Path, name: &str) -> bool {
    path.file_name().is_some_and(|it| it == name)
}

/// What a server writes before it renames begins with `temp-`.
fn ends_with(path: &Path, end: &str) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.ends_with(end) && !name.starts_with("temp-")
}

/// The one of that name, or the only one.
fn one<'p>(
    all: impl Iterator<Item = &'p PathBuf>,
    name: Option<&str>,
    what: &str,
) -> Result<Option<&'p PathBuf>, Damage> {
    let all: Vec<&PathBuf> = all.collect();
    let named = name.and_then(|name| all.iter().find(|it| is(it, name)));
    match (named, all.as_slice()) {
        (Some(named), _) => Ok(Some(named)),
        (None, []) => Ok(None),
        (None, [one]) => Ok(Some(one)),
        (None, many) => {
            let names: Vec<String> = many.iter().map(|it| it.display().to_string()).collect();
            Err(Damage::Nothing(format!(
                "there is more than one {what}: {}; name the right one by --rdb, or its directory",
                names.join(", ")
            )))
        }
    }
}
