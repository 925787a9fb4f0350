//! Waiting until a socket can be read or written: ppoll(2).

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::Duration;

/// What to wait for. An error on the socket ends either wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// A datagram, or an error.
    Readable,
    /// Room in the send buffer.
    Writable,
}

/// How a wait has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Woken {
    /// The time was over.
    TooLate,
    /// The socket is ready, or has an error.
    Ready,
    /// Somebody has shut the socket down: nothing more will come than is there (shutdown(2)).
    ShutDown,
}

/// Wait, at most as long as given; `Duration::MAX` is for ever.
///
/// # Errors
/// `Interrupted` when a signal came.
pub fn wait(fd: BorrowedFd<'_>, readiness: Readiness, timeout: Duration) -> io::Result<Woken> {
    let events = match readiness {
        Readiness::Readable => libc::POLLIN | libc::POLLRDHUP,
        Readiness::Writable => libc::POLLOUT,
    };
    let mut poll = libc::pollfd { fd: fd.as_raw_fd(), events, revents: 0 };
    let timeout = libc::timespec {
        tv_sec: timeout.as_secs().try_into().unwrap_or(libc::time_t::MAX),
        tv_nsec: timeout.subsec_nanos().into(),
    };
    // SAFETY: one pollfd and a timespec that outlive the call; no signal mask.
    #[expect(unsafe_code, reason = "a system call")]
    let ready = unsafe { libc::ppoll(&raw mut poll, 1, &raw const timeout, std::ptr::null()) };
    match ready {
        ..0 => Err(io::Error::last_os_error()),
        0 => Ok(Woken::TooLate),
        _ if poll.revents & (libc::POLLRDHUP | libc::POLLHUP) != 0 => Ok(Woken::ShutDown),
        _ => Ok(Woken::Ready),
    }
}
