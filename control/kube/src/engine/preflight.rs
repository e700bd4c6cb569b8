//! Whether a run could go well. Touches nothing.

use understudy_control::snapshot::{Level, ProviderError};

use super::drive::{Engine, wall_ms};
use super::refuse::{Refusals, call_failed};
use crate::cluster::CallError;
use crate::recipe::{Purpose, Reached, Vars, rights};

impl Engine<'_> {
    /// Whether a run could go well: what stands in the way, and what an operator should know. Touches nothing.
    pub async fn preflight(&self) -> Result<(Refusals, Vec<String>), ProviderError> {
        let mut refusals = Refusals::default();
        let what = self.what();
        let failed = |cause: CallError| call_failed(&what, &cause);
        let apis = self.discover(&mut refusals).await.map_err(failed)?;
        let mut vars = self.context.vars(wall_ms());
        self.refuse_by_itself(&mut refusals);
        self.refuse_by_rights(&vars, &mut refusals)
            .await
            .map_err(failed)?;
        // Without the right to read, every look-up would only repeat it.
        if refusals.0.iter().all(|it| it.code != "snapshot-rights") {
            let resolve = &self.context.recipe.resolve;
            self.resolve(&apis, resolve, &mut vars, &mut refusals)
                .await
                .map_err(failed)?;
        }
        let recipe = self.context.recipe;
        let reached = self.reached().as_str();
        let notes = vec![format!(
            "{}: the snapshot will be {reached}-consistent: {}",
            recipe.name, recipe.consistency.why
        )];
        Ok((refusals, notes))
    }

    /// What the request asks for and this recipe cannot do.
    pub(super) fn refuse_by_itself(&self, refusals: &mut Refusals) {
        let recipe = self.context.recipe;
        for (name, what, remedy) in self.context.wrong_params() {
            refusals.add(
                "snapshot-params",
                format!("params.{}.{name} {what}", recipe.name),
                remedy,
            );
        }
        if self.context.request.level == Level::App && self.reached() < Reached::App {
            let text = format!(
                "{} reaches only `{}`: {}",
                recipe.name,
                self.reached().as_str(),
                recipe.consistency.why
            );
            refusals.add(
                "snapshot-level",
                text,
                "choose level crash for it, or another recipe",
            );
        }
    }

    /// Every right that the server says we have not.
    pub(super) async fn refuse_by_rights(
        &self,
        vars: &Vars,
        refusals: &mut Refusals,
    ) -> Result<(), CallError> {
        let rights = match rights(self.context.recipe, vars) {
            Ok(rights) => rights,
            Err(cause) => {
                refusals.add(
                    "snapshot-params",
                    cause.to_string(),
                    "set the parameter that it names",
                );
                return Ok(());
            }
        };
        for right in rights.iter().filter(|it| it.purpose == Purpose::Take) {
            let answer = self.cluster.can_i(right).await?;
            if !answer.yes {
                let place = right.namespace.as_ref().map_or_else(
                    || "in the cluster".to_owned(),
                    |it| format!("in namespace {it}"),
                );
                let text = format!(
                    "no right to {} {}.{} {place} {}",
                    right.verb, right.resource, right.group, answer.reason
                );
                refusals.add(
                    "snapshot-rights",
                    text.trim_end().to_owned(),
                    "add it to the role of our service account",
                );
            }
        }
        Ok(())
    }
}
