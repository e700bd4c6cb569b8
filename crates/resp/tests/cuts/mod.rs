//! What the tables of requests and replies share: small limits, and that it does not matter where bytes are cut.

use understudy_resp::scan::ScanLimits;

/// Limits that a few bytes reach.
pub(crate) const SMALL: ScanLimits = ScanLimits {
    args_max: 8,
    bulk_max: 64,
    inline_max: 32,
    frame_max: 256,
    depth_max: 4,
};

/// Reads the input as `read` does it in pieces that end at the given places: cut nowhere, once anywhere, and everywhere.
#[track_caller]
pub(crate) fn check(input: &[u8], expect: &str, read: impl Fn(&[usize]) -> String) {
    let shown = input.escape_ascii();
    assert_eq!(read(&[]), expect, "{shown}");
    for cut in 0..=input.len() {
        assert_eq!(read(&[cut]), expect, "{shown} cut at {cut}");
    }
    let every: Vec<usize> = (0..input.len()).collect();
    assert_eq!(read(&every), expect, "{shown} byte by byte");
}
