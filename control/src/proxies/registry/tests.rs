//! The registry by itself, on a clock of numbers.

use super::*;

const LEASE: Duration = Duration::from_millis(1_000);

struct Book {
    registry: Registry,
    start: Instant,
}

fn key() -> Key {
    ("p".into(), "s1".into())
}

impl Book {
    fn new() -> Book {
        let start = Instant::now();
        Book {
            registry: Registry::new(LEASE, start),
            start,
        }
    }

    fn at(&self, ms: u64) -> Instant {
        self.start + Duration::from_millis(ms)
    }

    fn says(&mut self, id: &str, life: &str, ms: u64) -> Result<Registered, Refused> {
        let said = Registration {
            id: id.into(),
            life: life.into(),
            address: format!("redis://{id}:7380"),
            pod: PodName::parse(&format!("shop/{id}/u-{id}/proxy")),
            shards: BTreeMap::from([(key(), 3)]),
        };
        let now = self.at(ms);
        self.registry.register(said, now)
    }

    #[track_caller]
    fn hears(&mut self, id: &str, life: &str, ms: u64, word: Word) {
        let told = self.says(id, life, ms).unwrap().told;
        assert_eq!(told, [(key(), word)]);
    }

    fn arm(&mut self, term: u64, ms: u64) -> Result<(), String> {
        let now = self.at(ms);
        let armed = self.registry.arm(&key(), term, now);
        armed.map_err(|error| error.to_string())
    }

    fn check(&self, ms: u64) -> Result<(), String> {
        let checked = self.registry.check(&key(), self.at(ms));
        checked.map_err(|error| error.to_string())
    }

    fn forget(&mut self, id: &str, ms: u64) -> Result<(), Refused> {
        let now = self.at(ms);
        self.registry.forget(id, now)
    }
}

#[test]
fn those_who_are_known_are_counted_on_and_nobody_else() {
    let mut book = Book::new();
    book.hears("a", "1", 0, Word::Open);
    book.hears("b", "1", 0, Word::Open);
    book.arm(7, 100).unwrap();
    book.hears("a", "1", 300, Word::Armed);
    assert_eq!(book.check(300), Ok(()));
    book.hears("c", "1", 400, Word::Wait);
    assert_eq!(
        book.check(400).unwrap_err(),
        "proxy c at redis://c:7380: it registered during the attempt, which did not count on it"
    );
    book.registry.disarm(&key());
    book.hears("c", "1", 500, Word::Open);
    book.says("b", "1", 500).unwrap();
    assert_eq!(book.arm(8, 600), Ok(()));
}

#[test]
fn hazard_14_one_that_is_silent_for_a_lease_is_named_with_what_to_do() {
    let mut book = Book::new();
    book.hears("a", "1", 0, Word::Open);
    book.hears("b", "1", 900, Word::Open);
    assert_eq!(
        book.arm(7, 1_001).unwrap_err(),
        "proxy a at redis://a:7380: it was last heard 1001 ms ago and its lease is 1000 ms; when it is gone for good, UPGRADE FORGET a"
    );
    assert!(book.registry.armed.is_empty());
    book.forget("a", 1_101).unwrap();
    assert_eq!(book.arm(7, 1_101), Ok(()));
    // It lapses in the middle.
    assert!(book.check(1_901).unwrap_err().contains("UPGRADE FORGET b"));
}

#[test]
fn who_lives_or_is_counted_on_is_not_forgotten() {
    let mut book = Book::new();
    book.hears("a", "1", 0, Word::Open);
    let lives = book.forget("a", 1_100).unwrap_err();
    assert!(matches!(lives, Refused::Lives { .. }), "{lives}");
    book.arm(7, 900).unwrap();
    let armed = book.forget("a", 1_101).unwrap_err();
    assert!(matches!(armed, Refused::Armed { .. }), "{armed}");
    book.registry.committed(&key());
    assert_eq!(book.forget("a", 1_101), Ok(()), "it holds, or has lapsed");
    assert_eq!(book.forget("a", 1_101), Err(Refused::Unknown("a".into())));
}

#[test]
fn a_restart_of_a_member_is_seen_and_two_of_one_id_are_refused() {
    let mut book = Book::new();
    book.hears("a", "1", 0, Word::Open);
    book.arm(7, 10).unwrap();
    book.hears("a", "2", 20, Word::Wait);
    assert_eq!(
        book.check(20).unwrap_err(),
        "proxy a at redis://a:7380: it was restarted during the attempt, as 2"
    );
    let twin = book.says("a", "1", 30).unwrap_err();
    assert!(matches!(twin, Refused::Twin { .. }), "{twin}");
    book.registry.disarm(&key());
    assert!(book.arm(8, 40).unwrap_err().contains("proxy-id"));
}

#[test]
fn who_leaves_is_gone_and_a_former_life_says_nothing() {
    let mut book = Book::new();
    book.hears("a", "1", 0, Word::Open);
    book.hears("a", "2", 10, Word::Open);
    assert!(!book.registry.leave("a", "1"));
    book.arm(7, 20).unwrap();
    assert!(book.registry.leave("a", "2"));
    assert_eq!(
        book.check(30).unwrap_err(),
        "proxy a: it left during the attempt"
    );
}

#[test]
fn a_restart_of_control_forgets_nobody_and_counts_on_nobody_it_has_not_heard() {
    let mut book = Book::new();
    let pools = BTreeSet::from(["p".to_owned()]);
    let pod = PodName::parse("shop/a/u-a/proxy").unwrap();
    let home = Some(Home { pod, seen: true });
    book.registry.remember("a", "redis://a:7380", home, pools);
    book.registry.resume(key(), 7);
    assert_eq!(book.registry.addresses(Some("p")), ["redis://a:7380"]);
    assert_eq!(book.registry.addresses(Some("q")), Vec::<String>::new());
    let unheard = book.registry.ready(&key(), book.at(10)).unwrap_err();
    assert!(unheard.passing, "it has a lease's time to speak");
    assert_eq!(
        unheard.to_string(),
        "proxy a at redis://a:7380: control started 0 s ago, and it has not registered since; it does so within 1 s: try again then; UPGRADE FORGET a only if it is gone for good"
    );
    let unheard = book.registry.ready(&key(), book.at(1_001)).unwrap_err();
    assert!(!unheard.passing && unheard.to_string().contains("UPGRADE FORGET a"));
    assert!(book.forget("a", 500).is_err(), "it may live");
    let told = book.says("a", "1", 600).unwrap();
    assert_eq!((told.term, told.told), (7, vec![(key(), Word::Armed)]));
    assert!(!told.changed);
    // What a former control began never goes on to PREPARE here.
    assert!(book.check(600).is_err());
}

#[test]
fn a_proxy_that_lacks_the_shard_is_in_the_way_and_one_of_another_pool_is_not() {
    let mut book = Book::new();
    book.hears("a", "1", 0, Word::Open);
    let other = ("p".to_owned(), "s2".to_owned());
    let said = book
        .registry
        .ready(&other, book.at(1))
        .unwrap_err()
        .to_string();
    assert!(said.contains("does not serve shard s2"), "{said}");
    let elsewhere = ("q".to_owned(), "s1".to_owned());
    assert_eq!(book.registry.ready(&elsewhere, book.at(1)), Ok(()));
}

impl Book {
    fn tenant(&self, id: &str, ms: u64) -> Tenant {
        let tenants = self.registry.tenants(None, self.at(ms)).into_iter();
        tenants.into_iter().find(|tenant| tenant.id == id).unwrap()
    }

    fn gone(&mut self, tenant: &Tenant, ms: u64) -> Result<(), Refused> {
        let now = self.at(ms);
        self.registry.forget_tenant(tenant, now)
    }
}

#[test]
fn a_proxy_whose_pod_is_gone_is_forgotten_by_the_rules_of_forget() {
    let mut book = Book::new();
    book.hears("a", "1", 0, Word::Open);
    book.hears("b", "1", 0, Word::Open);
    let alive = book.tenant("a", 1_000);
    assert!(!alive.silent && !alive.lapsed && !alive.home.seen);
    assert!(book.tenant("a", 1_050).silent && !book.tenant("a", 1_050).lapsed);
    // Not while its lease, and the tenth behind it, run.
    let refused = book.gone(&alive, 1_100);
    assert!(matches!(refused, Err(Refused::Lives { .. })), "{refused:?}");
    // Not during an attempt before its commit.
    book.hears("a", "1", 2_000, Word::Open);
    book.hears("b", "1", 2_000, Word::Open);
    book.arm(7, 2_100).unwrap();
    let silent = book.tenant("a", 4_000);
    assert!(silent.lapsed);
    let refused = book.gone(&silent, 4_000);
    assert!(matches!(refused, Err(Refused::Armed { .. })), "{refused:?}");
    book.registry.committed(&key());
    assert_eq!(book.gone(&silent, 4_000), Ok(()));
    assert_eq!(book.registry.addresses(None), ["redis://b:7380"]);
}

#[test]
fn what_was_found_out_about_a_former_life_or_another_pod_forgets_nobody() {
    let mut book = Book::new();
    book.hears("a", "1", 0, Word::Open);
    let before = book.tenant("a", 5_000);
    assert!(before.lapsed);
    book.hears("a", "2", 5_000, Word::Open);
    assert!(book.gone(&before, 9_000).is_err(), "it was started again");
    let before = book.tenant("a", 9_000);
    let key = key();
    let said = Registration {
        id: "a".into(),
        life: "2".into(),
        address: "redis://a:7380".into(),
        pod: PodName::parse("shop/a/another/proxy"),
        shards: BTreeMap::from([(key, 3)]),
    };
    let now = book.at(9_000);
    assert!(book.registry.register(said, now).unwrap().changed);
    assert!(book.gone(&before, 19_000).is_err(), "it moved");
    let moved = book.tenant("a", 19_000);
    assert_eq!(book.gone(&moved, 19_000), Ok(()));
}

#[test]
fn a_pod_counts_as_seen_once_and_until_the_proxy_moves() {
    let mut book = Book::new();
    book.hears("a", "1", 0, Word::Open);
    let tenant = book.tenant("a", 0);
    assert!(book.registry.seen_at_home(&tenant).is_some());
    assert_eq!(book.registry.seen_at_home(&tenant), None, "no news");
    assert!(book.tenant("a", 0).home.seen);
    book.hears("a", "2", 10, Word::Open);
    assert!(book.tenant("a", 10).home.seen, "a container that restarted");
}
