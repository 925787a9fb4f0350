//! Descriptors as Python has them: numbers.

use std::os::fd::{BorrowedFd, RawFd};

use nix::errno::Errno;

use crate::errors::Result;

/// Borrow a descriptor for one call. `EBADF` for a negative one, such as that of a closed socket.
pub(crate) fn borrow<'a>(fd: RawFd) -> Result<BorrowedFd<'a>> {
    if fd < 0 {
        return Err(Errno::EBADF.into());
    }
    // SAFETY: not negative, as checked above, and borrowed for system calls only, none of which closes it: of a
    // descriptor that is not open or of the wrong kind the kernel says so.
    #[expect(unsafe_code, reason = "system calls take a borrowed descriptor; Python has a number")]
    Ok(unsafe { BorrowedFd::borrow_raw(fd) })
}
