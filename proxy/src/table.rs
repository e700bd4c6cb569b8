//! Makes the route table out of the configuration and the overlay, and says where the two disagree.

use understudy_config::{Config, Pool, Shard};
use understudy_ring::RingError;

use crate::overlay::{Entry, Overlay};
use crate::route::{PoolRoute, PoolUser, RouteTable, ShardRoute};

/// The table. An entry of the overlay beats the address in the configuration.
pub(crate) fn build(config: &Config, overlay: &Overlay) -> Result<RouteTable, RingError> {
    let pools = config.pools.iter().map(|pool| pool_route(pool, overlay));
    Ok(RouteTable {
        pools: pools.collect::<Result<_, _>>()?,
    })
}

fn pool_route(pool: &Pool, overlay: &Overlay) -> Result<PoolRoute, RingError> {
    let users = pool.users.iter();
    let users = users.map(|user| PoolUser {
        name: user.name.clone(),
        password: user.password.expose().as_bytes().to_vec(),
    });
    Ok(PoolRoute {
        name: pool.name.clone(),
        ring: pool.ring()?,
        shards: pool
            .shards
            .iter()
            .map(|shard| shard_route(shard, overlay.entry(&pool.name, &shard.name)))
            .collect(),
        users: users.collect(),
        timeout: pool.timeout,
    })
}

fn shard_route(shard: &Shard, entry: Option<&Entry>) -> ShardRoute {
    ShardRoute {
        name: shard.name.clone(),
        epoch: entry.map_or(0, |entry| entry.epoch),
        backend_url: entry.map_or_else(|| shard.primary.to_string(), |entry| entry.backend.clone()),
    }
}

/// What the operator should change in the file, one sentence for each shard whose `primary` is not the server that has it.
/// `text` is the file, to name the line.
pub(crate) fn disagreements(config: &Config, overlay: &Overlay, text: Option<&str>) -> Vec<String> {
    let shards = config
        .pools
        .iter()
        .flat_map(|pool| pool.shards.iter().map(move |shard| (pool, shard)));
    let said = shards.filter_map(|(pool, shard)| {
        let entry = overlay.entry(&pool.name, &shard.name)?;
        let named = shard.primary.to_string();
        if entry.backend == named {
            return None;
        }
        let line = text.and_then(|text| line_of(text, &shard.primary.address()));
        let place = line.map_or_else(String::new, |line| format!("line {line}, "));
        let why = if entry.retired.contains(&named) {
            format!(
                "that server was retired when upgrade {} moved the shard",
                entry.term
            )
        } else {
            format!(
                "upgrade {} moved the shard, and data_dir/routes.json beats the file",
                entry.term
            )
        };
        Some(format!(
            "{place}pools[{}].shards[{}].primary names {named}; {why}: write {} there",
            pool.name, shard.name, entry.backend
        ))
    });
    said.collect()
}

/// The one line that names this address; `None` when there is none or more than one.
fn line_of(text: &str, address: &str) -> Option<usize> {
    let mut lines = text
        .lines()
        .enumerate()
        .filter(|(_, line)| names(line, address));
    let (at, _) = lines.next()?;
    lines.next().is_none().then_some(at + 1)
}

/// Whether a line names the address itself, not a longer one that begins with it.
fn names(line: &str, address: &str) -> bool {
    let line = line.split('#').next().unwrap_or_default();
    line.match_indices(address).any(|(at, found)| {
        !line[at + found.len()..].starts_with(|next: char| next.is_ascii_digit())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::overlay::Standing;

    #[test]
    fn the_overlay_beats_the_file_and_names_the_line() {
        let shard = Shard {
            name: "s1".into(),
            ring_name: "s1".into(),
            primary: "redis://127.0.0.1:6001".parse().unwrap(),
            weight: 1,
        };
        let listen = "127.0.0.1:0".parse().unwrap();
        let mut config = Config::embedded(listen, shard.primary);
        config.pools[0].name = "p".into();
        let entry = Entry {
            pool: "p".into(),
            shard: "s1".into(),
            epoch: 3,
            term: 7,
            backend: "redis://127.0.0.1:6002".into(),
            standing: Standing::Open,
            retired: Vec::new(),
        };
        let overlay = Overlay::default().with(entry, "redis://127.0.0.1:6001");
        let route = &build(&config, &overlay).unwrap().pools[0].shards[0];
        assert_eq!(
            (route.epoch, route.backend_url.as_str()),
            (3, "redis://127.0.0.1:6002")
        );
        let text = "pools:\n - redis://127.0.0.1:60011\n - redis://127.0.0.1:6001\n";
        assert_eq!(
            disagreements(&config, &overlay, Some(text)),
            [
                "line 3, pools[p].shards[s1].primary names redis://127.0.0.1:6001; that server was retired when upgrade 7 \
              moved the shard: write redis://127.0.0.1:6002 there"
            ]
        );
    }
}
