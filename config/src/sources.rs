//! Where secrets come from: files beside the configuration, and the environment.

use std::fs;
use std::path::{Path, PathBuf};

use crate::model::User;
use crate::problem::Problem;
use crate::scalar;
use crate::secret::Secret;
use crate::section::{Section, Wrong};

/// Looks up an environment variable.
pub(crate) type Environment<'e> = &'e dyn Fn(&str) -> Option<String>;

/// What a file may refer to.
#[derive(Clone, Copy)]
pub(crate) struct Sources<'e> {
    /// The folder that paths in the file are relative to.
    pub(crate) base: &'e Path,
    pub(crate) environment: Environment<'e>,
}

impl Sources<'_> {
    /// A path of the file, from its folder.
    pub(crate) fn path(&self, written: &str) -> Result<PathBuf, Wrong> {
        scalar::path(written).map(|path| self.base.join(path))
    }

    /// A user: a name, and a password from exactly one of three settings.
    pub(crate) fn user(&self, section: &Section<'_>, problems: &mut Vec<Problem>) -> Option<User> {
        let name = if section.has("name") {
            section.take("name", problems, scalar::name)
        } else {
            Some("default".to_owned())
        };
        let given: Vec<&str> = ["password", "password_file", "password_env"]
            .into_iter()
            .filter(|setting| section.has(setting))
            .collect();
        let password = match given[..] {
            ["password"] => section.take("password", problems, |text| {
                scalar::text(text).map(Secret::new)
            }),
            ["password_file"] => section.take("password_file", problems, |written| {
                self.first_line_of(written)
            }),
            ["password_env"] => {
                section.take("password_env", problems, |variable| self.variable(variable))
            }
            [] => {
                let wrong = Wrong::new(
                    "the user has no password",
                    "write password_file, password_env or password",
                );
                problems.push(section.place.problem(wrong));
                None
            }
            _ => {
                let wrong = Wrong::new(
                    format!("the user has {} passwords", given.len()),
                    format!("keep one of {}", given.join(", ")),
                );
                problems.push(section.place.problem(wrong));
                None
            }
        };
        Some(User {
            name: name?,
            password: password?,
        })
    }

    /// The first line of a file.
    fn first_line_of(&self, written: &str) -> Result<Secret, Wrong> {
        let path = self.path(written)?;
        let content = fs::read_to_string(&path).map_err(|cause| {
            Wrong::new(
                format!("{} can not be read: {cause}", path.display()),
                "name a file that this process may read",
            )
        })?;
        match content.lines().next() {
            Some(line) if !line.is_empty() => Ok(Secret::new(line)),
            _ => Err(Wrong::new(
                format!("{} has no first line", path.display()),
                "put the password there",
            )),
        }
    }

    fn variable(&self, variable: &str) -> Result<Secret, Wrong> {
        match (self.environment)(variable) {
            Some(value) if !value.is_empty() => Ok(Secret::new(value)),
            _ => Err(Wrong::new(
                format!("the environment has no '{variable}'"),
                "set it before the process starts",
            )),
        }
    }
}
