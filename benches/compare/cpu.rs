//! CPU time that the kernel accounted to a process.

use std::fs;

/// Nanoseconds on a CPU of all its threads, threads that ended meanwhile not counted.
pub(crate) fn nanoseconds(pid: u32) -> Result<u64, String> {
    let folder = format!("/proc/{pid}/task");
    let tasks = fs::read_dir(&folder).map_err(|error| format!("read {folder}: {error}"))?;
    let mut total = 0;
    for task in tasks {
        let path = task
            .map_err(|error| format!("read {folder}: {error}"))?
            .path()
            .join("schedstat");
        // A thread may end between the two reads; what it used is then lost to us, and small.
        let text = fs::read_to_string(path).unwrap_or_default();
        total += text
            .split_whitespace()
            .next()
            .and_then(|field| field.parse::<u64>().ok())
            .unwrap_or(0);
    }
    Ok(total)
}
