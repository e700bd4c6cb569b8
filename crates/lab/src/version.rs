//! The server versions that the project is tested with, and where `make tools` puts them.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::error::LabError;

/// A server of which `make tools` installs the real binary.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize,
)]
#[serde(into = "String", try_from = "String")]
pub enum Version {
    /// The oldest that is supported as a source.
    Redis6_2_14,
    /// The distribution's own: the one version that may be absent (Debian 13 ships 8). Any 7.x found counts.
    Redis7_0_15,
    /// The newest Redis.
    Redis8_2_3,
    /// The oldest Valkey.
    Valkey8_1_8,
    /// The newest Valkey.
    Valkey9_1_2,
}

/// Whose server it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Product {
    /// redis-server.
    Redis,
    /// valkey-server.
    Valkey,
}

impl Version {
    /// Every version, oldest first, Redis before Valkey.
    pub const ALL: [Version; 5] = [
        Version::Redis6_2_14,
        Version::Redis7_0_15,
        Version::Redis8_2_3,
        Version::Valkey8_1_8,
        Version::Valkey9_1_2,
    ];

    /// Those of [`Version::ALL`] that are installed here.
    pub fn installed() -> Vec<Version> {
        Version::ALL
            .into_iter()
            .filter(|version| version.is_installed())
            .collect()
    }

    /// Whether [`Version::binary`] would find it.
    pub fn is_installed(self) -> bool {
        self.binary().is_ok()
    }

    /// The server's program.
    pub fn binary(self) -> Result<PathBuf, LabError> {
        let tools = tools_folder();
        let program = format!("bin/{}-server", self.product().name());
        let exact = tools.join(self.folder()).join(&program);
        if exact.is_file() {
            return Ok(exact);
        }
        if self == Version::Redis7_0_15
            && let Some(other) = any_redis_7(&tools, &program)
        {
            return Ok(other);
        }
        Err(LabError::NotInstalled {
            version: self,
            looked_in: tools,
        })
    }

    /// Whose server it is.
    pub fn product(self) -> Product {
        match self {
            Version::Redis6_2_14 | Version::Redis7_0_15 | Version::Redis8_2_3 => Product::Redis,
            Version::Valkey8_1_8 | Version::Valkey9_1_2 => Product::Valkey,
        }
    }

    /// Major, minor and patch number.
    pub fn number(self) -> (u32, u32, u32) {
        match self {
            Version::Redis6_2_14 => (6, 2, 14),
            Version::Redis7_0_15 => (7, 0, 15),
            Version::Redis8_2_3 => (8, 2, 3),
            Version::Valkey8_1_8 => (8, 1, 8),
            Version::Valkey9_1_2 => (9, 1, 2),
        }
    }

    /// Whether a replica of this version can follow a primary of version `source`, as measured: every other pair either
    /// refuses the handshake or cannot read the other's RDB.
    pub fn can_follow(self, source: Version) -> bool {
        use Version::{Redis6_2_14, Redis7_0_15, Redis8_2_3, Valkey8_1_8, Valkey9_1_2};
        match source {
            Redis6_2_14 => true,
            Redis7_0_15 => self != Redis6_2_14,
            Valkey8_1_8 => matches!(self, Valkey8_1_8 | Redis8_2_3 | Valkey9_1_2),
            Redis8_2_3 | Valkey9_1_2 => self == source,
        }
    }

    /// Every name, for messages.
    pub(crate) fn names() -> String {
        Version::ALL.map(|version| version.to_string()).join(", ")
    }

    fn folder(self) -> String {
        let (major, minor, patch) = self.number();
        format!("{}-{major}.{minor}.{patch}", self.product().name())
    }
}

impl Product {
    /// Lower case, as in the program's name.
    pub fn name(self) -> &'static str {
        match self {
            Product::Redis => "redis",
            Product::Valkey => "valkey",
        }
    }
}

/// Redis goes by its number alone, Valkey by its name too: `6.2.14`, `valkey-9.1.2`.
impl fmt::Display for Version {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (major, minor, patch) = self.number();
        match self.product() {
            Product::Redis => write!(out, "{major}.{minor}.{patch}"),
            Product::Valkey => write!(out, "valkey-{major}.{minor}.{patch}"),
        }
    }
}

/// Takes the full name or any start of it that fits one version only: `6.2`, `redis-8.2.3`, `valkey-9`.
impl FromStr for Version {
    type Err = LabError;

    fn from_str(text: &str) -> Result<Version, LabError> {
        let wanted = text.trim().to_ascii_lowercase();
        let short = wanted.strip_prefix("redis-").unwrap_or(&wanted);
        let mut fitting = Version::ALL.into_iter().filter(|version| {
            let name = version.to_string();
            name == short
                || name
                    .strip_prefix(short)
                    .is_some_and(|rest| rest.starts_with('.'))
        });
        match (fitting.next(), fitting.next()) {
            (Some(only), None) => Ok(only),
            _ => Err(LabError::UnknownVersion(text.to_owned())),
        }
    }
}

impl From<Version> for String {
    fn from(version: Version) -> String {
        version.to_string()
    }
}

impl TryFrom<String> for Version {
    type Error = LabError;

    fn try_from(text: String) -> Result<Version, LabError> {
        text.parse()
    }
}

/// A program that `make tools` installed beside the servers, such as `nutcracker`; none where it is missing.
pub fn tool(name: &str) -> Option<PathBuf> {
    let path = tools_folder().join(name).join("bin").join(name);
    path.is_file().then_some(path)
}

/// `.tools` of this checkout: `UNDERSTUDY_TOOLS`, or the nearest one above the running crate's or the current directory.
pub(crate) fn tools_folder() -> PathBuf {
    if let Some(named) = std::env::var_os("UNDERSTUDY_TOOLS") {
        return PathBuf::from(named);
    }
    let starts = [
        std::env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from),
        std::env::current_dir().ok(),
    ];
    let found = starts.iter().flatten().find_map(|start| {
        start
            .ancestors()
            .map(|folder| folder.join(".tools"))
            .find(|tools| tools.is_dir())
    });
    found.unwrap_or_else(|| PathBuf::from(".tools"))
}

fn any_redis_7(tools: &Path, program: &str) -> Option<PathBuf> {
    let folders = std::fs::read_dir(tools).ok()?;
    folders
        .flatten()
        .filter(|folder| folder.file_name().to_string_lossy().starts_with("redis-7."))
        .map(|folder| folder.path().join(program))
        .find(|candidate| candidate.is_file())
}

#[cfg(test)]
mod tests {
    use super::Version;

    #[track_caller]
    fn check(text: &str, expect: Option<Version>) {
        assert_eq!(text.parse::<Version>().ok(), expect, "{text}");
    }

    #[test]
    fn a_version_is_named_in_full_or_by_a_start_that_fits_one() {
        check("6.2.14", Some(Version::Redis6_2_14));
        check("redis-6.2", Some(Version::Redis6_2_14));
        check("8.2", Some(Version::Redis8_2_3));
        check("valkey-8.1.8", Some(Version::Valkey8_1_8));
        check("Valkey-9", Some(Version::Valkey9_1_2));
        check("8", Some(Version::Redis8_2_3));
        check("valkey", None);
        check("", None);
        check("6.2.1", None);
    }

    #[test]
    fn a_name_reads_back() {
        for version in Version::ALL {
            check(&version.to_string(), Some(version));
        }
    }
}
