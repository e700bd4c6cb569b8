//! Whether a recipe's restore can give a claim that nobody uses, to be read back and forgotten: what `verify` rests on.

use super::{Recipe, RestoreMode};

impl Recipe {
    /// Why it cannot give one; nothing where it can.
    #[must_use]
    pub fn no_scratch_claim(&self) -> Option<String> {
        let Some(restore) = &self.restore else {
            return Some("it does not say how to restore".to_owned());
        };
        let why = match restore.mode {
            RestoreMode::NewPvc if restore.by_hand.is_empty() => return None,
            RestoreMode::NewPvc | RestoreMode::Manual => "a restore needs a hand",
            RestoreMode::InPlace => {
                "the system restores onto the claim that was snapshotted, never into another one"
            }
            RestoreMode::App => {
                "the system restores claims under the names that they had, and not into a claim of ours"
            }
        };
        Some(why.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use crate::recipe::Book;

    #[test]
    fn a_recipe_that_restores_to_a_new_claim_by_itself_can_be_read_back() {
        let book = Book::builtin().unwrap();
        let mut can: Vec<&str> = book
            .all()
            .filter(|it| it.no_scratch_claim().is_none())
            .map(|it| it.name.as_str())
            .collect();
        can.sort_unstable();
        assert_eq!(
            can,
            ["csi", "kubestash", "longhorn-csi", "openebs-csi", "stash"]
        );
    }
}
