//! The eBPF fix.

use std::os::fd::RawFd;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::UNIX_EPOCH;

use pyo3::prelude::*;
use udpkit_cgroup::Local;

use crate::descriptor::borrow;
use crate::errors::Result;

/// The programs that let others answer from the address that was asked.
#[pyclass(frozen, module = "udpkit._native")]
pub(crate) struct CgroupFix {
    fix: Mutex<Option<udpkit_cgroup::Fix>>,
    #[pyo3(get)]
    slot: u8,
    #[pyo3(get)]
    instance: u16,
    #[pyo3(get)]
    namespaces: bool,
}

impl CgroupFix {
    fn lock(&self) -> MutexGuard<'_, Option<udpkit_cgroup::Fix>> {
        self.fix.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[pymethods]
impl CgroupFix {
    #[new]
    #[pyo3(signature = (slot, instance, /, *, flows, namespaces=true))]
    fn new(py: Python<'_>, slot: u8, instance: u16, flows: u32, namespaces: bool) -> Result<Self> {
        let fix = py.detach(|| udpkit_cgroup::Fix::load(slot, instance, flows, namespaces))?;
        let namespaces = fix.namespaces();
        Ok(Self { fix: Mutex::new(Some(fix)), slot, instance, namespaces })
    }

    #[pyo3(signature = (cgroup, inode, /))]
    fn attach(&self, py: Python<'_>, cgroup: RawFd, inode: u64) -> Result<()> {
        let cgroup = borrow(cgroup)?;
        py.detach(|| match &mut *self.lock() {
            Some(fix) => Ok(fix.attach(cgroup, inode)?),
            None => Ok(()),
        })
    }

    #[pyo3(signature = (come, gone, /))]
    fn tell(&self, come: Vec<(Local, u32)>, gone: Vec<Local>) -> Result<()> {
        match &mut *self.lock() {
            Some(fix) => Ok(fix.tell(come, gone)?),
            None => Ok(()),
        }
    }

    #[pyo3(signature = (number, /))]
    fn mark(&self, number: u8) -> u32 {
        udpkit_cgroup::mark(self.slot, number)
    }

    fn is_to_leave(&self) -> Result<bool> {
        match &*self.lock() {
            Some(fix) => Ok(fix.is_to_leave()?),
            None => Ok(true),
        }
    }

    fn close(&self) {
        self.lock().take();
    }
}

/// A fix that is loaded.
#[pyclass(frozen, module = "udpkit._native")]
pub(crate) struct LoadedFix {
    loaded: udpkit_cgroup::Loaded,
}

#[pymethods]
impl LoadedFix {
    #[getter]
    fn slot(&self) -> u8 {
        self.loaded.slot
    }

    #[getter]
    fn instance(&self) -> u16 {
        self.loaded.instance
    }

    #[getter]
    fn cgroup(&self) -> u64 {
        self.loaded.cgroup
    }

    #[getter]
    fn owner(&self) -> u32 {
        self.loaded.owner
    }

    #[getter]
    fn map(&self) -> u32 {
        self.loaded.map
    }

    #[getter]
    fn flows(&self) -> u32 {
        self.loaded.flows
    }

    #[getter]
    fn since(&self) -> Option<f64> {
        let since = self.loaded.since?.duration_since(UNIX_EPOCH).ok()?;
        Some(since.as_secs_f64())
    }

    #[getter]
    fn counts(&self) -> (u64, u64, u64, u64, u64) {
        let counts = self.loaded.counts;
        (counts.corrected, counts.chosen, counts.unknown, counts.stale, counts.learned)
    }

    fn ask_to_leave(&self) -> Result<()> {
        Ok(self.loaded.ask_to_leave()?)
    }
}

/// Every fix of this kernel.
#[pyfunction]
pub(crate) fn loaded_fixes() -> Result<Vec<LoadedFix>> {
    Ok(udpkit_cgroup::loaded()?.into_iter().map(|loaded| LoadedFix { loaded }).collect())
}
