//! `understudy recover --from-servers`: without a journal, says what the servers are and what a person would type.
//!
//! It changes nothing. Two servers of one shard are told apart by role, history and offset.

use understudy_config::Config;

use crate::cutover::{Role, Standing};
use crate::effects::SERVES_STALE;
use crate::world::{self, Servers};

/// Looks at every shard's server, and at the given pairs `pool/shard=url` of a server that may have taken over. The lines
/// say what was found and which redis-cli lines would make one of them the only primary.
pub async fn recover_from_servers(
    config: &Config,
    others: &[(String, String, String)],
) -> Vec<String> {
    let servers = Servers::default();
    let mut lines: Vec<String> = others
        .iter()
        .filter(|(pool, shard, _)| !is_known(config, pool, shard))
        .map(|(pool, shard, _)| {
            format!(
                "{pool}/{shard}: the config has no such pool and shard; nothing was asked for it"
            )
        })
        .collect();
    for pool in &config.pools {
        for shard in &pool.shards {
            let tls = pool.backend_tls.as_ref();
            servers.know(&shard.primary.clone().with_tls(tls));
            let primary = shard.primary.to_string();
            let first = look(&servers, &primary, &mut lines, &pool.name, &shard.name).await;
            let wanted =
                |entry: &&(String, String, String)| entry.0 == pool.name && entry.1 == shard.name;
            if !others.iter().any(|entry| wanted(&entry)) {
                lines.extend(first.as_ref().and_then(|first| {
                    let replica = first.role.is_replica();
                    replica.then(|| {
                        format!(
                            "  it does not serve; name the server that may have taken over: {}/{}=redis://HOST:PORT",
                            pool.name, shard.name
                        )
                    })
                }));
            }
            for (_, _, url) in others.iter().filter(wanted) {
                let Ok(parsed) = url.parse() else {
                    lines.push(format!(
                        "{}/{}: '{url}' is not a server's url",
                        pool.name, shard.name
                    ));
                    continue;
                };
                let login = pool.login_at(shard, parsed).with_tls(tls);
                servers.know(&login);
                let other = login.to_string();
                let second = look(&servers, &other, &mut lines, &pool.name, &shard.name).await;
                match (&first, &second) {
                    (Some(first), Some(second)) => {
                        let proxies = format!("{} {}", pool.name, shard.name);
                        lines.extend(advice((&primary, first), (&other, second), &proxies));
                    }
                    (Some(here), None) => lines.push(alone((&primary, here), &other)),
                    (None, Some(here)) => lines.push(alone((&other, here), &primary)),
                    (None, None) => {}
                }
            }
        }
    }
    lines
}

fn is_known(config: &Config, pool: &str, shard: &str) -> bool {
    let mut pools = config.pools.iter().filter(|known| known.name == pool);
    pools.any(|pool| pool.shards.iter().any(|known| known.name == shard))
}

async fn look(
    servers: &Servers,
    url: &str,
    lines: &mut Vec<String>,
    pool: &str,
    shard: &str,
) -> Option<Standing> {
    match servers.observe(url).await {
        Ok(seen) => {
            let standing = world::standing(&seen);
            let role = match &standing.role {
                Role::Primary => "primary".to_owned(),
                Role::Replica {
                    host,
                    port,
                    link_up,
                } => {
                    format!(
                        "replica of {host}:{port}, link {}",
                        if *link_up { "up" } else { "down" }
                    )
                }
            };
            lines.push(format!(
                "{pool}/{shard}: {url} is a {role}; replid {} offset {} keys {}",
                standing.replid,
                standing.offset,
                seen.keys_total()
            ));
            if refuses_stale(servers, url).await {
                lines.push(format!(
                    "{pool}/{shard}: {url} refuses reads while its link is down; when it serves again: redis-cli -u {url} CONFIG SET \
                     {SERVES_STALE} yes"
                ));
            }
            Some(standing)
        }
        Err(error) => {
            lines.push(format!("{pool}/{shard}: {error}"));
            None
        }
    }
}

async fn refuses_stale(servers: &Servers, url: &str) -> bool {
    let Ok(mut server) = servers.hold(url).await else {
        return false;
    };
    let set = server.setting(SERVES_STALE).await;
    matches!(set, Ok(Some(value)) if value == "no")
}

/// Of two servers only one answers.
fn alone((url, standing): (&str, &Standing), silent: &str) -> String {
    match standing.role {
        Role::Primary => format!(
            "  {url} serves, if {silent} does not: see that it comes back as no primary before clients may reach it"
        ),
        Role::Replica { .. } => format!(
            "  {url} does not serve, and {silent} does not answer; only if that is off for good: redis-cli -u {url} REPLICAOF NO ONE"
        ),
    }
}

/// What a person would type. `proxies` is pool and shard, as PROXY verbs take them.
fn advice(first: (&str, &Standing), second: (&str, &Standing), proxies: &str) -> Vec<String> {
    let primary = |(url, _): (&str, &Standing)| format!("redis-cli -u {url} REPLICAOF NO ONE");
    let fence = |(url, _): (&str, &Standing)| format!("redis-cli -u {url} REPLICAOF 127.0.0.1 1");
    match (first.1.role.is_replica(), second.1.role.is_replica()) {
        (false, true) => vec![
            format!("  {} serves, as the config says", first.0),
            format!(
                "  on each proxy where PROXY GATE {proxies} is not open, with its epoch and term: redis-cli -p ADMIN-PORT PROXY RELEASE {proxies} EPOCH TERM"
            ),
        ],
        (true, false) => vec![format!(
            "  {} serves; set it as the shard's primary in the config",
            second.0
        )],
        (true, true) => {
            let best = if second.1.offset > first.1.offset {
                second
            } else {
                first
            };
            let one_history = first.1.replid == second.1.replid
                || first.1.replid == second.1.replid2
                || first.1.replid2 == second.1.replid;
            vec![
                match one_history {
                    true => "  nobody serves; the one that has applied most:".to_owned(),
                    false => {
                        "  nobody serves, and their histories differ, so offsets say little: look into both; the larger offset has:"
                            .to_owned()
                    }
                },
                format!("  {}", primary(best)),
            ]
        }
        (false, false) => {
            // The one that knows the other's history as its past was promoted later.
            let second_is_later =
                second.1.replid2 == first.1.replid || second.1.replid2 == first.1.replid2;
            let (loser, why) = if second_is_later {
                (first, "was left")
            } else {
                (second, "was not promoted")
            };
            vec![
                format!(
                    "  two primaries; {} {why}, if no client writes to it:",
                    loser.0
                ),
                format!("  {}", fence(loser)),
            ]
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recovery::fixture::{replica, standing};

    #[test]
    fn when_nobody_serves_the_one_with_most_is_named() {
        let (first, second) = (standing(replica(), 10), standing(replica(), 20));
        let lines = advice(("redis://a", &first), ("redis://b", &second), "p s1");
        assert_eq!(lines[1], "  redis-cli -u redis://b REPLICAOF NO ONE");
    }

    #[test]
    fn the_line_that_opens_held_proxies_names_pool_and_shard() {
        let (first, second) = (standing(Role::Primary, 10), standing(replica(), 10));
        let lines = advice(("redis://a", &first), ("redis://b", &second), "p s1");
        assert!(
            lines[1].ends_with("PROXY RELEASE p s1 EPOCH TERM"),
            "{lines:?}"
        );
    }

    #[test]
    fn a_replica_is_not_made_a_primary_while_the_other_may_live() {
        let line = alone(("redis://a", &standing(replica(), 10)), "redis://b");
        assert!(line.contains("only if that is off for good"), "{line}");
    }

    #[test]
    fn of_two_primaries_one_is_fenced() {
        let (first, second) = (standing(Role::Primary, 10), standing(Role::Primary, 20));
        let lines = advice(("redis://a", &first), ("redis://b", &second), "p s1");
        assert!(lines[1].contains("REPLICAOF 127.0.0.1 1"), "{lines:?}");
    }
}
