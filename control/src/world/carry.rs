//! What is not data and is carried over all the same: allow-listed settings, ACL users, scripts. What is not carried is
//! named, for the report. A connection that breaks in the middle is an error, never "not carried": all of it may be repeated.
//!
//! Functions come with the replication. `maxmemory-policy` is applied when the shard is finalized, and
//! `min-replicas-to-write` never: a new primary without replicas would refuse its first write.

use understudy_config::BackendUrl;
use understudy_net::Value;

use super::{Held, ServerFailure};
use crate::server::rules_needed;

/// Settings that mean the same on every measured server and change what clients see.
const CARRIED: [&str; 12] = [
    "notify-keyspace-events",
    "timeout",
    "tcp-keepalive",
    "slowlog-log-slower-than",
    "slowlog-max-len",
    "latency-monitor-threshold",
    "lua-time-limit",
    "lazyfree-lazy-user-del",
    "lazyfree-lazy-expire",
    "proto-max-bulk-len",
    "client-query-buffer-limit",
    "acl-pubsub-default",
];

/// Settings that a person should look at when they differ.
const NAMED: [&str; 10] = [
    "maxmemory",
    "maxmemory-policy",
    "maxclients",
    "databases",
    "appendonly",
    "appendfsync",
    "save",
    "min-replicas-to-write",
    "requirepass",
    "client-output-buffer-limit",
];

/// Most users that are carried over; more are refused.
const USERS_MAX: usize = 1_000;

/// Carries the allow-list over, and names what else differs.
pub(crate) async fn carry_settings(
    source: &mut Held,
    target: &mut Held,
) -> Result<Vec<String>, ServerFailure> {
    let mut said = Vec::new();
    for name in CARRIED {
        let (Some(theirs), ours) = (source.setting(name).await?, target.setting(name).await?)
        else {
            continue;
        };
        if ours.as_ref() == Some(&theirs) {
            continue;
        }
        match (ours, target.set(name, &theirs).await) {
            (Some(_), Ok(())) => said.push(format!("setting {name} was carried over")),
            (_, Err(error)) if error.silent => return Err(error),
            (None, _) => said.push(format!("setting {name} is unknown to the target")),
            (Some(_), Err(error)) => said.push(format!(
                "setting {name} was not carried over: {}",
                error.cause
            )),
        }
    }
    for name in NAMED {
        let (theirs, ours) = (source.setting(name).await?, target.setting(name).await?);
        if theirs != ours {
            said.push(format!("setting {name} differs and was not carried over"));
        }
    }
    Ok(said)
}

/// Carries the ACL users over but `default`, whose password the servers' own files decide.
///
/// Our login at the target is carried over only where it is our login at the source too, by the same password: otherwise it is
/// somebody else, or nobody could log in any more. It keeps what it needs there: an older source cannot grant all of it.
pub(crate) async fn carry_users(
    source: &mut Held,
    target: &mut Held,
) -> Result<Vec<String>, ServerFailure> {
    let lines = |value: Value| -> Vec<String> {
        value
            .into_vec()
            .unwrap_or_default()
            .iter()
            .filter_map(Value::as_str_lossy)
            .collect()
    };
    let (theirs, ours) = match (
        source.raw(&[b"ACL", b"LIST"]).await,
        target.raw(&[b"ACL", b"LIST"]).await,
    ) {
        (Ok(theirs), Ok(ours)) => (lines(theirs), lines(ours)),
        (Err(error), _) | (_, Err(error)) if error.silent => return Err(error),
        (Err(error), _) | (_, Err(error)) => {
            return Ok(vec![format!(
                "ACL users were not carried over: {}",
                error.cause
            )]);
        }
    };
    // Before 7.0 there is nothing that an older source cannot grant; and 6.2 takes no rule about a word of a command that it
    // allows as a whole.
    let needed = match target.observe().await?.version.major {
        major @ 7.. => rules_needed(major),
        _ => Vec::new(),
    };
    let mut said = Vec::new();
    // Ours last: it may not grant what carrying the others takes.
    let own = format!("user {} ", target.login().user());
    let (ours_there, others): (Vec<_>, Vec<_>) =
        (theirs.iter().take(USERS_MAX)).partition(|line| line.starts_with(&own));
    for line in others.into_iter().chain(ours_there) {
        let words: Vec<&str> = line.split(' ').collect();
        let ["user", name, rules @ ..] = words.as_slice() else {
            continue;
        };
        if *name == "default" {
            if !ours.iter().any(|ours| same_rules(ours, line)) {
                said.push("ACL user default differs and was not carried over".to_owned());
            }
            continue;
        }
        let mut command: Vec<&[u8]> = vec![b"ACL", b"SETUSER", name.as_bytes(), b"reset"];
        command.extend(rules.iter().map(|rule| rule.as_bytes()));
        if *name == target.login().user() {
            if !same_login(source.login(), target.login()) {
                said.push(format!(
                    "ACL user {name} is our login at the target and not the same at the source, and was not carried over"
                ));
                continue;
            }
            command.extend(needed.iter().map(String::as_bytes));
        }
        match target.raw(&command).await {
            Ok(_) => said.push(format!("ACL user {name} was carried over")),
            Err(error) if error.silent => return Err(error),
            // The server repeats the rule that it does not take, and a rule may be the hash of a password.
            Err(_) => said.push(format!(
                "ACL user {name} was not carried over: the target does not take its rules"
            )),
        }
    }
    if theirs.len() > USERS_MAX {
        said.push(format!(
            "ACL users beyond {USERS_MAX} were not carried over"
        ));
    }
    Ok(said)
}

/// Loads scripts, so that EVALSHA finds them. One that a server does not take is named by its length, never by its text.
pub(crate) async fn carry_scripts(
    server: &mut Held,
    scripts: &[Vec<u8>],
) -> Result<Vec<String>, ServerFailure> {
    let mut refused = 0_usize;
    for script in scripts {
        match server.raw(&[b"SCRIPT", b"LOAD", script]).await {
            Ok(_) => {}
            Err(error) if error.silent => return Err(error),
            Err(_) => refused += 1,
        }
    }
    match refused {
        0 => Ok(Vec::new()),
        refused => Ok(vec![format!(
            "{refused} of {} scripts were not accepted",
            scripts.len()
        )]),
    }
}

fn same_login(one: &BackendUrl, other: &BackendUrl) -> bool {
    let password = |login: &BackendUrl| login.password.as_ref().map(|it| it.expose().to_owned());
    one.user() == other.user() && password(one) == password(other)
}

/// Whether two lines of ACL LIST say the same. Redis 8.2.3 and Valkey 8.1.8 name `sanitize-payload`, which every user has who
/// does not have `skip-sanitize-payload`; Redis 6.2.14 and 7.0.15 and Valkey 9.1.2 leave it out.
fn same_rules(one: &str, other: &str) -> bool {
    let told = |rule: &&str| *rule != "sanitize-payload";
    one.split(' ')
        .filter(told)
        .eq(other.split(' ').filter(told))
}

#[cfg(test)]
mod tests {
    use super::same_rules;

    #[test]
    fn what_only_one_version_names_is_no_difference() {
        let old = "user default on nopass ~* &* +@all";
        assert!(same_rules(
            old,
            "user default on nopass sanitize-payload ~* &* +@all"
        ));
        assert!(!same_rules(
            old,
            "user default on nopass skip-sanitize-payload ~* &* +@all"
        ));
        assert!(!same_rules(old, "user default on nopass ~* &* -@all"));
    }
}
