//! Why a proxy does not start, and why a reload changes nothing.

use std::path::PathBuf;

use understudy_config::LoadError;
use understudy_net::{ListenError, TlsError};
use understudy_ring::RingError;

use crate::overlay::OverlayError;

/// Why a proxy does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The directory for routes cannot be made.
    #[error("make data_dir {}: {cause}", path.display())]
    DataDir {
        /// Which one.
        path: PathBuf,
        /// What the system said.
        #[source]
        cause: std::io::Error,
    },
    /// The name under which control knows this proxy cannot be read or kept.
    #[error("read or make data_dir/proxy-id: {0}")]
    Identity(#[source] std::io::Error),
    /// The routes of earlier upgrades cannot be read.
    #[error(transparent)]
    Overlay(#[from] OverlayError),
    /// A pool's ring cannot be built.
    #[error(transparent)]
    Ring(#[from] RingError),
    /// Certificates cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// A pool or the HTTP port cannot listen.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// The system gives no thread, or no event queue.
    #[error("start a worker thread: {0}")]
    Thread(#[source] std::io::Error),
}

/// Why a reload changed nothing.
#[derive(Debug, thiserror::Error)]
pub enum ReloadError {
    /// There is no file to read.
    #[error("the configuration was given on the command line: there is no file to read again")]
    Fixed,
    /// The file cannot be read or is not a configuration.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// A pool's ring cannot be built.
    #[error(transparent)]
    Ring(#[from] RingError),
    /// Certificates cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// A new pool cannot listen.
    #[error(transparent)]
    Listen(#[from] ListenError),
}
