//! Makes expiries absolute on a source of 6.2 or older.
//!
//! Such a source replicates `EXPIRE k 50` as it stands, so the key lives longer on the target by as long as the command
//! waited. `PEXPIREAT` with the source's own expiry changes nothing there and arrives as a time on the target.

use std::time::Duration;

use understudy_config::BackendUrl;
use understudy_net::Value;

use super::judge::Kind;
use super::outcome::{Difference, VerifyError};
use super::read::{Side, millis};

/// Repairs what differs in nothing but its expiry, and says how many keys it repaired. A key that a client changes at the
/// same moment is left alone.
pub async fn repair_ttls(
    source: &BackendUrl,
    differences: &[Difference],
    timeout: Duration,
) -> Result<u64, VerifyError> {
    let mut side = Side::connect(source, timeout).await?;
    let mut repaired = 0;
    for difference in differences
        .iter()
        .filter(|difference| difference.kind == Kind::Ttl)
    {
        side.select(difference.key.db).await?;
        repaired += u64::from(repair(&mut side, &difference.key.key).await?);
    }
    Ok(repaired)
}

async fn repair(side: &mut Side, key: &[u8]) -> Result<bool, VerifyError> {
    const WHAT: &str = "to make an expiry absolute";
    let watched: [&[&[u8]]; 3] = [&[b"WATCH", key], &[b"TIME"], &[b"PTTL", key]];
    let mut answers = Vec::new();
    for answer in side.pipeline(WHAT, &watched).await? {
        answers.push(side.accepted(WHAT, answer)?);
    }
    let (now_ms, ttl_ms) = (
        answers.get(1).and_then(millis),
        answers.get(2).and_then(Value::as_i64),
    );
    let (Some(now_ms), Some(ttl_ms)) = (now_ms, ttl_ms) else {
        return Err(side.nonsense(WHAT));
    };
    if ttl_ms < 0 {
        side.ask(WHAT, &["UNWATCH"]).await?;
        return Ok(false);
    }
    let expiry_ms = now_ms.saturating_add(ttl_ms).to_string();
    let change: [&[&[u8]]; 3] = [
        &[b"MULTI"],
        &[b"PEXPIREAT", key, expiry_ms.as_bytes()],
        &[b"EXEC"],
    ];
    let executed = side
        .pipeline(WHAT, &change)
        .await?
        .pop()
        .unwrap_or(Value::Null);
    // Null: somebody touched the key since WATCH.
    let executed = side.accepted(WHAT, executed)?;
    Ok(executed
        .as_slice()
        .is_some_and(|answers| answers.first().and_then(Value::as_i64) == Some(1)))
}
