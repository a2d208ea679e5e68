use std::{io, net::SocketAddr, path::PathBuf};

use control::{foreground::NoSignals, toml_file::FileError};

use crate::{StartError, Unsupported};

/// Why an LB ended, or did not begin.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// A file is wrong.
    #[error(transparent)]
    File(#[from] FileError),
    /// A file asks for what there is not.
    #[error("{}: {problem}", file.display())]
    Unsupported {
        /// The fleet file.
        file: PathBuf,
        /// What it asks for.
        problem: Unsupported,
    },
    /// The configured addresses cannot be used.
    #[error("{}: {problem}", file.display())]
    Start {
        /// The configuration file.
        file: PathBuf,
        /// What went wrong.
        problem: StartError,
    },
    /// The admin address cannot be used.
    #[error("{}: admin.listen: {address} cannot be used: {source}", file.display())]
    Admin {
        /// The configuration file.
        file: PathBuf,
        /// The address.
        address: SocketAddr,
        /// The system's reason.
        source: io::Error,
    },
    /// Signals cannot be listened for.
    #[error(transparent)]
    Signals(#[from] NoSignals),
    /// Something failed while running.
    #[error("{0}")]
    Running(&'static str),
}

impl ServiceError {
    /// Whether the configuration is at fault, rather than something that happened later.
    #[must_use]
    pub const fn is_configuration(&self) -> bool {
        match self {
            Self::Running(_)
            | Self::Signals(_)
            | Self::Start { problem: StartError::Worker(_), .. } => false,
            Self::File(_) | Self::Unsupported { .. } | Self::Start { .. } | Self::Admin { .. } => {
                true
            }
        }
    }
}
