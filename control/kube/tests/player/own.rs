//! A recipe of a user's own that extends a shipped one goes the same ways.

use understudy_kube::recipe::Book;

use crate::data::{directory, part};
use crate::play::{Played, play_of};
use crate::scenario::{ALL, Scenario};

#[test]
fn a_recipe_of_ones_own_that_extends_a_shipped_one_goes_every_way_of_it() {
    let book = Book::with_directory(&directory().join("own")).unwrap();
    let own = book.find("csi-nightly").unwrap();
    let mut part = part("csi");
    part.params = serde_json::from_value(serde_json::json!({"team": "shop"})).unwrap();
    for (scenario, _, _) in ALL {
        let played = play_of(own, &part, scenario);
        let cannot = scenario == Scenario::Skipped;
        assert_eq!(played != Played::Passed, cannot, "{scenario:?}: {played:?}");
    }
    assert!(book.names().contains(&"csi-nightly".to_owned()));
}
