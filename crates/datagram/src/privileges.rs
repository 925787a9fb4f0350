//! Giving privileges up: capabilities(7), and the clock that goes with the tracepoints.

use std::io;

/// `_LINUX_CAPABILITY_VERSION_3`: two words of 32 capabilities.
const VERSION: u32 = 0x2008_0522;

#[repr(C)]
struct Header {
    version: u32,
    pid: i32,
}

#[repr(C)]
#[derive(Clone, Copy)]
struct Word {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// Keep of the calling thread's capabilities only these, by their bits, and those only if it has them; threads
/// that it starts from then on have no more. `user`: become this user first, in all threads.
///
/// # Errors
/// Those of capset(2) and setresuid(2).
pub fn give_up(kept: u64, user: Option<u32>) -> io::Result<()> {
    let check = |status: libc::c_int| {
        if status < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    };
    if let Some(uid) = user {
        // SAFETY: calls without pointers.
        #[expect(unsafe_code, reason = "system calls")]
        unsafe {
            check(libc::prctl(libc::PR_SET_KEEPCAPS, 1, 0, 0, 0))?;
            check(libc::setresuid(uid, uid, uid))?;
        }
    }
    let header = Header { version: VERSION, pid: 0 };
    let mut words = [Word { effective: 0, permitted: 0, inheritable: 0 }; 2];
    // SAFETY: a header and two words, as version 3 has them, that outlive the call.
    #[expect(unsafe_code, reason = "a system call")]
    let status = unsafe { libc::syscall(libc::SYS_capget, &raw const header, words.as_mut_ptr()) };
    check(i32::try_from(status).unwrap_or(-1))?;
    for (word, shift) in words.iter_mut().zip([0, 32]) {
        let kept = u32::try_from(kept >> shift & u64::from(u32::MAX)).unwrap_or(0) & word.permitted;
        *word = Word { effective: kept, permitted: kept, inheritable: 0 };
    }
    // SAFETY: as above.
    #[expect(unsafe_code, reason = "a system call")]
    let status = unsafe { libc::syscall(libc::SYS_capset, &raw const header, words.as_ptr()) };
    check(i32::try_from(status).unwrap_or(-1))
}

/// `CLOCK_MONOTONIC` in nanoseconds, the clock of [`crate::KernelEvent::monotonic_ns`].
#[must_use]
pub fn monotonic_ns() -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the structure outlives the call, which cannot fail with this clock.
    #[expect(unsafe_code, reason = "a system call")]
    unsafe {
        libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut now);
    }
    u64::try_from(now.tv_sec).unwrap_or(0) * 1_000_000_000 + u64::try_from(now.tv_nsec).unwrap_or(0)
}
