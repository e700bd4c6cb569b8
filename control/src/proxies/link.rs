//! One proxy's admin endpoint, over one connection that is made again when it is lost.
//!
//! Every order to a gate is idempotent for its term, so an order whose answer was lost is asked again with the same term.

use std::sync::Arc;
use std::time::Duration;

use understudy_config::{BackendUrl, Scheme};
use understudy_net::{AdminServer, Client, ClientError, Endpoint, Value};

use super::reply::{GateCode, GateReport, Pools, Stats};

/// Longest wait for a connection to a proxy.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// Longest wait for an answer that needs no drain.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);

/// Why a proxy did not do what it was told.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum ProxyError {
    /// It said no.
    #[error("proxy {proxy}: {text}")]
    Refused {
        proxy: String,
        code: GateCode,
        text: String,
    },
    /// It cannot be reached, or did not answer in time; what it did is unknown.
    #[error("proxy {proxy}: {cause}")]
    Unreachable { proxy: String, cause: String },
    /// It answered something else than docs/gate.md says.
    #[error("proxy {proxy}: {cause}")]
    Nonsense { proxy: String, cause: String },
}

impl ProxyError {
    /// True when another attempt may go better.
    pub(crate) fn is_passing(&self) -> bool {
        match self {
            ProxyError::Refused { code, .. } => {
                matches!(code, GateCode::NotHeld | GateCode::NoLease)
            }
            ProxyError::Unreachable { .. } | ProxyError::Nonsense { .. } => false,
        }
    }
}

/// Where a proxy is asked.
#[derive(Clone)]
pub(crate) enum ProxyAddress {
    /// In this process: the same bytes, no port.
    Here(Arc<AdminServer>),
    /// Elsewhere.
    There(BackendUrl),
}

/// A proxy and the connection to it.
pub(crate) struct ProxyLink {
    name: String,
    address: ProxyAddress,
    client: Option<Client>,
}

impl ProxyLink {
    pub(crate) fn new(address: ProxyAddress) -> ProxyLink {
        let name = match &address {
            ProxyAddress::Here(_) => "in this process".to_owned(),
            ProxyAddress::There(url) => url.address(),
        };
        ProxyLink {
            name,
            address,
            client: None,
        }
    }

    async fn client(&mut self) -> Result<&mut Client, ClientError> {
        // A proxy that was restarted has ended it: that is no failure of what is asked next.
        let usable = self.client.take_if(|client| !client.has_ended());
        let client = match (usable, &self.address) {
            (Some(client), _) => client,
            (None, ProxyAddress::Here(server)) => server.in_memory(),
            (None, ProxyAddress::There(url)) => {
                Client::connect(&Endpoint::from(url), CONNECT_TIMEOUT).await?
            }
        };
        Ok(self.client.insert(client))
    }

    /// Asks once. Not cancel safe: a dropped call costs the connection, and the next call makes a new one.
    pub(crate) async fn ask(
        &mut self,
        words: &[String],
        timeout: Duration,
    ) -> Result<Value, ProxyError> {
        let proxy = self.name.clone();
        let unreachable = |error: ClientError| ProxyError::Unreachable {
            proxy: proxy.clone(),
            cause: error.to_string(),
        };
        if let ProxyAddress::There(url) = &self.address
            && url.scheme == Scheme::Redis
            && !url.is_loopback()
        {
            // The config is checked for it; a proxy that registered says where it is only now.
            return Err(ProxyError::Unreachable {
                proxy,
                cause: "it would be driven in clear text over a network: give it admin.tls"
                    .to_owned(),
            });
        }
        let client = self.client().await.map_err(unreachable)?;
        client.set_timeout(timeout);
        let mut command = vec!["PROXY".to_owned()];
        command.extend_from_slice(words);
        let answer = client.call(&command).await.map_err(unreachable)?;
        match answer.into_ok() {
            Ok(value) => Ok(value),
            Err(error) => Err(ProxyError::Refused {
                proxy: proxy.clone(),
                code: GateCode::of(&error.text),
                text: error.text,
            }),
        }
    }

    /// Sends an order to a gate and reads how the gate stands then.
    pub(crate) async fn order(
        &mut self,
        words: &[String],
        timeout: Duration,
    ) -> Result<GateReport, ProxyError> {
        let value = self.ask(words, timeout).await?;
        let proxy = self.name.clone();
        let nonsense = |cause: String| ProxyError::Nonsense {
            proxy: proxy.clone(),
            cause,
        };
        let items = value
            .as_slice()
            .ok_or_else(|| nonsense("the answer is not an array".to_owned()))?;
        let text = |value: &Value| value.as_str_lossy().unwrap_or_default();
        let fields: Vec<(String, String)> = items
            .chunks_exact(2)
            .map(|pair| (text(&pair[0]), text(&pair[1])))
            .collect();
        GateReport::read(&fields).map_err(nonsense)
    }

    async fn json<T: serde::de::DeserializeOwned>(
        &mut self,
        words: &[String],
    ) -> Result<T, ProxyError> {
        let value = self.ask(words, ANSWER_TIMEOUT).await?;
        let nonsense = |cause: String| ProxyError::Nonsense {
            proxy: self.name.clone(),
            cause,
        };
        let bytes = value
            .as_bytes()
            .ok_or_else(|| nonsense("the answer is not a string".to_owned()))?;
        serde_json::from_slice(bytes)
            .map_err(|error| nonsense(format!("the answer's JSON: {error}")))
    }

    /// What the proxy serves, and which process it is.
    pub(crate) async fn pools(&mut self) -> Result<Pools, ProxyError> {
        self.json(&["POOLS".to_owned(), "JSON".to_owned()]).await
    }

    /// How a shard was served lately.
    pub(crate) async fn stats(&mut self, pool: &str, shard: &str) -> Result<Stats, ProxyError> {
        self.json(&["STATS".to_owned(), pool.to_owned(), shard.to_owned()])
            .await
    }

    /// The scripts that clients used, oldest first.
    pub(crate) async fn scripts(&mut self, pool: &str) -> Result<Vec<Vec<u8>>, ProxyError> {
        let value = self
            .ask(&["SCRIPTS".to_owned(), pool.to_owned()], ANSWER_TIMEOUT)
            .await?;
        let items = value.into_vec().unwrap_or_default();
        Ok(items
            .into_iter()
            .filter_map(Value::into_bytes)
            .map(|bytes| bytes.to_vec())
            .collect())
    }
}
