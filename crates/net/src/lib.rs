//! Sockets, dialing, TLS, a small Redis client and the admin server.
