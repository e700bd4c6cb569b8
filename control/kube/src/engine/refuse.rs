//! What stands in the way before anything is touched.

use understudy_control::snapshot::{ProviderError, ProviderErrorKind};

use crate::cluster::{CallError, CallKind};

/// One thing that stands in the way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// In kebab-case, beginning with `snapshot-`.
    pub code: &'static str,
    /// What is so, with the object's name.
    pub text: String,
    /// What to do about it.
    pub remedy: String,
}

/// Everything that stands in the way.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Refusals(pub Vec<Refusal>);

impl Refusals {
    /// One more.
    pub fn add(&mut self, code: &'static str, text: impl Into<String>, remedy: impl Into<String>) {
        let refusal = Refusal {
            code,
            text: text.into(),
            remedy: remedy.into(),
        };
        if !self.0.contains(&refusal) {
            self.0.push(refusal);
        }
    }

    /// As the error of a run that was not begun.
    #[must_use]
    pub fn into_error(self) -> Option<ProviderError> {
        let first = self.0.first()?;
        let kind = match first.code {
            "snapshot-rights" => ProviderErrorKind::Denied,
            _ => ProviderErrorKind::Misconfigured,
        };
        let told: Vec<String> = self
            .0
            .iter()
            .map(|it| format!("{}; {}", it.text, it.remedy))
            .collect();
        Some(ProviderError::new(kind, told.join(". ")))
    }
}

/// The error of a call, with the object it was about.
pub(super) fn call_failed(what: &str, cause: &CallError) -> ProviderError {
    let (kind, next) = match cause.kind {
        CallKind::Denied => (
            ProviderErrorKind::Denied,
            "give the service account the right that is named",
        ),
        CallKind::Busy | CallKind::Unreachable => (
            ProviderErrorKind::Unreachable,
            "it says nothing about the snapshot; look at the API server",
        ),
        CallKind::NotFound => (
            ProviderErrorKind::Misconfigured,
            "look at its name and namespace",
        ),
        CallKind::Conflict | CallKind::Refused => (
            ProviderErrorKind::Failed,
            "change what the server refuses, then begin a new run",
        ),
    };
    ProviderError::new(kind, format!("{what}: {}; {next}", cause.text))
}
