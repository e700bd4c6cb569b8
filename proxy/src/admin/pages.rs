//! /metrics, /healthz and /readyz.

use std::pin::Pin;

use understudy_net::http::{Answer, Pages};

use crate::proxy::Inner;

impl Pages for Inner {
    fn page<'a>(
        &'a self,
        path: &'a str,
    ) -> Pin<Box<dyn Future<Output = Option<Answer>> + Send + 'a>> {
        Box::pin(async move {
            match path {
                "/metrics" => Some(match self.metrics.scrape(&self.crew).await {
                    Ok(body) => Answer::metrics(body),
                    Err(cause) => Answer::text("500 Internal Server Error", format!("{cause}\n")),
                }),
                "/healthz" => Some(Answer::text("200 OK", "ok\n")),
                "/readyz" => Some(Answer::readiness(&self.not_ready())),
                _ => None,
            }
        })
    }
}
