//! Who a proxy is, over all of its starts: `data_dir/proxy-id`, drawn at the first start.
//!
//! Control remembers proxies by it. A copy of a data_dir is a second proxy of the same name, which control refuses.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use crate::shared::new_instance;

/// The file's name under `data_dir`.
const FILE_NAME: &str = "proxy-id";

/// Longest id that is taken from the file.
const ID_MAX: usize = 64;

/// The id of this data_dir; made, and on the disk, when there was none.
pub(crate) fn of(data_dir: &Path) -> io::Result<String> {
    let path = data_dir.join(FILE_NAME);
    match fs::read_to_string(&path) {
        Ok(text) if is_id(text.trim()) => return Ok(text.trim().to_owned()),
        Ok(_) => {
            let what = format!("{} holds no id; remove it to draw another", path.display());
            return Err(io::Error::new(io::ErrorKind::InvalidData, what));
        }
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => {}
        Err(cause) => return Err(cause),
    }
    let id = new_instance();
    let half = data_dir.join(format!("{FILE_NAME}.new"));
    let mut file = File::create(&half)?;
    file.write_all(id.as_bytes())?;
    file.sync_all()?;
    fs::rename(&half, &path)?;
    File::open(data_dir)?.sync_all()?;
    Ok(id)
}

fn is_id(text: &str) -> bool {
    let fits = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '-' | '_' | '.');
    !text.is_empty() && text.len() <= ID_MAX && text.chars().all(fits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_outlives_its_process_and_nonsense_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let id = of(folder.path()).unwrap();
        assert_eq!(of(folder.path()).unwrap(), id);
        fs::write(folder.path().join(FILE_NAME), "proxy-a\n").unwrap();
        assert_eq!(of(folder.path()).unwrap(), "proxy-a");
        for wrong in ["", "a b", &"x".repeat(ID_MAX + 1)] {
            fs::write(folder.path().join(FILE_NAME), wrong).unwrap();
            assert!(
                of(folder.path())
                    .unwrap_err()
                    .to_string()
                    .contains("holds no id")
            );
        }
    }
}
