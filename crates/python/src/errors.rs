//! From Rust errors to Python exceptions.

use nix::errno::Errno;
use pyo3::PyErr;
use pyo3::exceptions::{PyOSError, PyValueError};
use udpkit_capture::NotACapture;

/// An error on its way to Python. `?` makes it from the crates' own errors, which cannot know pyo3.
pub(crate) struct Error(PyErr);

pub(crate) type Result<T> = std::result::Result<T, Error>;

impl Error {
    pub(crate) fn value(message: String) -> Self {
        Self(PyValueError::new_err(message))
    }
}

impl From<Error> for PyErr {
    fn from(Error(error): Error) -> Self {
        error
    }
}

impl From<Errno> for Error {
    /// `OSError` with an errno: Python makes `PermissionError` and its like of it by itself.
    fn from(errno: Errno) -> Self {
        Self(PyOSError::new_err((errno as i32, errno.desc())))
    }
}

impl From<std::io::Error> for Error {
    /// The same for what the standard library has wrapped.
    fn from(error: std::io::Error) -> Self {
        match error.raw_os_error() {
            Some(errno) => Errno::from_raw(errno).into(),
            None => Self(error.into()),
        }
    }
}

impl From<NotACapture> for Error {
    fn from(error: NotACapture) -> Self {
        Self::value(error.to_string())
    }
}

impl From<udpkit_cgroup::Error> for Error {
    /// `OSError`: `PermissionError` without privilege, else what was tried and what the kernel said.
    fn from(error: udpkit_cgroup::Error) -> Self {
        use udpkit_cgroup::Error::{Permission, Refused};
        match &error {
            Permission(cause) | Refused { error: cause, .. } => {
                Self(PyOSError::new_err((cause.raw_os_error(), error.to_string())))
            }
            _ => Self(PyOSError::new_err(error.to_string())),
        }
    }
}

impl From<PyErr> for Error {
    fn from(error: PyErr) -> Self {
        Self(error)
    }
}
