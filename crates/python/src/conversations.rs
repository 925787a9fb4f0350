//! What captures add up to, as `udpkit.facts`.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::ops::ControlFlow;
use std::sync::Arc;

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};
use udpkit_capture::{Book, Conversation, Errors, Flow, Moment};

use crate::errors::{Error, Result};
use crate::inputs::{Input, Kind, Watch};

/// The most conversations that are handed out.
const MOST: usize = 100_000;
/// Signals are looked for after so many.
const STEP: usize = 1000;

/// How much of a source was understood.
#[pyclass(frozen, get_all, module = "udpkit._native")]
pub(crate) struct Tally {
    kind: &'static str,
    packets: u64,
    datagrams: u64,
    icmp_errors: u64,
    unread: HashMap<String, u64>,
    damage: Vec<String>,
    last_ns: Option<u64>,
}

/// Tallies, conversations, and how many more of them there are.
type Found = (Vec<Tally>, Vec<Py<PyAny>>, u64);

/// Read captures together.
#[pyfunction]
#[pyo3(signature = (inputs, /, progress = None, *, sources = None, keep = None))]
pub(crate) fn read(
    py: Python<'_>,
    inputs: Vec<Py<Input>>,
    progress: Option<Py<PyAny>>,
    sources: Option<Vec<u32>>,
    keep: Option<Vec<(IpAddr, u16)>>,
) -> Result<Found> {
    let indices = sources.unwrap_or_else(|| (0..).take(inputs.len()).collect());
    if indices.len() != inputs.len() || inputs.len() > usize::from(u16::MAX) {
        return Err(Error::value("an index for each input, and at most 65,535 of them".to_owned()));
    }
    let watch = Arc::new(Watch::new(progress));
    let opened: Result<Vec<_>> =
        py.detach(|| inputs.into_iter().map(|input| input.get().open(&watch)).collect());
    watch.raised()?;
    let (kinds, mut messages): (Vec<Kind>, Vec<_>) = opened?.into_iter().unzip();
    let mut book = Book::new();
    book.keep(keep.into_iter().flatten().map(SocketAddr::from));
    let _ = py.detach(|| {
        book.read(&mut messages, || {
            if watch.go_on(false) { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })
    });
    watch.raised()?;
    let names = messages.iter().flat_map(|source| source.names()).collect();
    let references = indices.into_iter().zip(kinds.iter().map(|kind| kind.is_text())).collect();
    let mut facts = Facts::new(py, names, references)?;
    let remarkable = py.detach(|| book.remarkable(MOST));
    let unjudged = remarkable.unjudged;
    let mut conversations = Vec::new();
    for conversation in remarkable {
        if conversations.len() % STEP == 0 {
            py.check_signals()?;
        }
        conversations.push(facts.conversation(&conversation)?.unbind());
    }
    let tallies = kinds.iter().zip(&messages).map(|(kind, source)| {
        let tally = source.tally();
        Tally {
            kind: kind.name(),
            packets: tally.packets,
            datagrams: tally.datagrams,
            icmp_errors: tally.icmp_errors,
            unread: tally.unread.iter().map(|(why, count)| (why.clone(), *count)).collect(),
            damage: tally.damage.clone(),
            last_ns: tally.last_ns,
        }
    });
    Ok((tallies.collect(), conversations, unjudged))
}

/// Makes the value types of `udpkit.facts`. What recurs is made once.
pub(crate) struct Facts<'py> {
    py: Python<'py>,
    classes: Classes<'py>,
    names: HashMap<IpAddr, String>,
    /// The index of each source in the case, and whether its messages are numbered by lines.
    references: Vec<(u32, bool)>,
    addresses: HashMap<IpAddr, Bound<'py, PyAny>>,
    endpoints: HashMap<SocketAddr, Bound<'py, PyAny>>,
    /// No strays and no errors, which most conversations have.
    nothing: Bound<'py, PyTuple>,
}

struct Classes<'py> {
    named_ipv4: Bound<'py, PyAny>,
    named_ipv6: Bound<'py, PyAny>,
    endpoint: Bound<'py, PyAny>,
    reference: Bound<'py, PyAny>,
    moment: Bound<'py, PyAny>,
    flow: Bound<'py, PyAny>,
    icmp_error: Bound<'py, PyAny>,
    errors: Bound<'py, PyAny>,
    conversation: Bound<'py, PyAny>,
}

impl<'py> Facts<'py> {
    pub(crate) fn new(
        py: Python<'py>,
        names: HashMap<IpAddr, String>,
        references: Vec<(u32, bool)>,
    ) -> PyResult<Self> {
        let facts = py.import("udpkit.facts")?;
        let class = |name: &str| facts.getattr(name);
        Ok(Self {
            py,
            classes: Classes {
                named_ipv4: class("NamedIPv4")?,
                named_ipv6: class("NamedIPv6")?,
                endpoint: class("Endpoint")?,
                reference: class("Reference")?,
                moment: class("Moment")?,
                flow: class("Flow")?,
                icmp_error: class("IcmpError")?,
                errors: class("Errors")?,
                conversation: class("Conversation")?,
            },
            names,
            references,
            addresses: HashMap::new(),
            endpoints: HashMap::new(),
            nothing: PyTuple::empty(py),
        })
    }

    fn address(&mut self, address: IpAddr) -> PyResult<Bound<'py, PyAny>> {
        if let Some(known) = self.addresses.get(&address) {
            return Ok(known.clone());
        }
        let made = match (self.names.get(&address), address) {
            (Some(name), IpAddr::V4(address)) => self.classes.named_ipv4.call1((address.to_bits(), name)),
            (Some(name), IpAddr::V6(address)) => self.classes.named_ipv6.call1((address.to_bits(), name)),
            (None, address) => address.into_pyobject(self.py),
        }?;
        self.addresses.insert(address, made.clone());
        Ok(made)
    }

    pub(crate) fn endpoint(&mut self, endpoint: SocketAddr) -> PyResult<Bound<'py, PyAny>> {
        if let Some(known) = self.endpoints.get(&endpoint) {
            return Ok(known.clone());
        }
        let address = self.address(endpoint.ip())?;
        let made = self.classes.endpoint.call1((address, endpoint.port()))?;
        self.endpoints.insert(endpoint, made.clone());
        Ok(made)
    }

    fn reference(&self, moment: &Moment) -> PyResult<Bound<'py, PyAny>> {
        let (index, is_text) = self.references[usize::from(moment.source)];
        if is_text {
            self.classes.reference.call1((index, self.py.None(), moment.number))
        } else {
            self.classes.reference.call1((index, moment.number))
        }
    }

    pub(crate) fn moment(&self, moment: &Moment) -> PyResult<Bound<'py, PyAny>> {
        self.classes.moment.call1((moment.order, moment.time_ns, self.reference(moment)?))
    }

    fn first_and_last(&self, first: &Moment, last: &Moment) -> PyResult<[Bound<'py, PyAny>; 2]> {
        let made = self.moment(first)?;
        let last = if first == last { made.clone() } else { self.moment(last)? };
        Ok([made, last])
    }

    fn flow(&self, flow: &Flow) -> PyResult<Bound<'py, PyAny>> {
        let [first, last] = self.first_and_last(&flow.first, &flow.last)?;
        self.classes.flow.call1((
            flow.count,
            first,
            last,
            flow.largest,
            flow.bad_checksums,
            flow.lost_fragments,
        ))
    }

    fn flows(&mut self, flows: &[(SocketAddr, Flow)]) -> PyResult<Bound<'py, PyDict>> {
        let by_end = PyDict::new(self.py);
        for (end, flow) in flows {
            by_end.set_item(self.endpoint(*end)?, self.flow(flow)?)?;
        }
        Ok(by_end)
    }

    fn errors(&mut self, errors: &Errors) -> PyResult<Bound<'py, PyAny>> {
        let [first, last] = self.first_and_last(&errors.first, &errors.last)?;
        let error = (
            first.getattr("seen")?,
            errors.first.time_ns.unwrap_or(0),
            self.address(errors.sender)?,
            self.address(errors.receiver)?,
            errors.icmp_type,
            errors.code,
            self.endpoint(errors.quoted_source)?,
            self.endpoint(errors.quoted_destination)?,
            errors.mtu,
        );
        let error = self.classes.icmp_error.call1(error)?;
        self.classes.errors.call1((error, errors.count, first, last))
    }

    pub(crate) fn conversation(&mut self, one: &Conversation) -> PyResult<Bound<'py, PyAny>> {
        let strays = self.flows(&one.strays)?;
        let errors = if one.errors.is_empty() {
            self.nothing.clone()
        } else {
            let errors: PyResult<Vec<_>> = one.errors.iter().map(|errors| self.errors(errors)).collect();
            PyTuple::new(self.py, errors?)?
        };
        let fields = (
            self.endpoint(one.client)?,
            self.endpoint(one.server)?,
            one.requests.as_ref().map(|flow| self.flow(flow)).transpose()?,
            one.replies.as_ref().map(|flow| self.flow(flow)).transpose()?,
            strays,
            errors,
            one.answers_others,
            one.client_hears,
            self.flows(&one.also_answered)?,
        );
        self.classes.conversation.call1(fields)
    }
}
