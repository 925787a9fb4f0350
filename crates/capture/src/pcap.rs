//! Classic pcap files (draft-ietf-opsawg-pcap): a file header of 24 bytes, then records of a 16-byte header
//! and the captured bytes.
//!
//! Read here and not by pcap-parser: its streaming reader takes a short first read for a broken file, loses
//! the error of a failed read and does not bound a record other than by its buffer; working around that is
//! longer than the format.

use std::io::{self, Read};

use thiserror::Error;

use crate::link::LinkType;
use crate::message::{Message, dissect};

/// No capture program writes longer records: `MAXIMUM_SNAPLEN` of libpcap.
const LONGEST_RECORD: u32 = 262_144;
/// Some programs write records longer than the snapshot length in their own file header, but no longer than a
/// packet.
const LONGEST_PACKET: u32 = 65_535;

/// One captured packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// Number in the file, from 1, as tcpdump and Wireshark count.
    pub number: u64,
    /// Nanoseconds since the epoch.
    pub time_ns: u64,
    /// What `data` starts with.
    pub link_type: LinkType,
    /// What was captured of the packet.
    pub data: &'a [u8],
}

impl<'a> Record<'a> {
    /// What the packet says about UDP, if anything.
    #[must_use]
    pub fn message(&self) -> Option<Message<'a>> {
        dissect(self.link_type, self.data)
    }
}

/// Why a file was not taken for a pcap file.
#[derive(Debug, Error)]
pub enum NotPcap {
    /// Shorter than the file header.
    #[error("not a pcap file: {found} bytes, less than a file header")]
    TooShort {
        /// Bytes that there are.
        found: usize,
    },
    /// The other capture format.
    #[error("not a pcap file: it is pcapng")]
    Pcapng,
    /// Something else.
    #[error("not a pcap file: it starts with the bytes {}", Hex(.magic))]
    UnknownMagic {
        /// The first four bytes.
        magic: [u8; 4],
    },
    /// A pcap file of a version other than 2.4, which is the only one that was written since 1998.
    #[error("pcap version {major}.{minor} is not supported")]
    UnknownVersion {
        /// Major version.
        major: u16,
        /// Minor version.
        minor: u16,
    },
    /// Reading failed.
    #[error("cannot read the capture: {0}")]
    Unreadable(#[from] io::Error),
}

struct Hex<'a>(&'a [u8]);

impl std::fmt::Display for Hex<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(formatter, "{byte:02x}"))
    }
}

/// The end of what can be read of a capture. Where a record should start next cannot be known behind it.
#[derive(Debug, Error)]
#[error("damaged at byte {offset}: {what}")]
pub struct Damage {
    /// Where in the file the damaged record starts, in bytes.
    pub offset: u64,
    /// What is wrong with it.
    #[source]
    pub what: DamageKind,
}

/// What is wrong with a record.
#[derive(Debug, Error)]
pub enum DamageKind {
    /// The file ends within the record's header.
    #[error("the file ends within a record header")]
    HeaderCut,
    /// The file ends within the captured bytes.
    #[error("the file ends within a record, {missing} bytes short")]
    DataCut {
        /// Bytes that are not there.
        missing: usize,
    },
    /// The record claims to hold more than can be true.
    #[error("a record claims {claimed} captured bytes, more than the {longest} that can be")]
    TooLong {
        /// Bytes that the record claims.
        claimed: u32,
        /// The most that is believed.
        longest: u32,
    },
    /// Reading failed.
    #[error("cannot read on: {0}")]
    Unreadable(#[from] io::Error),
}

/// Reads the records of a pcap file one by one, in constant memory.
///
/// It asks the source for a few bytes at a time: wrap a file in a [`std::io::BufReader`].
#[derive(Debug)]
pub struct PcapReader<R> {
    source: R,
    header: FileHeader,
    /// Where the next record starts.
    offset: u64,
    /// Records read so far.
    number: u64,
    data: Vec<u8>,
    ended: bool,
}

impl<R: Read> PcapReader<R> {
    /// Reads the file header.
    ///
    /// # Errors
    ///
    /// The source does not start with the header of a pcap file, or cannot be read.
    pub fn new(mut source: R) -> Result<Self, NotPcap> {
        let mut header = [0; FileHeader::LENGTH];
        let found = fill(&mut source, &mut header)?;
        Ok(Self {
            source,
            header: FileHeader::decode(&header, found)?,
            offset: FileHeader::LENGTH as u64,
            number: 0,
            data: Vec::new(),
            ended: false,
        })
    }

    /// The next record. `None` is the end of the file; a [`Damage`] is the last thing before it.
    pub fn next_record(&mut self) -> Option<Result<Record<'_>, Damage>> {
        if self.ended {
            return None;
        }
        match self.read_record() {
            Ok(Some(time_ns)) => Some(Ok(Record {
                number: self.number,
                time_ns,
                link_type: self.header.link_type,
                data: &self.data,
            })),
            Ok(None) => {
                self.ended = true;
                None
            }
            Err(what) => {
                self.ended = true;
                Some(Err(Damage { offset: self.offset, what }))
            }
        }
    }

    /// Reads a record into `data` and returns its time.
    fn read_record(&mut self) -> Result<Option<u64>, DamageKind> {
        let mut bytes = [0; RecordHeader::LENGTH];
        match fill(&mut self.source, &mut bytes)? {
            0 => return Ok(None),
            RecordHeader::LENGTH => {}
            _ => return Err(DamageKind::HeaderCut),
        }
        let record = RecordHeader::decode(&bytes, &self.header);
        let longest = self.header.longest_record;
        if record.captured > longest {
            return Err(DamageKind::TooLong { claimed: record.captured, longest });
        }
        let captured = record.captured as usize;
        self.data.resize(captured, 0);
        let found = fill(&mut self.source, &mut self.data)?;
        if found < captured {
            return Err(DamageKind::DataCut { missing: captured - found });
        }
        self.offset += (RecordHeader::LENGTH + captured) as u64;
        self.number += 1;
        Ok(Some(record.time_ns))
    }
}

#[derive(Clone, Copy, Debug)]
enum ByteOrder {
    Little,
    Big,
}

impl ByteOrder {
    const fn u16(self, bytes: [u8; 2]) -> u16 {
        match self {
            Self::Little => u16::from_le_bytes(bytes),
            Self::Big => u16::from_be_bytes(bytes),
        }
    }

    const fn u32(self, bytes: [u8; 4]) -> u32 {
        match self {
            Self::Little => u32::from_le_bytes(bytes),
            Self::Big => u32::from_be_bytes(bytes),
        }
    }
}

/// What the file header says about the records.
#[derive(Debug)]
struct FileHeader {
    order: ByteOrder,
    /// Nanoseconds in a unit of the second half of a record's time.
    fraction_ns: u64,
    link_type: LinkType,
    longest_record: u32,
}

impl FileHeader {
    const LENGTH: usize = 24;

    fn decode(bytes: &[u8; Self::LENGTH], found: usize) -> Result<Self, NotPcap> {
        let magic = [bytes[0], bytes[1], bytes[2], bytes[3]];
        let (order, fraction_ns) = match magic {
            [0xd4, 0xc3, 0xb2, 0xa1] => (ByteOrder::Little, 1000),
            [0xa1, 0xb2, 0xc3, 0xd4] => (ByteOrder::Big, 1000),
            [0x4d, 0x3c, 0xb2, 0xa1] => (ByteOrder::Little, 1),
            [0xa1, 0xb2, 0x3c, 0x4d] => (ByteOrder::Big, 1),
            [0x0a, 0x0d, 0x0d, 0x0a] => return Err(NotPcap::Pcapng),
            _ if found < magic.len() => return Err(NotPcap::TooShort { found }),
            _ => return Err(NotPcap::UnknownMagic { magic }),
        };
        if found < Self::LENGTH {
            return Err(NotPcap::TooShort { found });
        }
        let major = order.u16([bytes[4], bytes[5]]);
        let minor = order.u16([bytes[6], bytes[7]]);
        if (major, minor) != (2, 4) {
            return Err(NotPcap::UnknownVersion { major, minor });
        }
        let snapshot_length = order.u32([bytes[16], bytes[17], bytes[18], bytes[19]]);
        // The upper half of this field tells about frame check sequences.
        let [_, _, high, low] = order.u32([bytes[20], bytes[21], bytes[22], bytes[23]]).to_be_bytes();
        Ok(Self {
            order,
            fraction_ns,
            link_type: LinkType(u16::from_be_bytes([high, low])),
            longest_record: match snapshot_length {
                0 => LONGEST_RECORD,
                length => length.clamp(LONGEST_PACKET, LONGEST_RECORD),
            },
        })
    }
}

struct RecordHeader {
    time_ns: u64,
    captured: u32,
}

impl RecordHeader {
    const LENGTH: usize = 16;

    fn decode(bytes: &[u8; Self::LENGTH], file: &FileHeader) -> Self {
        let seconds = file.order.u32([bytes[0], bytes[1], bytes[2], bytes[3]]);
        let fraction = file.order.u32([bytes[4], bytes[5], bytes[6], bytes[7]]);
        Self {
            // Cannot overflow: 2^32 seconds and 2^32 microseconds are less than 2^63 nanoseconds.
            time_ns: u64::from(seconds) * 1_000_000_000 + u64::from(fraction) * file.fraction_ns,
            captured: file.order.u32([bytes[8], bytes[9], bytes[10], bytes[11]]),
        }
    }
}

/// Reads until the buffer is full or the source ends, and returns how much that was.
fn fill(source: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match source.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}
