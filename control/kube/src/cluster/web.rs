//! Requests to a backup system's own API. Clear text goes to loopback only: a token travels in it.

use std::io::BufReader;
use std::sync::Arc;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde_json::Value;

use super::live::with_causes;
use super::{CallError, CallKind, HttpAnswer, HttpRequest};

/// Longest answer. Default: 4 MiB; a longer one is refused.
const ANSWER_MAX: usize = 4 << 20;

/// An HTTP client.
#[derive(Debug, Default)]
pub(super) struct Web;

impl Web {
    pub(super) async fn ask(&self, request: &HttpRequest) -> Result<HttpAnswer, CallError> {
        match tokio::time::timeout(request.timeout, self.send(request)).await {
            Ok(answer) => answer,
            Err(_) => {
                let text = format!("no answer within {} ms", request.timeout.as_millis());
                Err(CallError::new(CallKind::Unreachable, text))
            }
        }
    }

    async fn send(&self, request: &HttpRequest) -> Result<HttpAnswer, CallError> {
        let refused = |text: String| CallError::new(CallKind::Refused, text);
        let url: hyper::Uri = request
            .url
            .parse()
            .map_err(|cause| refused(format!("{cause}")))?;
        let host = url.host().unwrap_or_default().trim_matches(['[', ']']);
        let is_local = host == "localhost"
            || host
                .parse::<std::net::IpAddr>()
                .is_ok_and(|it| it.is_loopback());
        if url.scheme_str() != Some("https") && !is_local {
            return Err(refused(format!(
                "{}: only https may carry a token; write https://",
                request.url
            )));
        }
        let connector = hyper_rustls::HttpsConnectorBuilder::new()
            .with_tls_config(tls(request.authorities.as_deref()).map_err(refused)?)
            .https_or_http()
            .enable_http1()
            .build();
        let client: Client<_, Full<Bytes>> = Client::builder(TokioExecutor::new()).build(connector);
        let mut built = hyper::Request::builder()
            .method(request.method.as_str())
            .uri(url);
        built = built.header("accept", "application/json");
        for (name, value) in &request.headers {
            built = built.header(name, value);
        }
        let body = match &request.body {
            Some(body) => {
                built = built.header("content-type", "application/json");
                Full::from(body.to_string())
            }
            None => Full::default(),
        };
        let built = built
            .body(body)
            .map_err(|cause| refused(cause.to_string()))?;
        let answer = client.request(built).await.map_err(|cause| {
            // Nothing was sent: it may be sent again.
            let kind = if cause.is_connect() {
                CallKind::Busy
            } else {
                CallKind::Unreachable
            };
            CallError::new(kind, with_causes(&cause))
        })?;
        let status = answer.status().as_u16();
        let body = Limited::new(answer.into_body(), ANSWER_MAX).collect().await;
        let body =
            body.map_err(|cause| CallError::new(CallKind::Unreachable, cause.to_string()))?;
        let body: Value = serde_json::from_slice(&body.to_bytes()).unwrap_or_default();
        Ok(HttpAnswer { status, body })
    }
}

/// The system's authorities, and those that the Secret names.
fn tls(authorities: Option<&str>) -> Result<rustls::ClientConfig, String> {
    let mut roots = rustls::RootCertStore::empty();
    let mut add = |certificate: CertificateDer<'static>| {
        roots.add(certificate).map_err(|cause| cause.to_string())
    };
    for certificate in rustls_native_certs::load_native_certs().certs {
        let _ = add(certificate); // One that rustls does not take is one fewer to trust.
    }
    if let Some(pem) = authorities {
        for certificate in CertificateDer::pem_reader_iter(BufReader::new(pem.as_bytes())) {
            let certificate =
                certificate.map_err(|cause| format!("ca.crt of the Secret: {cause}"))?;
            add(certificate)?;
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|cause| cause.to_string())?;
    Ok(config.with_root_certificates(roots).with_no_client_auth())
}
