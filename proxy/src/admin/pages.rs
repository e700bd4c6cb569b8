//! /metrics, /healthz and /readyz.

use std::pin::Pin;

use crate::http::{Answer, Pages};
use crate::proxy::Inner;

impl Pages for Inner {
    fn page<'a>(
        &'a self,
        path: &'a str,
    ) -> Pin<Box<dyn Future<Output = Option<Answer>> + Send + 'a>> {
        Box::pin(async move {
            match path {
                "/metrics" => Some(match self.metrics.scrape(&self.crew).await {
                    Ok(body) => Answer {
                        status: "200 OK",
                        content_type: "text/plain; version=0.0.4",
                        body,
                    },
                    Err(cause) => Answer::text("500 Internal Server Error", format!("{cause}\n")),
                }),
                "/healthz" => Some(Answer::text("200 OK", "ok\n")),
                "/readyz" => Some(match self.not_ready() {
                    missing if missing.is_empty() => Answer::text("200 OK", "ready\n"),
                    missing => Answer::text("503 Service Unavailable", missing.join("\n") + "\n"),
                }),
                _ => None,
            }
        })
    }
}
