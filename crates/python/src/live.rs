//! Live evidence, and giving up the privileges that it took to open it.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use pyo3::prelude::*;
use udpkit_datagram::Drops;
use udpkit_live::{Ends, State};

use crate::conversations::Facts;
use crate::errors::Result;

/// How live evidence is doing.
#[pyclass(frozen, get_all, module = "udpkit._native")]
pub(crate) struct LiveTally {
    conversations: usize,
    renewed: u64,
    packets: u64,
    lost: u64,
    drops: u64,
    drops_lost: u64,
    errors_sent: u64,
    written: u64,
    write_failure: Option<String>,
    failure: Option<String>,
    interfaces: Vec<(u32, u64, u64, u64)>,
}

impl LiveTally {
    fn of(state: &State) -> Self {
        let (written, write_failure) = state.written().unwrap_or_default();
        Self {
            conversations: state.book.len(),
            renewed: state.renewed,
            packets: state.counters.packets,
            lost: state.counters.lost,
            drops: state.drops.total,
            drops_lost: state.drops.lost + state.drops.without_room,
            errors_sent: state.drops.errors,
            written,
            write_failure: write_failure.map(str::to_owned),
            failure: state.failure.clone(),
            interfaces: state
                .interfaces
                .iter()
                .map(|one| (one.index, one.packets.count(), one.datagrams, one.icmp_errors))
                .collect(),
        }
    }
}

/// Packets of this host's links, put together by conversation as they come.
#[pyclass(frozen, module = "udpkit._native")]
pub(crate) struct Live {
    live: Mutex<udpkit_live::Live>,
    #[pyo3(get)]
    without_drops: Option<String>,
}

/// Tally, conversations, how many more of them there are, drops.
type Found = (LiveTally, Vec<Py<PyAny>>, u64, Vec<Py<PyAny>>);
type End = (IpAddr, u16);
/// Client, server, requests, replies, when.
type Busy = (Py<PyAny>, Py<PyAny>, u64, u64, Option<u64>);

#[pymethods]
impl Live {
    #[new]
    #[pyo3(signature = (interfaces, /, *, snapshot, memory, namespace))]
    #[allow(clippy::needless_pass_by_value, reason = "a Python list cannot be lent as a slice")]
    fn new(
        py: Python<'_>,
        interfaces: Vec<u32>,
        snapshot: u32,
        memory: usize,
        namespace: u32,
    ) -> Result<Self> {
        let (drops, without_drops) = match py.detach(Drops::open) {
            Ok(drops) => (Some(drops), None),
            Err(error) => (None, Some(error.to_string())),
        };
        let live = udpkit_live::Live::open(&interfaces, snapshot, memory, drops, namespace)?;
        Ok(Self { live: Mutex::new(live), without_drops })
    }

    #[pyo3(signature = (write, size, /))]
    #[allow(clippy::needless_pass_by_value, reason = "a Python path cannot be lent as one")]
    fn start(&self, write: Option<PathBuf>, size: u64) -> Result<()> {
        Ok(self.lock().start(write.as_deref().map(|path| (path, size)))?)
    }

    fn stop(&self, py: Python<'_>) {
        py.detach(|| self.lock().stop());
    }

    #[pyo3(signature = ())]
    fn tally(&self, py: Python<'_>) -> LiveTally {
        py.detach(|| self.lock().look(|state| LiveTally::of(state)))
    }

    #[pyo3(signature = (most, /))]
    fn look(&self, py: Python<'_>, most: usize) -> Result<Found> {
        let (tally, conversations, unjudged, drops) = py.detach(|| {
            self.lock().look(|state| {
                let remarkable = state.book.remarkable(most);
                let unjudged = remarkable.unjudged;
                let drops: Vec<_> = state.drops.iter().cloned().collect();
                (LiveTally::of(state), remarkable.collect::<Vec<_>>(), unjudged, drops)
            })
        });
        // The drops are the first source, then come the socket tables, then the interfaces.
        let indices = (2..).take(tally.interfaces.len()).map(|index| (index, false)).collect();
        let mut facts = Facts::new(py, HashMap::new(), indices)?;
        let conversations: PyResult<Vec<_>> =
            conversations.iter().map(|one| Ok(facts.conversation(one)?.unbind())).collect();
        let mut facts = Facts::new(py, HashMap::new(), vec![(0, false)])?;
        let class = py.import("udpkit.facts")?.getattr("Drops")?;
        let drops: PyResult<Vec<_>> = drops
            .into_iter()
            .map(|one| {
                let fields = (
                    facts.endpoint(one.source)?,
                    facts.endpoint(one.destination)?,
                    one.reason,
                    one.function,
                    one.count,
                    facts.moment(&one.first)?,
                    facts.moment(&one.last)?,
                    py.None(),
                    one.answers,
                    one.icmp,
                );
                Ok(class.call1(fields)?.unbind())
            })
            .collect();
        Ok((tally, conversations?, unjudged, drops?))
    }

    #[pyo3(signature = (most, /))]
    fn latest(&self, py: Python<'_>, most: usize) -> Result<Vec<Busy>> {
        let latest = py.detach(|| self.lock().look(|state| state.book.latest(most)));
        let mut facts = Facts::new(py, HashMap::new(), Vec::new())?;
        let rows: PyResult<Vec<_>> = latest
            .into_iter()
            .map(|one| {
                let (client, server) = (facts.endpoint(one.client)?, facts.endpoint(one.server)?);
                Ok((client.unbind(), server.unbind(), one.requests, one.replies, one.last_ns))
            })
            .collect();
        Ok(rows?)
    }

    #[pyo3(signature = (ends, /))]
    fn want(&self, py: Python<'_>, ends: Vec<(End, Option<End>)>) {
        let ends: Vec<_> =
            ends.into_iter().map(|(one, other)| Ends(one.into(), other.map(SocketAddr::from))).collect();
        py.detach(|| self.lock().look(|state| state.want(&ends)));
    }
}

impl Live {
    fn lock(&self) -> MutexGuard<'_, udpkit_live::Live> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Keep of this thread's capabilities only these.
#[pyfunction]
#[pyo3(signature = (kept, /, user = None))]
pub(crate) fn give_up(kept: u64, user: Option<u32>) -> Result<()> {
    let given: io::Result<()> = udpkit_datagram::give_up(kept, user);
    Ok(given?)
}
