//! A capture of either format as a source of messages.

use std::io;
use std::ops::Range;

use thiserror::Error;

use crate::dissector::Dissector;
use crate::fragments::Stamp;
use crate::input::Input;
use crate::link::{LinkType, NoPacket};
use crate::message::{Clock, Messages, Stamped, Tally};
use crate::pcap::Pcap;
use crate::pcapng::Pcapng;

/// The format of a capture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CaptureKind {
    /// draft-ietf-opsawg-pcap.
    Pcap,
    /// draft-ietf-opsawg-pcapng.
    Pcapng,
}

/// Why an input was not taken for a capture.
#[derive(Debug, Error)]
pub enum NotACapture {
    /// It does not start like one.
    #[error("not a capture: it starts with the bytes {}", Hex(.0))]
    UnknownMagic(Vec<u8>),
    /// The file header is cut.
    #[error("not a capture: {0} bytes, less than a file header")]
    TooShort(usize),
    /// A pcap file of a version of which nothing is known.
    #[error("pcap version {0}.{1} is not supported")]
    UnknownVersion(u16, u16),
    /// Reading failed.
    #[error("cannot read the capture: {0}")]
    Unreadable(String),
}

struct Hex<'a>(&'a [u8]);

impl std::fmt::Display for Hex<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(formatter, "{byte:02x}"))
    }
}

/// Does a file that starts with these bytes look like a capture? Twelve of them are enough.
#[must_use]
pub fn is_capture(head: &[u8]) -> Option<CaptureKind> {
    match *head {
        [0xa1, 0xb2, 0xc3, 0xd4, ..]
        | [0xd4, 0xc3, 0xb2, 0xa1, ..]
        | [0xa1, 0xb2, 0x3c, 0x4d, ..]
        | [0x4d, 0x3c, 0xb2, 0xa1, ..]
        | [0xa1, 0xb2, 0xcd, 0x34, ..]
        | [0x34, 0xcd, 0xb2, 0xa1, ..] => Some(CaptureKind::Pcap),
        [0x0a, 0x0d, 0x0d, 0x0a, _, _, _, _, 0x1a, 0x2b, 0x3c, 0x4d, ..]
        | [0x0a, 0x0d, 0x0d, 0x0a, _, _, _, _, 0x4d, 0x3c, 0x2b, 0x1a, ..] => Some(CaptureKind::Pcapng),
        _ => None,
    }
}

/// Would [`open_capture`] open it? Nothing is taken from the input.
///
/// # Errors
///
/// Those of [`open_capture`].
pub fn check_capture(input: &mut Input) -> Result<CaptureKind, NotACapture> {
    let head = input.head();
    match is_capture(head) {
        Some(CaptureKind::Pcap) => Pcap::open(input).map(|_| CaptureKind::Pcap),
        Some(CaptureKind::Pcapng) => Ok(CaptureKind::Pcapng),
        None if head.len() < 12 => Err(NotACapture::TooShort(head.len())),
        None => Err(NotACapture::UnknownMagic(head[..4].to_vec())),
    }
}

/// Opens a capture of either format.
///
/// # Errors
///
/// The input does not start with the header of a capture that can be read.
pub fn open_capture(mut input: Input) -> Result<Box<dyn Messages + Send>, NotACapture> {
    match check_capture(&mut input)? {
        CaptureKind::Pcap => Ok(Box::new(Capture::new(Pcap::open(&mut input)?, input))),
        CaptureKind::Pcapng => Ok(Box::new(Capture::new(Pcapng::default(), input))),
    }
}

/// A captured packet, and where in the buffer of the input it is until the next one is asked for.
pub(crate) struct Frame {
    pub(crate) time_ns: Option<u64>,
    pub(crate) link_type: LinkType,
    pub(crate) data: Range<usize>,
    /// Bytes at its end that were not captured.
    pub(crate) missing: usize,
}

/// A file format: finds the packets.
pub(crate) trait Format {
    fn next_frame(&mut self, input: &mut Input, tally: &mut Tally) -> Option<Frame>;
}

struct Capture<F> {
    format: F,
    input: Input,
    dissector: Dissector,
    tally: Tally,
    /// Where in the buffer of the input the last packet is.
    packet: Range<usize>,
    ended: bool,
}

impl<F: Format> Capture<F> {
    fn new(format: F, input: Input) -> Self {
        let (dissector, tally) = Default::default();
        Self { format, input, dissector, tally, packet: 0..0, ended: false }
    }

    /// Goes to the next packet that says something.
    fn advance(&mut self) -> bool {
        loop {
            if self.dissector.loses() {
                return true;
            }
            if self.ended {
                return false;
            }
            let Some(frame) = self.format.next_frame(&mut self.input, &mut self.tally) else {
                self.ended = true;
                self.dissector.end();
                continue;
            };
            self.tally.packets += 1;
            if let Some(time_ns) = frame.time_ns {
                self.tally.add_time(time_ns);
            }
            let data = &self.input.buffered()[frame.data.clone()];
            let stamp = Stamp { number: self.tally.packets, time_ns: frame.time_ns };
            let said = self.dissector.dissect(stamp, frame.link_type, frame.missing, data);
            self.packet = frame.data;
            match said {
                Ok(true) if self.dissector.found_datagram() => self.tally.datagrams += 1,
                Ok(true) => self.tally.icmp_errors += 1,
                Ok(false) | Err(NoPacket::Other) => continue,
                Err(NoPacket::Unread(why)) => {
                    self.tally.add_unread(why);
                    continue;
                }
                Err(NoPacket::UnknownLink(number)) => {
                    self.tally.add_unread(&format!("link type {number}"));
                    continue;
                }
            }
            return true;
        }
    }
}

impl<F: Format> Messages for Capture<F> {
    fn next_message(&mut self) -> Option<Stamped<'_>> {
        if !self.advance() {
            return None;
        }
        let packet = self.input.buffered().get(self.packet.clone()).unwrap_or_default();
        self.dissector.said(packet)
    }

    fn tally(&self) -> &Tally {
        &self.tally
    }

    fn clock(&self) -> Clock {
        Clock::Epoch
    }
}

impl From<&io::Error> for NotACapture {
    fn from(error: &io::Error) -> Self {
        Self::Unreadable(error.to_string())
    }
}
