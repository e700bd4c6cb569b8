//! Asks every shard's backend for a PING now and then, so that readiness and PROXY BACKENDS know how they are before a
//! client does. One connection for each shard, kept between rounds.

use std::collections::HashMap;
use std::time::Duration;

use tokio::task::JoinSet;
use understudy_net::{Client, Greeting, Value};

use crate::backends::HealthState;
use crate::shared::Known;

/// Between two rounds. Default: 1 s.
const ROUND: Duration = Duration::from_secs(1);
/// Longest wait for a PONG, for a server that is connected. Default: 2 s.
const PONG_MAX: Duration = Duration::from_secs(2);

/// One shard's backend, as a route names it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Target {
    pool: String,
    shard: String,
    url: String,
}

/// Probes until its task is aborted.
pub(crate) async fn run(known: Known) {
    let mut clients: HashMap<Target, Client> = HashMap::new();
    loop {
        let targets = targets(&known);
        known
            .backends
            .keep_only(|url| targets.iter().any(|target| target.url == url));
        let mut round = JoinSet::new();
        for target in targets {
            let client = clients.remove(&target);
            round.spawn(probe(Known::clone(&known), target, client));
        }
        // What is left belongs to routes that are gone.
        clients.clear();
        while let Some(probed) = round.join_next().await {
            if let Ok((target, Some(client))) = probed {
                clients.insert(target, client);
            }
        }
        tokio::time::sleep(ROUND).await;
    }
}

fn targets(known: &Known) -> Vec<Target> {
    let routes = known.routes.load();
    let shards = routes
        .pools
        .iter()
        .flat_map(|pool| pool.shards.iter().map(move |shard| (pool, shard)));
    let targets = shards.map(|(pool, shard)| Target {
        pool: pool.name.clone(),
        shard: shard.name.clone(),
        url: shard.backend_url.clone(),
    });
    targets.collect()
}

async fn probe(known: Known, target: Target, client: Option<Client>) -> (Target, Option<Client>) {
    let Target { pool, shard, url } = &target;
    let (state, client) = match ping(&known, &target, client).await {
        Ok(client) => (HealthState::Up, Some(client)),
        Err(why) => (HealthState::Down(why), None),
    };
    known.backends.seen(pool, shard, url, state);
    (target, client)
}

/// The connection, after it answered; or why it did not.
async fn ping(known: &Known, target: &Target, client: Option<Client>) -> Result<Client, String> {
    let mut client = match client {
        Some(client) => client,
        None => {
            let access = known
                .backends
                .access(&target.pool, &target.shard, &target.url)?;
            let greeting = Greeting {
                name: Some(known.backends.client_name().to_owned()),
                ..Greeting::default()
            };
            let connected =
                Client::connect_as(&access.endpoint, &greeting, access.connect_timeout).await;
            connected.map_err(|cause| cause.to_string())?
        }
    };
    client.set_timeout(PONG_MAX);
    match client.call(&["PING"]).await {
        Ok(Value::Error(text)) => Err(text),
        Ok(_) => Ok(client),
        Err(cause) => Err(cause.to_string()),
    }
}
