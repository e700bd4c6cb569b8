//! One line of `servers:`, read from its end as twemproxy reads it: `host:port:weight [name]` or `/path.sock:weight [name]`.

use understudy_ring::twemproxy_socket_name;

use crate::backend_url::BackendUrl;
use crate::section::Wrong;

/// The port that is not part of an unnamed server's place on the ring.
const PORT_LEFT_OUT: u16 = 11211;

#[derive(Debug)]
pub(super) struct Server {
    /// The text that its points on the ring are made of.
    pub(super) ring_name: String,
    pub(super) weight: u32,
    pub(super) address: BackendUrl,
}

impl Server {
    pub(super) fn parse(text: &str) -> Result<Self, Wrong> {
        let wrong = |what: String| {
            Wrong::new(
                what,
                "write host:port:weight or /path.sock:weight, and a name behind a space if it has one",
            )
        };
        let (endpoint, name) = match text.rsplit_once(' ') {
            Some((endpoint, name)) => (endpoint, Some(name)),
            None => (text, None),
        };
        let (endpoint, weight) = endpoint
            .rsplit_once(':')
            .ok_or_else(|| wrong(format!("'{text}' has no weight")))?;
        let weight = number(weight)
            .filter(|&weight| weight > 0)
            .ok_or_else(|| wrong(format!("'{weight}' is not a weight")))?;
        if endpoint.starts_with('/') {
            if endpoint.contains(':') {
                return Err(wrong(format!("the path '{endpoint}' has a colon")));
            }
            let ring_name = twemproxy_socket_name(name, endpoint);
            return Ok(Self {
                ring_name,
                weight,
                address: BackendUrl::unix(endpoint),
            });
        }
        let (host, port) = endpoint
            .rsplit_once(':')
            .ok_or_else(|| wrong(format!("'{text}' has no port or no weight")))?;
        let port_number = number(port)
            .and_then(|port| u16::try_from(port).ok())
            .filter(|&port| port > 0);
        let port_number = port_number.ok_or_else(|| wrong(format!("'{port}' is not a port")))?;
        if host.is_empty() {
            return Err(wrong(format!("'{text}' has no host")));
        }
        // As `twemproxy_name`, but from the text: a port written 06379 stands on the ring with its zero.
        let ring_name = match name {
            Some(name) => name.to_owned(),
            None if port_number == PORT_LEFT_OUT => host.to_owned(),
            None => endpoint.to_owned(),
        };
        Ok(Self {
            ring_name,
            weight,
            address: BackendUrl::tcp(host, port_number),
        })
    }
}

/// Digits only, up to twemproxy's int.
fn number(text: &str) -> Option<u32> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits
        .then(|| text.parse().ok())
        .flatten()
        .filter(|&number| number <= i32::MAX as u32)
}

#[cfg(test)]
mod tests {
    use super::Server;

    #[track_caller]
    fn check(text: &str, expect: &str) {
        match Server::parse(text) {
            Ok(server) => assert_eq!(
                format!("{} {} {}", server.address, server.weight, server.ring_name),
                expect
            ),
            Err(wrong) => assert_eq!(wrong.what, expect),
        }
    }

    #[test]
    fn servers_stand_on_the_ring_as_in_twemproxy() {
        check(
            "127.0.0.1:6379:1",
            "redis://127.0.0.1:6379 1 127.0.0.1:6379",
        );
        check("127.0.0.1:6379:3 alpha", "redis://127.0.0.1:6379 3 alpha");
        check("127.0.0.1:11211:1", "redis://127.0.0.1:11211 1 127.0.0.1");
        check("127.0.0.1:11211:1 alpha", "redis://127.0.0.1:11211 1 alpha");
        check("cache:06379:1", "redis://cache:6379 1 cache:06379");
        check("::1:6379:1", "redis://[::1]:6379 1 ::1:6379");
        check("/run/a.sock:1", "unix:///run/a.sock 1 /run/a.sock:");
        check("/run/a.sock:2 alpha", "unix:///run/a.sock 2 alpha");
    }

    #[test]
    fn what_twemproxy_refuses_is_refused() {
        check("127.0.0.1", "'127.0.0.1' has no weight");
        check(
            "127.0.0.1:6379",
            "'127.0.0.1:6379' has no port or no weight",
        );
        check("127.0.0.1:6379:0", "'0' is not a weight");
        check("127.0.0.1:6379:-1", "'-1' is not a weight");
        check("127.0.0.1:6379:1  alpha", "'1 ' is not a weight");
        check("127.0.0.1:0:1", "'0' is not a port");
        check("127.0.0.1:70000:1", "'70000' is not a port");
        check(":6379:1", "':6379:1' has no host");
        check("/run/a.sock", "'/run/a.sock' has no weight");
        check("/run/a:b.sock:1", "the path '/run/a:b.sock' has a colon");
    }
}
