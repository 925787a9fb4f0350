//! Classic pcap files (draft-ietf-opsawg-pcap): a file header of 24 bytes, then records of a 16-byte header
//! and the captured bytes.
//!
//! Read here and not by pcap-parser: its streaming reader takes a short first read for a broken file, loses
//! the error of a failed read and does not bound a record other than by its buffer; working around that is
//! longer than the format.

use std::io::BufRead;

use crate::capture::{Format, Frame, NotACapture};
use crate::input::Input;
use crate::link::LinkType;
use crate::message::Tally;

/// No capture program writes longer records: `MAXIMUM_SNAPLEN` of libpcap.
pub(crate) const LONGEST_RECORD: usize = 262_144;
/// How far a record's time may be from its neighbour's, in seconds, when records are searched behind damage.
const NEIGHBOURS: u32 = 24 * 60 * 60;
/// Records in a row that are believed to be ones when they are searched behind damage.
const CHAIN: usize = 3;
/// How far they are searched, in bytes.
pub(crate) const SEARCHED: u64 = 64 << 20;
/// Buffered when the search begins, so that the buffer is seldom moved.
pub(crate) const SEARCH_STEP: usize = 64 << 10;

#[derive(Clone, Copy, Debug)]
pub(crate) enum ByteOrder {
    Little,
    Big,
}

impl ByteOrder {
    pub(crate) const fn u16(self, bytes: [u8; 2]) -> u16 {
        match self {
            Self::Little => u16::from_le_bytes(bytes),
            Self::Big => u16::from_be_bytes(bytes),
        }
    }

    pub(crate) const fn u32(self, bytes: [u8; 4]) -> u32 {
        match self {
            Self::Little => u32::from_le_bytes(bytes),
            Self::Big => u32::from_be_bytes(bytes),
        }
    }
}

/// A pcap file, and how far it was read.
pub(crate) struct Pcap {
    order: ByteOrder,
    /// Nanoseconds in a unit of the second half of a record's time.
    fraction_ns: u32,
    link_type: LinkType,
    /// Bytes of a record's header.
    header: usize,
    /// The captured and the original length may be in each other's place: before version 2.4.
    old: bool,
    /// Length with its header of the record that was handed out last: it is still buffered.
    taken: usize,
    /// Seconds of its time.
    seconds: Option<u32>,
}

/// What a record's header says.
#[derive(Clone, Copy)]
struct Record {
    seconds: u32,
    fraction: u32,
    captured: usize,
    original: usize,
}

impl Pcap {
    const FILE_HEADER: usize = 24;

    pub(crate) fn open(input: &mut Input) -> Result<Self, NotACapture> {
        let found = input.fill(Self::FILE_HEADER).len();
        let Some(bytes) = input.buffered().first_chunk::<{ Self::FILE_HEADER }>() else {
            return Err(input.failure().map_or(NotACapture::TooShort(found), Into::into));
        };
        let magic = [bytes[0], bytes[1], bytes[2], bytes[3]];
        // The last kind is from patched libpcaps of the nineties: its records have eight more bytes of header.
        let (order, fraction_ns, header) = match magic {
            [0xd4, 0xc3, 0xb2, 0xa1] => (ByteOrder::Little, 1000, 16),
            [0xa1, 0xb2, 0xc3, 0xd4] => (ByteOrder::Big, 1000, 16),
            [0x4d, 0x3c, 0xb2, 0xa1] => (ByteOrder::Little, 1, 16),
            [0xa1, 0xb2, 0x3c, 0x4d] => (ByteOrder::Big, 1, 16),
            [0x34, 0xcd, 0xb2, 0xa1] => (ByteOrder::Little, 1000, 24),
            [0xa1, 0xb2, 0xcd, 0x34] => (ByteOrder::Big, 1000, 24),
            _ => return Err(NotACapture::UnknownMagic(magic.to_vec())),
        };
        let major = order.u16([bytes[4], bytes[5]]);
        let minor = order.u16([bytes[6], bytes[7]]);
        if major != 2 {
            return Err(NotACapture::UnknownVersion(major, minor));
        }
        // The upper half of this field tells about frame check sequences.
        let [_, _, high, low] = order.u32([bytes[20], bytes[21], bytes[22], bytes[23]]).to_be_bytes();
        let link_type = LinkType(u16::from_be_bytes([high, low]));
        Ok(Self {
            order,
            fraction_ns,
            link_type,
            header,
            old: minor < 4,
            // As if the file header were a record.
            taken: Self::FILE_HEADER,
            seconds: None,
        })
    }

    /// `None`: it is not there, or cannot be one.
    fn record(&self, bytes: &[u8]) -> Option<Record> {
        let bytes = bytes.first_chunk::<16>()?;
        let seconds = self.order.u32([bytes[0], bytes[1], bytes[2], bytes[3]]);
        let fraction = self.order.u32([bytes[4], bytes[5], bytes[6], bytes[7]]);
        let mut captured = self.order.u32([bytes[8], bytes[9], bytes[10], bytes[11]]) as usize;
        let mut original = self.order.u32([bytes[12], bytes[13], bytes[14], bytes[15]]) as usize;
        if self.old && original < captured {
            (captured, original) = (original, captured);
        }
        Some(Record { seconds, fraction, captured, original })
    }

    /// Do records start here that one would believe without knowing where the last one ended?
    fn is_chain(&self, mut bytes: &[u8], ended: bool) -> bool {
        let mut seconds: Option<u32> = None;
        for found in 0..CHAIN {
            let Some(record) = self.record(bytes) else {
                // A single record is believed if it ends with the file and fits to what was before.
                let fits =
                    found > 1 || seconds.zip(self.seconds).is_some_and(|(a, b)| a.abs_diff(b) <= NEIGHBOURS);
                return found > 0 && fits && (bytes.is_empty() || found > 1) && ended;
            };
            let plausible = record.captured > 0
                && record.captured <= LONGEST_RECORD
                && record.captured <= record.original
                && record.original <= LONGEST_RECORD
                && u64::from(record.fraction) * u64::from(self.fraction_ns) < 1_000_000_000
                && seconds.is_none_or(|before: u32| before.abs_diff(record.seconds) <= NEIGHBOURS);
            if !plausible {
                return false;
            }
            seconds = Some(record.seconds);
            let Some(rest) = bytes.get(self.header + record.captured..) else {
                // The next one is beyond the file or the buffer.
                return found > 0;
            };
            bytes = rest;
        }
        true
    }

    /// Goes to where records start again: from within the last one on, whose length may have been the lie.
    fn resynchronise(&mut self, input: &mut Input) -> bool {
        self.taken = 0;
        let limit = input.offset() + SEARCHED;
        while input.offset() < limit {
            if input.buffered().len() < SEARCH_STEP {
                input.fill(crate::input::BUFFER);
            }
            let ended = input.has_ended();
            let bytes = input.buffered();
            // Leaves enough for a chain, unless there is no more.
            let last = if ended { bytes.len() } else { bytes.len() / 2 };
            if let Some(found) = (1..last).find(|&start| self.is_chain(&bytes[start..], ended)) {
                input.consume(found);
                return true;
            }
            if ended {
                break;
            }
            input.consume(last);
        }
        false
    }
}

impl Format for Pcap {
    fn next_frame(&mut self, input: &mut Input, tally: &mut Tally) -> Option<Frame> {
        loop {
            let found = input.fill(self.taken + self.header).len();
            let here = input.offset() + self.taken as u64;
            let what = match self.record(&input.buffered()[self.taken.min(found)..]) {
                None if found <= self.taken && input.failure().is_none() => {
                    input.consume(found);
                    return None;
                }
                None => "the file ends within a record header".to_owned(),
                Some(record) if record.captured > LONGEST_RECORD => format!(
                    "a record claims {} captured bytes, more than the {LONGEST_RECORD} that can be",
                    record.captured
                ),
                Some(record) => {
                    input.consume(self.taken);
                    self.taken = self.header + record.captured;
                    let found = input.fill(self.taken).len();
                    if found >= self.taken {
                        self.seconds = Some(record.seconds);
                        return Some(Frame {
                            // Cannot overflow: 2^32 seconds and 2^32 microseconds are less than 2^63 ns.
                            time_ns: Some(
                                u64::from(record.seconds) * 1_000_000_000
                                    + u64::from(record.fraction) * u64::from(self.fraction_ns),
                            ),
                            link_type: self.link_type,
                            data: self.header..self.taken,
                            missing: record.original.saturating_sub(record.captured),
                        });
                    }
                    format!("the file ends within a record, {} bytes short", self.taken - found)
                }
            };
            let what = input.failure().map_or(what, |error| format!("cannot read on: {error}"));
            tally.add_damage(&format!("damaged at byte {here}: {what}"));
            if !self.resynchronise(input) {
                return None;
            }
        }
    }
}
