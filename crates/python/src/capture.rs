//! Captures, read whole.

use std::net::IpAddr;

use pyo3::prelude::*;
use pyo3::types::PyList;
use udpkit_capture::{Input, Message, Stamped, Tally, open_capture};

use crate::errors::Result;

/// What a pcap file says about UDP.
#[pyclass(frozen, get_all, module = "udpkit._native")]
pub(crate) struct PcapFile {
    packets: u64,
    datagrams: Py<PyList>,
    icmp_errors: Py<PyList>,
    skipped: u64,
    damage: Option<String>,
}

/// A captured UDP datagram.
#[pyclass(frozen, get_all, module = "udpkit._native")]
pub(crate) struct PcapDatagram {
    packet: u64,
    time_ns: u64,
    source: IpAddr,
    source_port: u16,
    destination: IpAddr,
    destination_port: u16,
    length: u16,
    payload: Vec<u8>,
}

/// A captured ICMP error about a UDP datagram.
#[pyclass(frozen, get_all, module = "udpkit._native")]
pub(crate) struct PcapIcmpError {
    packet: u64,
    time_ns: u64,
    sender: IpAddr,
    receiver: IpAddr,
    icmp_type: u8,
    code: u8,
    mtu: Option<u32>,
    quoted: Option<Quoted>,
}

/// The datagram that an ICMP error quotes.
#[pyclass(frozen, get_all, module = "udpkit._native")]
#[derive(Clone)]
pub(crate) struct Quoted {
    source: IpAddr,
    source_port: u16,
    destination: IpAddr,
    destination_port: u16,
    length: Option<u16>,
}

impl From<udpkit_capture::Quoted> for Quoted {
    fn from(quoted: udpkit_capture::Quoted) -> Self {
        Self {
            source: quoted.source.ip(),
            source_port: quoted.source.port(),
            destination: quoted.destination.ip(),
            destination_port: quoted.destination.port(),
            length: quoted.length,
        }
    }
}

/// Read a capture.
#[pyfunction]
#[pyo3(signature = (data, /))]
pub(crate) fn read_pcap(py: Python<'_>, data: Vec<u8>) -> Result<PcapFile> {
    let found = py.detach(|| Found::read(data))?;
    Ok(PcapFile {
        packets: found.tally.packets,
        skipped: found.tally.packets - (found.datagrams.len() + found.icmp_errors.len()) as u64,
        datagrams: PyList::new(py, found.datagrams)?.unbind(),
        icmp_errors: PyList::new(py, found.icmp_errors)?.unbind(),
        damage: found.tally.damage.into_iter().next(),
    })
}

/// What was found while other Python threads run: nothing here is a Python object yet.
#[derive(Default)]
struct Found {
    tally: Tally,
    datagrams: Vec<PcapDatagram>,
    icmp_errors: Vec<PcapIcmpError>,
}

impl Found {
    fn read(data: Vec<u8>) -> Result<Self> {
        let mut capture = open_capture(Input::new(Box::new(std::io::Cursor::new(data)))?)?;
        let mut found = Self::default();
        while let Some(said) = capture.next_message() {
            found.add(&said);
        }
        found.tally = capture.tally().clone();
        Ok(found)
    }

    fn add(&mut self, said: &Stamped<'_>) {
        // Without a time of its own, as pcapng's simple packets: the epoch.
        let (packet, time_ns) = (said.number, said.time_ns.unwrap_or(0));
        match said.message {
            Message::Datagram { source, destination, length, payload, .. } => {
                self.datagrams.push(PcapDatagram {
                    packet,
                    time_ns,
                    source: source.ip(),
                    source_port: source.port(),
                    destination: destination.ip(),
                    destination_port: destination.port(),
                    length,
                    payload: payload.to_vec(),
                });
            }
            Message::IcmpError { sender, receiver, icmp_type, code, mtu, quoted } => {
                let quoted = quoted.map(Quoted::from);
                self.icmp_errors.push(PcapIcmpError {
                    packet,
                    time_ns,
                    sender,
                    receiver,
                    icmp_type,
                    code,
                    mtu,
                    quoted,
                });
            }
            Message::FragmentLost { .. } => {}
        }
    }
}
