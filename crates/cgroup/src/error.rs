//! Why there is no fix.

use std::io;

use aya::EbpfError;
use aya::maps::MapError;
use aya::programs::ProgramError;

/// asm-generic/errno-base.h
const EPERM: i32 = 1;

/// What the kernel said.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// `CAP_BPF` and `CAP_NET_ADMIN` are missing, or the kernel is locked down.
    #[error("{0}")]
    Permission(io::Error),
    /// What this kernel, or its configuration, does not have.
    #[error("{what}: {error}")]
    Refused {
        /// What was tried.
        what: String,
        /// The kernel's answer.
        error: io::Error,
    },
    /// A program or map that should be in the object is not.
    #[error("the BPF object is not the one that this was built for")]
    Object,
    /// Anything else that the loader says.
    #[error("{0}")]
    Loader(String),
}

impl Error {
    /// Sort by the number of the innermost error, if there is one; the verifier's log is not for a line.
    pub(crate) fn of(error: &(dyn std::error::Error + 'static), what: &str) -> Self {
        let mut cause = Some(error);
        while let Some(one) = cause {
            if let Some(number) = one.downcast_ref::<io::Error>().and_then(io::Error::raw_os_error) {
                let error = io::Error::from_raw_os_error(number);
                // Not EACCES: that is the verifier's, of a kernel that lacks something.
                return match number {
                    EPERM => Self::Permission(error),
                    _ => Self::Refused { what: what.to_owned(), error },
                };
            }
            cause = one.source();
        }
        Self::Loader(error.to_string())
    }
}

impl From<EbpfError> for Error {
    fn from(error: EbpfError) -> Self {
        Self::of(&error, "loading the BPF maps")
    }
}

impl From<ProgramError> for Error {
    fn from(error: ProgramError) -> Self {
        let what = match &error {
            ProgramError::LoadError { .. } => "loading the BPF programs",
            _ => "attaching the BPF programs",
        };
        Self::of(&error, what)
    }
}

impl From<MapError> for Error {
    fn from(error: MapError) -> Self {
        Self::of(&error, "writing the BPF maps")
    }
}
