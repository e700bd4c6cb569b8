//! From a file of our own to a `Config`, with everything that is wrong with it.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use understudy_ring::{Distribution, Hash};

use crate::address::{GuardAddress, ListenAddress};
use crate::backend_url::{BackendUrl, Scheme};
use crate::kubernetes::Kubernetes;
use crate::limits::{self, Limits};
use crate::model::{
    Admin, BackendTls, Config, Control, Http, Pool, Shard, SnapshotsBy, TlsFiles, User,
    default_workers,
};
use crate::node::{Node, Value};
use crate::problem::{Problem, Problems};
use crate::scalar;
use crate::section::{Place, Section, Wrong, take_text};
use crate::settings::{self, SectionSpec};
use crate::sources::Sources;

/// Reads the tree of a file of our own.
pub(crate) fn config(root: &Node, sources: Sources<'_>) -> Result<Config, Problems> {
    let mut reader = Reader {
        sources,
        problems: Vec::new(),
    };
    let config = reader.config(root);
    let mut problems = reader.problems;
    problems.sort_by_key(|problem| problem.line);
    match config {
        Some(config) if problems.is_empty() => Ok(config),
        _ => Err(Problems(problems)),
    }
}

struct Reader<'e> {
    sources: Sources<'e>,
    problems: Vec<Problem>,
}

impl Reader<'_> {
    fn config(&mut self, root: &Node) -> Option<Config> {
        let file = Section::open(
            root,
            Place {
                path: String::new(),
                line: root.line,
            },
            &settings::ROOT,
            &mut self.problems,
        )?;
        let data_dir = file.take("data_dir", &mut self.problems, scalar::path);
        let workers = self
            .bounded::<usize>(&file, "workers")
            .and_then(NonZeroUsize::new);
        let admin = self.admin(&file);
        let http = self.http(&file);
        let control = self.control(&file);
        let kubernetes = Kubernetes::read(&file, self.sources, &mut self.problems);
        let limits = self.limits(&file);
        let pools = self.pools(&file);
        let of = |name: &str, spec: &'static SectionSpec| {
            let section = file.section(name, spec, &mut Vec::new());
            section.map_or_else(|| file.place_of(name), |section| section.place_of("listen"))
        };
        let http_place = http
            .as_ref()
            .map(|http| (&http.listen, of("http", &settings::HTTP)));
        check_listen_addresses(
            (&admin.listen, of("admin", &settings::ADMIN)),
            http_place,
            &pools,
            &mut self.problems,
        );
        Some(Config {
            file: None,
            data_dir: data_dir.unwrap_or_else(|| PathBuf::from("./understudy-data")),
            workers: workers.unwrap_or_else(default_workers),
            admin,
            http,
            control,
            kubernetes,
            limits,
            pools: pools.into_iter().map(|(pool, _)| pool).collect(),
            warnings: Vec::new(),
        })
    }

    fn admin(&mut self, file: &Section<'_>) -> Admin {
        let mut admin = Admin::default();
        let Some(section) = file.section("admin", &settings::ADMIN, &mut self.problems) else {
            return admin;
        };
        if let Some(listen) = section.take("listen", &mut self.problems, scalar::address) {
            admin.listen = listen;
        }
        admin.users = self.users(&section, "users");
        admin.tls = self.tls(&section);
        admin
    }

    fn http(&mut self, file: &Section<'_>) -> Option<Http> {
        let mut http = Http::default();
        match file.node("http").map(|node| &node.value) {
            Some(Value::Text(word)) if word == "off" => return None,
            Some(Value::Text(_)) => {
                let wrong = Wrong::new(
                    "one value stands here",
                    "write a section with listen, or off",
                );
                self.problems.push(file.place_of("http").problem(wrong));
                return None;
            }
            _ => {}
        }
        let section = file.section("http", &settings::HTTP, &mut self.problems);
        if let Some(listen) =
            section.and_then(|section| section.take("listen", &mut self.problems, scalar::address))
        {
            http.listen = listen;
        }
        Some(http)
    }

    fn control(&mut self, file: &Section<'_>) -> Control {
        let mut control = Control::default();
        let Some(section) = file.section("control", &settings::CONTROL, &mut self.problems) else {
            return control;
        };
        let login = section.section("login", &settings::USER, &mut self.problems);
        let login = login.and_then(|section| self.sources.user(&section, &mut self.problems));
        for (node, place) in section.list("proxies", &mut self.problems) {
            let Some(text) = take_text(node, &place, &mut self.problems) else {
                continue;
            };
            match scalar::address::<BackendUrl>(text) {
                Ok(proxy) => control.proxies.push(with_login(proxy, login.as_ref())),
                Err(wrong) => self.problems.push(place.problem(wrong)),
            }
        }
        control.address = section.take("address", &mut self.problems, scalar::address);
        control.proxy_tls = self.proxy_tls(&section);
        let address = control.address.take();
        control.address = address.map(|address| {
            with_login(address, login.as_ref()).with_tls(control.proxy_tls.as_ref())
        });
        control.login = login;
        control.announce = section.take("announce", &mut self.problems, scalar::address);
        control.guard = self.guard(&section);
        self.refuse_clear_text(&section, &control);
        if let Some(by) = section.take("snapshots", &mut self.problems, snapshots_by) {
            control.snapshots = by;
        }
        if let Some(lease) = self.bounded(&section, "proxy_lease") {
            control.proxy_lease = lease;
        }
        if let Some(age) = self.bounded(&section, "snapshot_age_max") {
            control.snapshot_age_max = age;
        }
        if let Some(kept) = self.bounded(&section, "snapshots_kept") {
            control.snapshots_kept = kept;
        }
        if let Some(every) = self.bounded(&section, "snapshot_check_every") {
            control.snapshot_check_every = every;
        }
        control
    }

    fn proxy_tls(&mut self, control: &Section<'_>) -> Option<BackendTls> {
        let section = control.section("proxy_tls", &settings::PROXY_TLS, &mut self.problems)?;
        let sources = self.sources;
        let ca = section.require("ca", &mut self.problems, |text| sources.path(text));
        let server_name = section.take("server_name", &mut self.problems, scalar::text);
        Some(BackendTls {
            ca: ca?,
            identity: None,
            server_name,
        })
    }

    /// Orders to a gate, and the login for them, cross no network that anybody can read or change.
    fn refuse_clear_text(&mut self, section: &Section<'_>, control: &Control) {
        if let Some(address) = &control.address
            && address.scheme == Scheme::Redis
            && !address.is_loopback()
        {
            let wrong = Wrong::new(
                format!(
                    "{} would be told of this proxy in clear text",
                    address.address()
                ),
                "write rediss:// and, for an authority of your own, control.proxy_tls: { ca: FILE }; control needs admin.tls",
            );
            self.problems
                .push(section.place_of("address").problem(wrong));
        }
        if control.proxy_tls.is_some() {
            return;
        }
        for proxy in &control.proxies {
            if proxy.scheme == Scheme::Redis && !proxy.is_loopback() {
                let wrong = Wrong::new(
                    format!("{} would be driven in clear text", proxy.address()),
                    "write rediss:// and, for an authority of your own, control.proxy_tls: { ca: FILE }; the proxy needs admin.tls",
                );
                self.problems
                    .push(section.place_of("proxies").problem(wrong));
            }
        }
    }

    fn guard(&mut self, control: &Section<'_>) -> GuardAddress {
        let mut guard = GuardAddress::default();
        if let Some(section) = control.section("guard", &settings::GUARD, &mut self.problems) {
            if let Some(listen) = section.take("listen", &mut self.problems, scalar::address) {
                guard.listen = listen;
            }
            guard.announce = section.take("announce", &mut self.problems, scalar::text);
            guard.tls = self.tls(&section);
        }
        guard
    }

    fn limits(&mut self, file: &Section<'_>) -> Limits {
        let Some(section) = file.section("limits", &limits::SPEC, &mut self.problems) else {
            return Limits::default();
        };
        let limits = Limits::read(&section, &mut self.problems);
        limits.check(&section, &mut self.problems);
        limits
    }

    fn pools(&mut self, file: &Section<'_>) -> Vec<(Pool, Place)> {
        let before = self.problems.len();
        let nodes = file.list("pools", &mut self.problems);
        if nodes.is_empty() && self.problems.len() == before {
            self.problems.push(file.missing("pools"));
        }
        let mut seen = Seen::default();
        let mut pools = Vec::new();
        for (node, place) in nodes {
            let Some(section) =
                Section::open(node, place.clone(), &settings::POOL, &mut self.problems)
            else {
                continue;
            };
            let Some(pool) = self.pool(&section) else {
                continue;
            };
            seen.check(
                "pool",
                &pool.name,
                &section.place_of("name"),
                &mut self.problems,
            );
            pools.push((pool, section.place_of("listen")));
        }
        pools
    }

    fn pool(&mut self, section: &Section<'_>) -> Option<Pool> {
        let name = section.require("name", &mut self.problems, scalar::name);
        let listen = section.require("listen", &mut self.problems, scalar::address);
        let mut pool = Pool::new(
            name.clone().unwrap_or_default(),
            listen
                .clone()
                .unwrap_or(ListenAddress::Tcp(String::new(), 0)),
            Vec::new(),
        );
        if let Some(distribution) = section.take("distribution", &mut self.problems, |text| {
            scalar::one_of(text, "distribution", &Distribution::ALL)
        }) {
            pool.distribution = distribution;
        }
        if let Some(hash) = section.take("hash", &mut self.problems, |text| {
            scalar::one_of(text, "hash function", &Hash::ALL)
        }) {
            pool.hash = hash;
        }
        pool.hash_tag = section.take("hash_tag", &mut self.problems, scalar::hash_tag);
        pool.users = self.users(section, "users");
        pool.backend_users = self.users(section, "backend_users");
        pool.tls = self.tls(section);
        pool.backend_tls = self.backend_tls(section);
        pool.timeout = self.bounded(section, "timeout");
        pool.sessions_max = self
            .bounded::<usize>(section, "sessions_max")
            .and_then(NonZeroUsize::new);
        if let Some(time) = self.bounded::<Duration>(section, "connect_timeout") {
            pool.connect_timeout = time;
        }
        self.shards(section, &mut pool);
        (name.is_some() && listen.is_some()).then_some(pool)
    }

    fn shards(&mut self, section: &Section<'_>, pool: &mut Pool) {
        let before = self.problems.len();
        let nodes = section.list("shards", &mut self.problems);
        if nodes.is_empty() && self.problems.len() == before {
            self.problems.push(section.missing("shards"));
        }
        let (mut names, mut ring_names) = (Seen::default(), Seen::default());
        for (node, place) in nodes {
            let Some(section) =
                Section::open(node, place.clone(), &settings::SHARD, &mut self.problems)
            else {
                continue;
            };
            let name = section.require("name", &mut self.problems, scalar::name);
            let primary: Option<BackendUrl> =
                section.require("primary", &mut self.problems, scalar::address);
            let weight = self.bounded(&section, "weight").unwrap_or(1);
            let ring_name = section.take("ring_name", &mut self.problems, scalar::text);
            let (Some(name), Some(primary)) = (name, primary) else {
                continue;
            };
            let place_of_ring_name = section.place_of(if section.has("ring_name") {
                "ring_name"
            } else {
                "name"
            });
            let ring_name = ring_name.unwrap_or_else(|| name.clone());
            if names.check(
                "shard",
                &name,
                &section.place_of("name"),
                &mut self.problems,
            ) {
                ring_names.check(
                    "place on the ring",
                    &ring_name,
                    &place_of_ring_name,
                    &mut self.problems,
                );
            }
            self.check_primary(&primary, pool, &section);
            let primary = pool.with_login(primary);
            pool.shards.push(Shard {
                name,
                ring_name,
                primary,
                weight,
            });
        }
        let total = pool
            .shards
            .iter()
            .try_fold(0_u32, |sum, shard| sum.checked_add(shard.weight));
        if total.is_none() {
            let wrong = Wrong::new(
                "the weights add up to more than 4294967295",
                "divide them all by the same number",
            );
            self.problems
                .push(section.place_of("shards").problem(wrong));
        }
    }

    fn check_primary(&mut self, primary: &BackendUrl, pool: &Pool, section: &Section<'_>) {
        let place = section.place_of("primary");
        if let Some(other) = pool
            .shards
            .iter()
            .find(|shard| shard.primary.same_server(primary))
        {
            let what = format!("{primary} is already the primary of shard '{}'", other.name);
            self.problems
                .push(place.problem(Wrong::new(what, "give each shard a server of its own")));
        }
        if primary.scheme == Scheme::Rediss && pool.backend_tls.is_none() {
            let what = "rediss:// without backend_tls in this pool";
            self.problems.push(place.problem(Wrong::new(
                what,
                "write backend_tls: { ca: FILE } beside shards",
            )));
        }
    }

    fn users(&mut self, section: &Section<'_>, name: &str) -> Vec<User> {
        let mut seen = Seen::default();
        let mut users = Vec::new();
        for (node, place) in section.list(name, &mut self.problems) {
            let Some(section) =
                Section::open(node, place.clone(), &settings::USER, &mut self.problems)
            else {
                continue;
            };
            if let Some(user) = self.sources.user(&section, &mut self.problems) {
                seen.check("user", &user.name, &place, &mut self.problems);
                users.push(user);
            }
        }
        users
    }

    fn tls(&mut self, section: &Section<'_>) -> Option<TlsFiles> {
        let section = section.section("tls", &settings::TLS, &mut self.problems)?;
        let sources = self.sources;
        let certificate =
            section.require("certificate", &mut self.problems, |text| sources.path(text));
        let key = section.require("key", &mut self.problems, |text| sources.path(text));
        let client_ca = section.take("client_ca", &mut self.problems, |text| sources.path(text));
        Some(TlsFiles {
            certificate: certificate?,
            key: key?,
            client_ca,
        })
    }

    fn backend_tls(&mut self, section: &Section<'_>) -> Option<BackendTls> {
        let section = section.section("backend_tls", &settings::BACKEND_TLS, &mut self.problems)?;
        let sources = self.sources;
        let ca = section.require("ca", &mut self.problems, |text| sources.path(text));
        let certificate =
            section.take("certificate", &mut self.problems, |text| sources.path(text));
        let key = section.take("key", &mut self.problems, |text| sources.path(text));
        let server_name = section.take("server_name", &mut self.problems, scalar::text);
        for (present, absent) in [("certificate", "key"), ("key", "certificate")] {
            if section.has(present) && !section.has(absent) {
                let wrong =
                    Wrong::new(format!("{present} without {absent}"), "write both, or none");
                self.problems.push(section.place_of(present).problem(wrong));
            }
        }
        Some(BackendTls {
            ca: ca?,
            identity: certificate.zip(key),
            server_name,
        })
    }

    /// Takes a value within the bounds that the table of settings has for it.
    fn bounded<T: scalar::Scalar>(&mut self, section: &Section<'_>, name: &str) -> Option<T> {
        let (min, max) = section.bounds(name);
        section.take(name, &mut self.problems, |text| {
            scalar::within(text, min, max)
        })
    }
}

fn snapshots_by(text: &str) -> Result<SnapshotsBy, Wrong> {
    match text {
        "here" => Ok(SnapshotsBy::Here),
        "agents" => Ok(SnapshotsBy::Agents),
        _ => Err(Wrong::new(
            format!("nobody is called '{text}'"),
            "write here or agents",
        )),
    }
}

/// Where something listens, and the line that says so.
type Listening<'a> = (&'a ListenAddress, Place);

/// No two ports of this process may be one. Port 0 is never taken.
pub(crate) fn check_listen_addresses(
    admin: Listening<'_>,
    http: Option<Listening<'_>>,
    pools: &[(Pool, Place)],
    problems: &mut Vec<Problem>,
) {
    let mut addresses = vec![("admin", admin)];
    addresses.extend(http.map(|http| ("http", http)));
    addresses.extend(
        pools
            .iter()
            .map(|(pool, place)| (pool.name.as_str(), (&pool.listen, place.clone()))),
    );
    for (index, (_, (address, place))) in addresses.iter().enumerate() {
        if matches!(address, ListenAddress::Tcp(_, 0)) {
            continue;
        }
        if let Some((other, _)) = addresses[..index]
            .iter()
            .find(|(_, (earlier, _))| same_socket(earlier, address))
        {
            let wrong = Wrong::new(
                format!("{address} is already where '{other}' listens"),
                "give each its own address",
            );
            problems.push(place.problem(wrong));
        }
    }
}

fn same_socket(left: &ListenAddress, right: &ListenAddress) -> bool {
    match (left, right) {
        (ListenAddress::Unix(left, _), ListenAddress::Unix(right, _)) => left == right,
        (left, right) => left == right,
    }
}

fn with_login(mut server: BackendUrl, login: Option<&User>) -> BackendUrl {
    if let (None, Some(login)) = (&server.password, login) {
        server.username = Some(login.name.clone());
        server.password = Some(login.password.clone());
    }
    server
}

/// Names that must differ.
#[derive(Default)]
pub(crate) struct Seen(BTreeMap<String, Place>);

impl Seen {
    /// Complains about a name that was there before; true when it is new.
    pub(crate) fn check(
        &mut self,
        what: &str,
        name: &str,
        place: &Place,
        problems: &mut Vec<Problem>,
    ) -> bool {
        if let Some(first) = self.0.get(name) {
            let what = format!(
                "a second {what} '{name}', the first is in line {}",
                first.line
            );
            problems.push(place.problem(Wrong::new(what, "give each a name of its own")));
            return false;
        }
        self.0.insert(name.to_owned(), place.clone());
        true
    }
}
