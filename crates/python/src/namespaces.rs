//! Namespaces of the calling thread. Python has these functions itself from 3.12 on.

use std::os::fd::RawFd;

use nix::sched::{self, CloneFlags};
use pyo3::prelude::*;

use crate::descriptor::borrow;
use crate::errors::{Error, Result};

/// What is accepted. Not `CLONE_FILES` and its like: a thread with its own descriptor table breaks what
/// Python and Rust believe about descriptors.
const NAMESPACES: CloneFlags = CloneFlags::CLONE_NEWCGROUP
    .union(CloneFlags::CLONE_NEWIPC)
    .union(CloneFlags::CLONE_NEWNET)
    .union(CloneFlags::CLONE_NEWNS)
    .union(CloneFlags::CLONE_NEWPID)
    .union(CloneFlags::CLONE_NEWUSER)
    .union(CloneFlags::CLONE_NEWUTS);

/// Move the calling thread into new namespaces: unshare(2).
#[pyfunction]
#[pyo3(signature = (flags, /))]
pub(crate) fn unshare(py: Python<'_>, flags: i64) -> Result<()> {
    let flags = namespaces(flags)?;
    // A new network namespace takes the kernel milliseconds.
    py.detach(|| sched::unshare(flags))?;
    Ok(())
}

/// Move the calling thread into the namespace that a descriptor refers to: setns(2).
#[pyfunction]
#[pyo3(signature = (fd, flags, /))]
pub(crate) fn setns(py: Python<'_>, fd: RawFd, flags: i64) -> Result<()> {
    let flags = namespaces(flags)?;
    let fd = borrow(fd)?;
    py.detach(|| sched::setns(fd, flags))?;
    Ok(())
}

fn namespaces(flags: i64) -> Result<CloneFlags> {
    i32::try_from(flags)
        .ok()
        .and_then(CloneFlags::from_bits)
        .filter(|&known| NAMESPACES.contains(known))
        .ok_or_else(|| Error::value(format!("flags {flags:#x} are not all namespaces (CLONE_NEW*)")))
}
