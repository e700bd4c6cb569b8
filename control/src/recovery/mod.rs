//! After a crash: what is so, and which way.

mod decide;
mod from_servers;

pub(crate) use decide::{Found, Way, decide};
pub use from_servers::recover_from_servers;

/// Servers as the tests of this folder meet them.
#[cfg(test)]
mod fixture {
    use crate::cutover::{Role, Standing};

    pub(super) fn standing(role: Role, offset: u64) -> Standing {
        Standing {
            run_id: "r".into(),
            replid: "h".into(),
            replid2: "0".into(),
            second_offset: -1,
            offset,
            role,
            sync_full: 0,
            replica_errors: 0,
            loading: false,
            unsaved: false,
        }
    }

    pub(super) fn replica() -> Role {
        Role::Replica {
            host: "x".into(),
            port: 1,
            link_up: false,
        }
    }
}
