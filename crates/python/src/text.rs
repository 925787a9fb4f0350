//! Text that other programs printed, as `udpkit.facts`.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use pyo3::prelude::*;
use pyo3::types::PyDict;
use udpkit_text::strace::{self, CallKind, Calls, Moment, Trace, TracedSocket};

use crate::errors::Result;
use crate::inputs::{Input, Watch};

/// Signals are looked for after so many sockets.
const STEP: usize = 1000;

/// Read a log of strace.
#[pyfunction]
#[pyo3(signature = (log, path, /, progress = None, *, source))]
pub(crate) fn read_strace<'py>(
    py: Python<'py>,
    log: &Bound<'py, Input>,
    path: &str,
    progress: Option<Py<PyAny>>,
    source: u32,
) -> Result<(Bound<'py, PyAny>, Vec<Bound<'py, PyAny>>)> {
    let watch = Arc::new(Watch::new(progress));
    let log = log.get();
    let trace = py.detach(|| log.stream(&watch).map(strace::read));
    watch.raised()?;
    let trace = trace?;
    let facts = Facts::new(py, source)?;
    let mut sockets = Vec::new();
    for (number, socket) in trace.sockets.iter().enumerate() {
        if number % STEP == 0 {
            py.check_signals()?;
        }
        sockets.push(facts.socket(socket)?);
    }
    Ok((facts.source(path, &trace)?, sockets))
}

/// Makes the value types of `udpkit.facts`.
struct Facts<'py> {
    py: Python<'py>,
    index: u32,
    module: Bound<'py, PyModule>,
    endpoint: Bound<'py, PyAny>,
    reference: Bound<'py, PyAny>,
    moment: Bound<'py, PyAny>,
    calls: Bound<'py, PyAny>,
    traced_socket: Bound<'py, PyAny>,
}

impl<'py> Facts<'py> {
    fn new(py: Python<'py>, index: u32) -> PyResult<Self> {
        let module = py.import("udpkit.facts")?;
        let class = |name: &str| module.getattr(name);
        Ok(Self {
            py,
            index,
            endpoint: class("Endpoint")?,
            reference: class("Reference")?,
            moment: class("Moment")?,
            calls: class("Calls")?,
            traced_socket: class("TracedSocket")?,
            module,
        })
    }

    fn source(&self, path: &str, trace: &Trace) -> PyResult<Bound<'py, PyAny>> {
        let tally = &trace.tally;
        let fields = PyDict::new(self.py);
        fields.set_item("packets", tally.packets)?;
        fields.set_item("datagrams", tally.datagrams)?;
        fields.set_item("skipped", tally.packets.saturating_sub(trace.carrying))?;
        fields.set_item("unread", &tally.unread)?;
        fields.set_item("damage", &tally.damage)?;
        fields.set_item("last_ns", tally.last_ns)?;
        self.module.getattr("Source")?.call((path, "strace"), Some(&fields))
    }

    fn socket(&self, socket: &TracedSocket) -> PyResult<Bound<'py, PyAny>> {
        let fields = PyDict::new(self.py);
        fields.set_item("bound", socket.bound.map(|bound| self.endpoint(bound)).transpose()?)?;
        fields.set_item("options", &socket.options)?;
        let calls: PyResult<Vec<_>> = socket.calls.iter().map(|calls| self.calls(calls)).collect();
        fields.set_item("calls", calls?)?;
        fields.set_item("whole", socket.whole)?;
        fields.set_item("unlisted", socket.unlisted)?;
        let first = self.moment(socket.first)?;
        let process = match (socket.process, socket.program.as_str()) {
            (Some(number), "") => format!("pid {number}"),
            (Some(number), program) => format!("pid {number} ({program})"),
            (None, program) => program.to_owned(),
        };
        self.traced_socket.call((process, socket.descriptor, socket.family, first), Some(&fields))
    }

    fn calls(&self, calls: &Calls) -> PyResult<Bound<'py, PyAny>> {
        let kind = match calls.key.kind {
            CallKind::Bind => "bind",
            CallKind::Connect => "connect",
            CallKind::Receive => "receive",
            CallKind::Peek => "peek",
            CallKind::Send => "send",
            CallKind::Error => "error",
        };
        let key = &calls.key;
        let endpoint = |one: Option<SocketAddr>| one.map(|one| self.endpoint(one)).transpose();
        let fields = PyDict::new(self.py);
        fields.set_item("peer", endpoint(key.peer)?)?;
        fields.set_item("local", key.local)?;
        fields.set_item("errno", &key.errno)?;
        fields.set_item("pktinfo", key.pktinfo)?;
        fields.set_item("icmp", key.icmp)?;
        fields.set_item("offender", key.offender)?;
        fields.set_item("candidates", calls.candidates)?;
        let (first, last) = (self.moment(calls.first)?, self.moment(calls.last)?);
        self.calls.call((kind, key.name, calls.count, first, last), Some(&fields))
    }

    fn moment(&self, moment: Moment) -> PyResult<Bound<'py, PyAny>> {
        let seen = self.reference.call1((self.index, self.py.None(), moment.line))?;
        self.moment.call1((moment.line, moment.time_ns, seen))
    }

    fn endpoint(&self, endpoint: SocketAddr) -> PyResult<Bound<'py, PyAny>> {
        let address: IpAddr = endpoint.ip();
        self.endpoint.call1((address, endpoint.port()))
    }
}
