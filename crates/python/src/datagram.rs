//! Values of the sockets: a datagram that was received, the path an answer takes, an error that was reported.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Mutex, PoisonError};

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyBytes;
use udpkit_datagram::{Family, Origin, Received, Report};

/// A datagram as it was received.
#[pyclass(frozen, freelist = 256, module = "udpkit")]
pub(crate) struct Datagram {
    #[pyo3(get)]
    data: Py<PyBytes>,
    pub(crate) path: udpkit_datagram::Path,
    destination: Option<IpAddr>,
    family: Family,
    port: u16,
    #[pyo3(get)]
    tos: Option<u8>,
    #[pyo3(get)]
    ttl: Option<u8>,
    #[pyo3(get)]
    time_ns: Option<i64>,
    #[pyo3(get)]
    truncated: bool,
}

impl Datagram {
    /// `port` is the local one.
    pub(crate) fn new(py: Python<'_>, received: &Received<'_>, family: Family, port: u16) -> Self {
        Self {
            data: PyBytes::new(py, received.data).unbind(),
            path: received.path,
            destination: received.destination,
            family,
            port,
            tos: received.tos,
            ttl: received.ttl,
            time_ns: received.time_ns,
            truncated: received.truncated,
        }
    }

    /// The endpoint at an address of this host's; that of all addresses where the kernel did not say.
    fn own_endpoint(&self, address: Option<IpAddr>) -> SocketAddr {
        let unspecified = match self.family {
            Family::V4 => IpAddr::from(Ipv4Addr::UNSPECIFIED),
            Family::V6 => IpAddr::from(Ipv6Addr::UNSPECIFIED),
        };
        let mut endpoint = SocketAddr::new(address.unwrap_or(unspecified), self.port);
        if let SocketAddr::V6(v6) = &mut endpoint
            && is_scoped(*v6.ip())
        {
            v6.set_scope_id(self.path.interface);
        }
        endpoint
    }
}

#[pymethods]
impl Datagram {
    #[getter]
    fn peer<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        endpoint(py, self.path.peer)
    }

    #[getter]
    fn local<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        endpoint(py, self.own_endpoint(self.path.local))
    }

    #[getter]
    fn destination<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        endpoint(py, self.own_endpoint(self.destination))
    }

    #[getter]
    fn interface(&self) -> u32 {
        self.path.interface
    }

    #[getter]
    fn ecn(&self) -> Option<u8> {
        self.tos.map(|tos| tos & 3)
    }

    fn __repr__(&self, py: Python<'_>) -> String {
        let length = self.data.bind(py).as_bytes().len();
        let (peer, local) = (self.path.peer, self.own_endpoint(self.path.local));
        format!("<Datagram: {length} bytes from {peer} to {local}>")
    }
}

/// The two ends of a datagram, as an answer needs them.
#[pyclass(frozen, module = "udpkit._native")]
pub(crate) struct Path(pub(crate) udpkit_datagram::Path);

#[pymethods]
impl Path {
    #[getter]
    fn local(&self) -> Option<IpAddr> {
        self.0.local
    }
}

/// An error as the kernel reported it.
#[pyclass(frozen, module = "udpkit._native")]
pub(crate) struct QueuedError(Report);

impl QueuedError {
    /// What is said without a peer is about the one that the socket is connected to, if it is.
    pub(crate) fn new(report: Report, connected_to: Option<SocketAddr>) -> Self {
        Self(Report { peer: report.peer.or(connected_to), ..report })
    }
}

#[pymethods]
impl QueuedError {
    #[getter]
    fn errno(&self) -> i32 {
        self.0.errno
    }

    #[getter]
    fn origin(&self) -> &'static str {
        match self.0.origin {
            Origin::Local => "local",
            Origin::Icmp => "icmp",
            Origin::Icmp6 => "icmp6",
        }
    }

    #[getter]
    fn icmp_type(&self) -> u8 {
        self.0.icmp_type
    }

    #[getter]
    fn code(&self) -> u8 {
        self.0.code
    }

    #[getter]
    fn peer<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        self.0.peer.map(|peer| endpoint(py, peer)).transpose()
    }

    #[getter]
    fn local<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        self.0.local.map(|local| address(py, local)).transpose()
    }

    #[getter]
    fn offender<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        self.0.offender.map(|offender| address(py, offender)).transpose()
    }

    #[getter]
    fn mtu(&self) -> Option<u32> {
        self.0.mtu
    }

    #[getter]
    fn stale(&self) -> bool {
        self.0.stale
    }

    #[getter]
    fn quoted(&self) -> &[u8] {
        &self.0.quoted
    }
}

/// Whether an address means something on one interface only.
fn is_scoped(ip: Ipv6Addr) -> bool {
    let link_local_group = ip.is_multicast() && ip.segments()[0] & 0xf <= 2;
    ip.is_unicast_link_local() || link_local_group
}

/// An `udpkit.facts.Endpoint`.
fn endpoint(py: Python<'_>, address: SocketAddr) -> PyResult<Bound<'_, PyAny>> {
    static ENDPOINT: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let class = ENDPOINT.import(py, "udpkit.facts", "Endpoint")?;
    match address {
        SocketAddr::V6(v6) if v6.scope_id() != 0 => {
            static IPV6_ADDRESS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
            let scoped = format!("{}%{}", v6.ip(), v6.scope_id());
            let ip = IPV6_ADDRESS.import(py, "ipaddress", "IPv6Address")?.call1((scoped,))?;
            class.call1((ip, v6.port()))
        }
        _ => class.call1((self::address(py, address.ip())?, address.port())),
    }
}

/// The address as Python has it. The last few are kept: making one takes longer than all else about a datagram.
fn address(py: Python<'_>, ip: IpAddr) -> PyResult<Bound<'_, PyAny>> {
    static KEPT: Mutex<VecDeque<(IpAddr, Py<PyAny>)>> = Mutex::new(VecDeque::new());
    // The lock is not held while Python runs, which may let another thread run that waits for it.
    let kept = || KEPT.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((_, made)) = kept().iter().find(|(known, _)| *known == ip) {
        return Ok(made.bind(py).clone());
    }
    let made = ip.into_pyobject(py)?;
    let forgotten = {
        let mut kept = kept();
        kept.push_front((ip, made.clone().unbind()));
        if kept.len() > 8 { kept.pop_back() } else { None }
    };
    drop(forgotten);
    Ok(made)
}
