use std::{io, process::ExitCode};

use ::demo::DemoError;
use control::{client::ClientError, toml_file::FileError};

/// What a command can end with, each as one sentence.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("{0}")]
    Usage(String),
    #[error("which file? Name it with --config FILE")]
    MissingConfig,
    #[error(transparent)]
    File(#[from] FileError),
    #[error(transparent)]
    Lb(#[from] lb::service::ServiceError),
    #[error(transparent)]
    Sfu(#[from] sfu::service::ServiceError),
    #[error(transparent)]
    Control(#[from] control::service::ServiceError),
    #[error(transparent)]
    DemoFailed(#[from] DemoError),
    #[error("{0}")]
    NotOurs(String),
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error("{0}")]
    NotDone(String),
    #[error("no random bytes from the system: {0}")]
    NoRandom(getrandom::Error),
    #[error("the runtime cannot be started: {0}")]
    Runtime(io::Error),
}

impl Error {
    /// 1: failed while running. 2: bad usage or configuration.
    pub(crate) fn exit_code(&self) -> ExitCode {
        let configuration = match self {
            Self::Usage(_) | Self::MissingConfig | Self::File(_) => true,
            Self::Lb(error) => error.is_configuration(),
            Self::Sfu(error) => error.is_configuration(),
            Self::Control(error) => error.is_configuration(),
            // It starts on addresses that the command line names.
            Self::DemoFailed(DemoError::System(_)) => true,
            Self::DemoFailed(_)
            | Self::NotOurs(_)
            | Self::Client(_)
            | Self::NotDone(_)
            | Self::NoRandom(_)
            | Self::Runtime(_) => false,
        };
        ExitCode::from(if configuration { 2 } else { 1 })
    }
}
