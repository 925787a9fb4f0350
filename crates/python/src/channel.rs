//! Datagrams in batches, between Python objects and one socket.
//!
//! Other Python threads run during every system call, and may use the same channel: each call takes its memory
//! from a pool, and no lock is held while it waits.

use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::os::fd::{BorrowedFd, RawFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use pyo3::exceptions::PyTypeError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBytes, PyList, PyMemoryView, PyString, PyTuple};
use udpkit_datagram::{
    Arena, Deliver, Family, Outbox, Outgoing, Readiness, Received, Report, Reports, Woken, wait,
};

use crate::datagram::{Datagram, Path, QueuedError};
use crate::descriptor::borrow;
use crate::errors::{Error, Result};

pyo3::import_exception!(udpkit.sockets.errors, TruncatedControl);

/// Datagrams taken from an iterable at a time, on their way out.
const OUTBOX: usize = 256;

/// Times that the error queue is read before somebody who asked is answered, while it keeps filling.
const DRAINS: usize = 16;

/// Errors without any explanation, and nothing else, after which receiving gives up.
const UNEXPLAINED: usize = 16;

/// Addresses that are kept for datagrams to come.
const ADDRESSES: usize = 4096;

/// What a socket needs beside its descriptor.
#[pyclass(frozen, module = "udpkit._native")]
pub(crate) struct Channel {
    family: Family,
    port: u16,
    connected_to: Option<SocketAddr>,
    raises: bool,
    batch: usize,
    largest: usize,
    gso: bool,
    arenas: Mutex<Vec<Arena>>,
    outboxes: Mutex<Vec<Outbox>>,
    reports: Mutex<Reports>,
    stale: AtomicU64,
    /// A datagram was left out, which nobody has been told of.
    cut: AtomicBool,
    /// What GRO had merged beyond what was asked for.
    left_over: Mutex<VecDeque<Py<Datagram>>>,
    addresses: Mutex<HashMap<udpkit_datagram::Path, Py<PyAny>>>,
}

/// When to give up waiting; never, if there is no such moment.
#[derive(Clone, Copy)]
struct Deadline(Option<Instant>);

impl Deadline {
    fn after(seconds: Option<f64>) -> Result<Self> {
        let Some(seconds) = seconds else { return Ok(Self(None)) };
        let wait = Duration::try_from_secs_f64(seconds)
            .map_err(|_| Error::value(format!("timeout {seconds} is not a number of seconds")))?;
        Ok(Self(Instant::now().checked_add(wait)))
    }

    fn left(self) -> Duration {
        self.0.map_or(Duration::MAX, |end| end.saturating_duration_since(Instant::now()))
    }
}

#[pymethods]
impl Channel {
    #[new]
    #[pyo3(signature = (*, ipv6, port, connected_to, raises, batch, largest, gso))]
    fn new(
        ipv6: bool,
        port: u16,
        connected_to: Option<&Bound<'_, PyTuple>>,
        raises: bool,
        batch: usize,
        largest: usize,
        gso: bool,
    ) -> Result<Self> {
        if !(1..=1024).contains(&batch) || !(1..=65_535).contains(&largest) {
            return Err(Error::value("a batch is of 1 to 1024 datagrams of 1 to 65535 bytes".into()));
        }
        Ok(Self {
            family: if ipv6 { Family::V6 } else { Family::V4 },
            port,
            connected_to: connected_to.map(from_fields).transpose()?,
            raises,
            batch,
            largest,
            gso,
            arenas: Mutex::default(),
            outboxes: Mutex::default(),
            reports: Mutex::default(),
            stale: AtomicU64::new(0),
            cut: AtomicBool::new(false),
            left_over: Mutex::default(),
            addresses: Mutex::default(),
        })
    }

    /// One datagram, whatever is reported meanwhile; `None` if none came in time.
    #[pyo3(signature = (socket, timeout, /))]
    fn recv(
        &self,
        py: Python<'_>,
        socket: &Bound<'_, PyAny>,
        timeout: Option<f64>,
    ) -> Result<Option<Py<Datagram>>> {
        if let Some(datagram) = locked(&self.left_over).pop_front() {
            return Ok(Some(datagram));
        }
        let arena = self.receive(py, socket, 1, 0, timeout, true)?;
        let first = self.take_datagrams(py, &arena, 1)?.pop();
        self.put_back(arena);
        Ok(first)
    }

    /// The datagrams that are there, or the first to come. Unless `patient`, a report ends the wait, too.
    #[pyo3(signature = (socket, maximum, timeout, patient, /))]
    fn recv_many<'py>(
        &self,
        py: Python<'py>,
        socket: &Bound<'_, PyAny>,
        maximum: usize,
        timeout: Option<f64>,
        patient: bool,
    ) -> Result<Bound<'py, PyList>> {
        let left_over: Vec<_> = {
            let mut left_over = locked(&self.left_over);
            let count = left_over.len().min(maximum);
            left_over.drain(..count).collect()
        };
        if !left_over.is_empty() || maximum == 0 {
            return Ok(PyList::new(py, left_over)?);
        }
        let arena = self.receive(py, socket, maximum, 0, timeout, patient)?;
        let datagrams = self.take_datagrams(py, &arena, maximum)?;
        self.put_back(arena);
        Ok(PyList::new(py, datagrams)?)
    }

    /// Payloads with the addresses that answers can be sent to.
    #[pyo3(signature = (socket, maximum, timeout, patient, flags = 0, /))]
    fn recv_from<'py>(
        &self,
        py: Python<'py>,
        socket: &Bound<'_, PyAny>,
        maximum: usize,
        timeout: Option<f64>,
        patient: bool,
        flags: i32,
    ) -> Result<Bound<'py, PyList>> {
        let arena = self.receive(py, socket, maximum, flags, timeout, patient)?;
        let received = PyList::empty(py);
        for datagram in arena.datagrams(false) {
            received.append((PyBytes::new(py, datagram.data), self.address(py, &datagram)?))?;
        }
        self.check_cut(&arena, received.len())?;
        self.put_back(arena);
        Ok(received)
    }

    /// Answer one datagram. Whether the kernel took it; `None` if the send buffer stayed full.
    #[pyo3(signature = (socket, request, data, timeout, /))]
    fn reply(
        &self,
        py: Python<'_>,
        socket: &Bound<'_, PyAny>,
        request: &Bound<'_, Datagram>,
        data: &Bound<'_, PyAny>,
        timeout: Option<f64>,
    ) -> Result<Option<bool>> {
        let parcel = Parcel { data: payload(data)?, way: Way::Answer(request.get().path) };
        let delivered = self.deliver(py, socket, &[parcel], Deadline::after(timeout)?, 0, false)?;
        Ok((delivered.done == 1).then_some(delivered.failed == 0))
    }

    /// Send one datagram. Whether it went before the deadline; raises what prevented it.
    #[pyo3(signature = (socket, data, peer, timeout, flags = 0, /))]
    fn send(
        &self,
        py: Python<'_>,
        socket: &Bound<'_, PyAny>,
        data: &Bound<'_, PyAny>,
        peer: &Bound<'_, PyAny>,
        timeout: Option<f64>,
        flags: i32,
    ) -> Result<bool> {
        let parcel = Parcel { data: payload(data)?, way: self.way(peer)? };
        let delivered = self.deliver(py, socket, &[parcel], Deadline::after(timeout)?, flags, true)?;
        match delivered.raised {
            Some(report) => Err(self.network_error(py, report)?),
            None => Ok(delivered.done == 1),
        }
    }

    /// Answer many: pairs of a datagram and data. Returns how many are done with.
    #[pyo3(signature = (socket, answers, timeout, /))]
    fn reply_many(
        &self,
        py: Python<'_>,
        socket: &Bound<'_, PyAny>,
        answers: &Bound<'_, PyAny>,
        timeout: Option<f64>,
    ) -> Result<usize> {
        self.deliver_all(py, socket, answers, timeout, |answer| {
            let (request, data) = pair(answer, "(request, data)")?;
            let request = request.cast::<Datagram>().map_err(PyErr::from)?;
            Ok(Parcel { data: payload(&data)?, way: Way::Answer(request.get().path) })
        })
    }

    /// Send many: pairs of data and a peer. Returns how many are done with.
    #[pyo3(signature = (socket, datagrams, timeout, /))]
    fn send_many(
        &self,
        py: Python<'_>,
        socket: &Bound<'_, PyAny>,
        datagrams: &Bound<'_, PyAny>,
        timeout: Option<f64>,
    ) -> Result<usize> {
        // Whoever sends many to one peer names it by the same object: it is looked at once.
        let mut last: Option<(Bound<'_, PyAny>, Way)> = None;
        self.deliver_all(py, socket, datagrams, timeout, |datagram| {
            let (data, peer) = pair(datagram, "(data, peer)")?;
            let way = match &last {
                Some((known, way)) if known.is(&peer) => *way,
                _ => self.way(&peer)?,
            };
            last = Some((peer, way));
            Ok(Parcel { data: payload(&data)?, way })
        })
    }

    /// Every report since the last time, oldest first.
    #[pyo3(signature = (socket, /))]
    fn reports(&self, py: Python<'_>, socket: &Bound<'_, PyAny>) -> Result<Vec<QueuedError>> {
        let fd = borrow(descriptor(socket)?)?;
        let reports = py.detach(|| {
            let mut reports = locked(&self.reports);
            for _ in 0..DRAINS {
                if !reports.drain(fd, None)?.rest {
                    break;
                }
            }
            std::io::Result::Ok(reports.take())
        })?;
        Ok(reports.into_iter().map(|report| QueuedError::new(report, self.connected_to)).collect())
    }

    /// The address of a peer as `recv_from` would give it, but for the path back: the route chooses.
    #[pyo3(signature = (peer, /))]
    fn address_of<'py>(&self, peer: &Bound<'py, PyAny>) -> Result<Bound<'py, PyAny>> {
        match Way::to(peer)? {
            Way::To(Some(peer_of)) => {
                let path = udpkit_datagram::Path { peer: peer_of, local: None, interface: 0 };
                Ok(self.make_address(peer.py(), path)?)
            }
            _ => Ok(peer.clone()),
        }
    }

    #[getter]
    fn reported(&self) -> u64 {
        locked(&self.reports).total()
    }

    #[getter]
    fn stale_sources(&self) -> u64 {
        self.stale.load(Ordering::Relaxed)
    }

    #[getter]
    fn errors_lost(&self) -> u64 {
        locked(&self.reports).lost()
    }
}

/// Receiving.
impl Channel {
    /// Receive into an arena, which is empty if nothing came in time, or a report did unless `patient`. A patient
    /// call on a connected socket raises what was reported.
    fn receive(
        &self,
        py: Python<'_>,
        socket: &Bound<'_, PyAny>,
        maximum: usize,
        flags: i32,
        timeout: Option<f64>,
        patient: bool,
    ) -> Result<Arena> {
        if self.cut.swap(false, Ordering::Relaxed) {
            return Err(truncated_control());
        }
        let deadline = Deadline::after(timeout)?;
        let pooled = locked(&self.arenas).pop();
        let mut arena = pooled.unwrap_or_else(|| Arena::new(self.batch, self.largest));
        let mut woken = if timeout == Some(0.0) { Woken::Ready } else { Woken::TooLate };
        let mut heard = false;
        let mut unexplained = 0;
        loop {
            // Anew each time: another thread may have closed the socket, and the number be somebody else's.
            let fd = borrow(descriptor(socket)?)?;
            let error = match py.detach(|| arena.receive(fd, maximum, flags)) {
                Ok(()) => return Ok(arena),
                Err(error) => error,
            };
            let told = match error.raw_os_error() {
                Some(libc::EAGAIN) => None,
                Some(errno) if unexplained < UNEXPLAINED => Some(errno),
                _ => return Err(error.into()),
            };
            // Nothing there: woken nevertheless, since a queue of errors wakes, too.
            if told.is_some() || woken != Woken::TooLate {
                let (drained, raised) = py.detach(|| {
                    let mut reports = locked(&self.reports);
                    let drained = reports.drain(fd, told)?;
                    let raising = drained.earlier && patient && self.raises;
                    let raised = raising.then(|| reports.pop()).flatten();
                    std::io::Result::Ok((drained, raised))
                })?;
                if let Some(report) = raised {
                    return Err(self.network_error(py, report)?);
                }
                if told.is_some() {
                    unexplained = if drained.explained { 0 } else { unexplained + 1 };
                }
                if drained.earlier && !patient {
                    if heard {
                        return Ok(arena);
                    }
                    heard = true; // datagrams that are there come first
                    continue;
                }
                if told.is_some() {
                    py.check_signals()?;
                    continue;
                }
            }
            if woken == Woken::ShutDown {
                return Err(Errno::ESHUTDOWN.into());
            }
            let left = deadline.left();
            if heard || left.is_zero() {
                return Ok(arena);
            }
            unexplained = 0;
            woken = wait_for(py, fd, Readiness::Readable, left)?;
        }
    }

    /// Raise that control messages were cut: at once if nothing else was received, else by the next call.
    fn check_cut(&self, arena: &Arena, received: usize) -> Result<()> {
        if arena.cut() == 0 {
            return Ok(());
        }
        self.cut.store(received > 0, Ordering::Relaxed);
        if received > 0 { Ok(()) } else { Err(truncated_control()) }
    }

    fn take_datagrams(&self, py: Python<'_>, arena: &Arena, maximum: usize) -> Result<Vec<Py<Datagram>>> {
        let mut datagrams = Vec::with_capacity(maximum.min(self.batch));
        for received in arena.datagrams(true) {
            datagrams.push(Py::new(py, Datagram::new(py, &received, self.family, self.port))?);
        }
        self.check_cut(arena, datagrams.len())?;
        if datagrams.len() > maximum {
            locked(&self.left_over).extend(datagrams.drain(maximum..));
        }
        Ok(datagrams)
    }

    fn put_back(&self, arena: Arena) {
        locked(&self.arenas).push(arena);
    }

    /// The address of a datagram's sender as Python's own sockets have it, which remembers the path back.
    ///
    /// No Python code runs while the lock is held: it could let another thread run, which would wait for the
    /// lock and never let this one go on.
    fn address<'py>(&self, py: Python<'py>, received: &Received<'_>) -> PyResult<Bound<'py, PyAny>> {
        let known = locked(&self.addresses).get(&received.path).map(|address| address.clone_ref(py));
        if let Some(address) = known {
            return Ok(address.into_bound(py));
        }
        let address = self.make_address(py, received.path)?;
        let kept = address.clone().unbind();
        let _dropped_later = {
            let mut addresses = locked(&self.addresses);
            let full = addresses.len() == ADDRESSES;
            let old = if full { std::mem::take(&mut *addresses) } else { HashMap::new() };
            (old, addresses.insert(received.path, kept))
        };
        Ok(address)
    }

    fn make_address<'py>(&self, py: Python<'py>, path: udpkit_datagram::Path) -> PyResult<Bound<'py, PyAny>> {
        let (host, port) = (path.peer.ip(), path.peer.port());
        let fields = match (self.family, path.peer) {
            (Family::V4, _) => (host.to_string(), port).into_pyobject(py)?,
            (Family::V6, SocketAddr::V4(v4)) => {
                (v4.ip().to_ipv6_mapped().to_string(), port, 0, 0).into_pyobject(py)?
            }
            (Family::V6, SocketAddr::V6(v6)) => {
                (v6.ip().to_string(), port, v6.flowinfo(), v6.scope_id()).into_pyobject(py)?
            }
        };
        peer_address(py)?.call1((fields, Path(path)))
    }
}

/// Errors.
impl Channel {
    /// The exception that carries a report.
    fn network_error(&self, py: Python<'_>, report: Report) -> PyResult<Error> {
        static FUNCTION: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        let function = FUNCTION.import(py, "udpkit.sockets.errors", "network_error")?;
        let queued = QueuedError::new(report, self.connected_to);
        Ok(PyErr::from_value(function.call1((queued,))?).into())
    }
}

/// Where a datagram is to go.
#[derive(Clone, Copy)]
enum Way {
    Answer(udpkit_datagram::Path),
    To(Option<SocketAddr>),
}

/// One datagram to be sent.
struct Parcel<'py> {
    data: Bound<'py, PyBytes>,
    way: Way,
}

impl Parcel<'_> {
    fn outgoing(&self) -> Outgoing<'_> {
        let data = self.data.as_bytes();
        match &self.way {
            Way::Answer(path) => Outgoing::answer(path, data),
            Way::To(peer) => Outgoing { data, peer: *peer, local: None, interface: 0 },
        }
    }
}

/// How far it came with some parcels.
#[derive(Default)]
struct Delivered {
    done: usize,
    failed: usize,
    raised: Option<Report>,
}

/// Sending.
impl Channel {
    /// Where to send for `peer`; a connected socket has one peer only.
    fn way(&self, peer: &Bound<'_, PyAny>) -> Result<Way> {
        let way = Way::to(peer)?;
        match (way, self.connected_to) {
            (Way::To(Some(other)), Some(connected)) if other != connected => {
                Err(Error::value(format!("connected to {connected}: cannot send to {other}")))
            }
            _ => Ok(way),
        }
    }

    fn deliver_all<'py>(
        &self,
        py: Python<'py>,
        socket: &Bound<'_, PyAny>,
        items: &Bound<'py, PyAny>,
        timeout: Option<f64>,
        mut parcel: impl FnMut(&Bound<'py, PyAny>) -> Result<Parcel<'py>>,
    ) -> Result<usize> {
        let deadline = Deadline::after(timeout)?;
        let mut items = items.try_iter()?;
        let mut parcels = Vec::with_capacity(OUTBOX);
        let mut done = 0;
        loop {
            parcels.clear();
            let mut wrong = None;
            for item in items.by_ref().take(OUTBOX) {
                match item.map_err(Error::from).and_then(|item| parcel(&item)) {
                    Ok(parcel) => parcels.push(parcel),
                    Err(error) => {
                        wrong = Some(error);
                        break;
                    }
                }
            }
            // Those before it go, whatever is wrong with one.
            let delivered = self.deliver(py, socket, &parcels, deadline, 0, false)?;
            done += delivered.done;
            if let Some(error) = wrong {
                return Err(error);
            }
            if parcels.len() < OUTBOX || delivered.done < parcels.len() {
                return Ok(done);
            }
        }
    }

    /// Send some datagrams. With `raising`, of one alone, what went wrong is not kept but handed back.
    fn deliver(
        &self,
        py: Python<'_>,
        socket: &Bound<'_, PyAny>,
        parcels: &[Parcel<'_>],
        deadline: Deadline,
        flags: i32,
        raising: bool,
    ) -> Result<Delivered> {
        let outgoing: Vec<_> = parcels.iter().map(Parcel::outgoing).collect();
        let pooled = locked(&self.outboxes).pop();
        let mut outbox = pooled.unwrap_or_else(|| Outbox::new(OUTBOX));
        let mut delivered = Delivered::default();
        loop {
            let how = Deliver {
                fd: borrow(descriptor(socket)?)?,
                family: self.family,
                gso: self.gso,
                flags,
                stop_at_earlier: raising && self.raises,
            };
            let mut found = Reports::default();
            let rest = &outgoing[delivered.done..];
            let outcome = py.detach(|| {
                let outcome = outbox.deliver(&how, rest, &mut found)?;
                self.stale.fetch_add(outcome.stale as u64, Ordering::Relaxed);
                std::io::Result::Ok(outcome)
            })?;
            delivered.done += outcome.done;
            delivered.failed += outcome.failed;
            if raising {
                let failed = (outcome.failed > 0).then(|| found.pop()).flatten();
                delivered.raised = outcome.earlier.or(failed);
            }
            if !found.is_empty() {
                py.detach(|| locked(&self.reports).merge(&mut found));
            }
            let left = deadline.left();
            if !outcome.would_block || left.is_zero() {
                break;
            }
            wait_for(py, how.fd, Readiness::Writable, left)?;
        }
        locked(&self.outboxes).push(outbox);
        Ok(delivered)
    }
}

impl Way {
    /// From what users write: an address of `recvfrom()`, `(host, port)`, an `Endpoint`, or None.
    fn to(peer: &Bound<'_, PyAny>) -> Result<Self> {
        if peer.is_none() {
            return Ok(Self::To(None));
        }
        let py = peer.py();
        if peer.is_exact_instance(peer_address(py)?) {
            let path = peer.getattr(intern!(py, "_path"))?;
            return Ok(Self::Answer(path.cast::<Path>().map_err(PyErr::from)?.get().0));
        }
        let address = if let Ok(fields) = peer.cast::<PyTuple>() {
            from_fields(fields)?
        } else if let Ok(port) = peer.getattr("port") {
            parse(&peer.getattr("address")?.str()?.to_string(), port_number(&port)?, 0, 0)?
        } else {
            return Err(PyTypeError::new_err("a peer is (host, port) or an Endpoint").into());
        };
        Ok(Self::To(Some(address)))
    }
}

/// `(host, port)` or `(host, port, flowinfo, scope_id)`.
fn from_fields(fields: &Bound<'_, PyTuple>) -> Result<SocketAddr> {
    if !(2..=4).contains(&fields.len()) {
        return Err(PyTypeError::new_err("an address is (host, port[, flowinfo[, scope_id]])").into());
    }
    let number = |index: usize| -> Result<u32> {
        Ok(if index < fields.len() { fields.get_item(index)?.extract()? } else { 0 })
    };
    let host = fields.get_item(0)?;
    if !host.is_instance_of::<PyString>() && host.extract::<IpAddr>().is_err() {
        return Err(wrong_type("an address is a str such as '127.0.0.1'", &host)?);
    }
    let host = host.str()?.to_string();
    parse(&host, port_number(&fields.get_item(1)?)?, number(2)?, number(3)?)
}

/// A numeric address; of IPv6 with its scope, as a number or an interface's name.
fn parse(host: &str, port: u16, flowinfo: u32, scope: u32) -> Result<SocketAddr> {
    let (ip, zone) = host.split_once('%').map_or((host, None), |(ip, zone)| (ip, Some(zone)));
    let ip: IpAddr = match ip {
        "<broadcast>" => Ipv4Addr::BROADCAST.into(),
        _ => ip.parse().map_err(|_| Error::value(format!("{host:?} is not a numeric address")))?,
    };
    let scope = match zone {
        None => scope,
        Some(zone) => match zone.parse() {
            Ok(number) => number,
            Err(_) => nix::net::if_::if_nametoindex(zone)?,
        },
    };
    Ok(match ip {
        IpAddr::V4(v4) => (v4, port).into(),
        IpAddr::V6(v6) => match Ipv6Addr::to_ipv4_mapped(&v6) {
            Some(mapped) => (mapped, port).into(),
            None => SocketAddrV6::new(v6, port, flowinfo, scope).into(),
        },
    })
}

/// The exception that says what was expected, and what came.
fn wrong_type(expected: &str, value: &Bound<'_, PyAny>) -> PyResult<Error> {
    Ok(PyTypeError::new_err(format!("{expected}, not {}", value.get_type().name()?)).into())
}

fn port_number(port: &Bound<'_, PyAny>) -> Result<u16> {
    let Ok(number) = port.extract::<i64>() else {
        return Err(wrong_type("a port is an int", port)?);
    };
    u16::try_from(number).map_err(|_| Error::value(format!("port {number} is not from 0 to 65535")))
}

/// The bytes of whatever has some.
fn payload<'py>(data: &Bound<'py, PyAny>) -> Result<Bound<'py, PyBytes>> {
    if let Ok(bytes) = data.cast_exact::<PyBytes>() {
        return Ok(bytes.clone());
    }
    let bytes = PyMemoryView::from(data)?.call_method0("tobytes")?;
    Ok(bytes.cast_into::<PyBytes>().map_err(PyErr::from)?)
}

fn pair<'py>(item: &Bound<'py, PyAny>, what: &'static str) -> Result<(Bound<'py, PyAny>, Bound<'py, PyAny>)> {
    let pair = item.cast::<PyTuple>().ok().filter(|pair| pair.len() == 2);
    let pair = pair.ok_or_else(|| PyTypeError::new_err(format!("each item is a pair {what}")))?;
    Ok((pair.get_item(0)?, pair.get_item(1)?))
}

/// The class of the addresses that `recv_from` gives.
fn peer_address(py: Python<'_>) -> PyResult<&Bound<'_, PyAny>> {
    static CLASS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    CLASS.import(py, "udpkit.sockets.packet_info", "PeerAddress")
}

fn truncated_control() -> Error {
    let what = "the kernel cut a datagram's control messages: to which address it came is unknown";
    TruncatedControl::new_err((libc::EMSGSIZE, what)).into()
}

/// The descriptor of a Python socket; -1 once it is closed.
fn descriptor(socket: &Bound<'_, PyAny>) -> Result<RawFd> {
    Ok(socket.call_method0(intern!(socket.py(), "fileno"))?.extract()?)
}

/// Wait until the socket is ready, or the time is over, or a signal came.
fn wait_for(py: Python<'_>, fd: BorrowedFd<'_>, readiness: Readiness, left: Duration) -> Result<Woken> {
    match py.detach(|| wait(fd, readiness, left)) {
        Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {
            py.check_signals()?;
            Ok(Woken::TooLate)
        }
        woken => Ok(woken?),
    }
}

/// A lock that nothing panics under; held for moments, or while no Python code can want it.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
