//! Why an operation on a server did not happen, or may have.

use understudy_net::{ClientError, Sent};

/// An operation that has no result.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// No connection, or it ended. `sent` says whether the server may have executed the operation.
    #[error("{server}: {cause}")]
    Connection {
        /// Which server.
        server: String,
        /// What happened.
        #[source]
        cause: ClientError,
    },
    /// The server answered with an error.
    #[error("{server} refuses {command}: {text}")]
    Refused {
        /// Which server.
        server: String,
        /// The command.
        command: String,
        /// The server's words.
        text: String,
    },
    /// The server answered, and not with what this command is answered with.
    #[error("{server} answers {command} with {what}")]
    Unexpected {
        /// Which server.
        server: String,
        /// The command.
        command: String,
        /// What came.
        what: String,
    },
    /// The command was accepted and the role read back is not the wanted one.
    #[error("{server} was told to be {wanted} and says it is {found}")]
    Role {
        /// Which server.
        server: String,
        /// The role it was told to take.
        wanted: &'static str,
        /// The role that was read back.
        found: String,
    },
}

impl ServerError {
    /// How much of the operation had reached the server's side of the connection when it failed.
    pub fn sent(&self) -> Sent {
        match self {
            ServerError::Connection { cause, .. } => cause.sent(),
            ServerError::Refused { .. }
            | ServerError::Unexpected { .. }
            | ServerError::Role { .. } => Sent::Fully,
        }
    }

    /// Whether the server said nothing: there was no connection, or it ended, or its time was over.
    pub fn is_silence(&self) -> bool {
        match self {
            ServerError::Connection { cause, .. } => is_silence(cause),
            ServerError::Refused { .. }
            | ServerError::Unexpected { .. }
            | ServerError::Role { .. } => false,
        }
    }

    /// Whether the server answered and left everything as it was.
    pub fn is_refusal(&self) -> bool {
        matches!(self, ServerError::Refused { .. })
    }

    /// The first word of a refusal: `NOPERM`, `READONLY`…
    pub fn code(&self) -> Option<&str> {
        match self {
            ServerError::Refused { text, .. } => text.split(' ').next(),
            _ => None,
        }
    }
}

/// Whether a call failed because nobody answered it.
pub(crate) fn is_silence(cause: &ClientError) -> bool {
    match cause {
        ClientError::Connect(_)
        | ClientError::Lost { .. }
        | ClientError::TimedOut { .. }
        | ClientError::UsedUp => true,
        ClientError::Refused(_) | ClientError::Protocol(_) => false,
    }
}
