//! The text by which a server without a name of its own stands on the ring.

/// The port that twemproxy leaves out of a name, as libmemcached did.
const PORT_LEFT_OUT: u16 = 11211;

/// A server's name on the ring: its own, or `host:port`, or only `host` when the port is 11211.
#[must_use]
pub fn twemproxy_name(explicit: Option<&str>, host: &str, port: u16) -> String {
    match explicit {
        Some(name) => name.to_owned(),
        None if port == PORT_LEFT_OUT => host.to_owned(),
        None => format!("{host}:{port}"),
    }
}

/// The same for a server behind a unix socket: its own name, or the path **with a colon behind it**.
///
/// The colon is an accident of twemproxy (`conf_add_server` adds 1 for the colon before a port that is not there),
/// and it is hashed, so it is part of where keys live.
#[must_use]
pub fn twemproxy_socket_name(explicit: Option<&str>, path: &str) -> String {
    match explicit {
        Some(name) => name.to_owned(),
        None => format!("{path}:"),
    }
}

#[cfg(test)]
mod tests {
    use super::{twemproxy_name, twemproxy_socket_name};

    #[test]
    fn a_name_of_its_own_wins() {
        assert_eq!(twemproxy_name(Some("s1"), "10.0.0.1", 6379), "s1");
        assert_eq!(twemproxy_socket_name(Some("s1"), "/run/redis.sock"), "s1");
    }

    #[test]
    fn the_port_is_part_of_the_name_except_11211() {
        assert_eq!(twemproxy_name(None, "10.0.0.1", 6379), "10.0.0.1:6379");
        assert_eq!(twemproxy_name(None, "10.0.0.1", 11211), "10.0.0.1");
    }

    #[test]
    fn a_socket_keeps_the_colon_of_a_port_it_has_not() {
        assert_eq!(
            twemproxy_socket_name(None, "/run/redis.sock"),
            "/run/redis.sock:"
        );
    }
}
