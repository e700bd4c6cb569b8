//! The data plane: a pure worker core, the sockets around it, and the admin commands of the proxy.

pub mod route;
pub mod worker;
