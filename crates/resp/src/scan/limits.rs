//! How large a frame may be.

/// Limits of one scan. At a limit the scan ends with a `ProtocolError`; the connection cannot go on, since the place of the
/// next frame is unknown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ScanLimits {
    /// Most arguments of one request. Default: 1,048,576, as Redis.
    pub args_max: u32,
    /// Most bytes of one bulk string, in requests and replies. Default: 512 MiB, Redis' `proto-max-bulk-len`.
    pub bulk_max: u64,
    /// Most bytes of one inline command, its line end not counted. Default: 64 KiB, as Redis.
    pub inline_max: u32,
    /// Most bytes of one frame. Requests never go over 4 GiB, whatever this says. Default: 1 GiB, Redis' query buffer limit.
    pub frame_max: u64,
    /// Deepest nesting of arrays, maps, sets, pushes and attributes in a reply. Default: 32.
    pub depth_max: u8,
}

impl Default for ScanLimits {
    fn default() -> Self {
        ScanLimits {
            args_max: 1_048_576,
            bulk_max: 512 * 1024 * 1024,
            inline_max: 64 * 1024,
            frame_max: 1024 * 1024 * 1024,
            depth_max: 32,
        }
    }
}
