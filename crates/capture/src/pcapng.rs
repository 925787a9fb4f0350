//! pcapng files (draft-ietf-opsawg-pcapng): blocks of a type, a length, a body and the length again.

use std::io::BufRead;

use crate::capture::{Format, Frame};
use crate::input::{BUFFER, Input};
use crate::link::LinkType;
use crate::message::Tally;
use crate::pcap::{ByteOrder, LONGEST_RECORD, SEARCH_STEP, SEARCHED};

/// The longest block that Wireshark believes, of which ours is a round number.
const LONGEST_BLOCK: usize = 16 << 20;
/// More than any program describes in a section.
const INTERFACES: usize = 1 << 16;
/// Bytes that are not options or packet: type and length, and the length again.
const FRAME: usize = 12;

const CUT: &str = "the file ends within a block";

/// Types of blocks.
mod block {
    pub(super) const SECTION_HEADER: u32 = 0x0a0d_0d0a;
    pub(super) const INTERFACE: u32 = 1;
    pub(super) const OBSOLETE_PACKET: u32 = 2;
    pub(super) const SIMPLE_PACKET: u32 = 3;
    pub(super) const ENHANCED_PACKET: u32 = 6;
    /// The others that are registered and that programs write: names, statistics, journal, secrets, custom.
    pub(super) const OTHERS: [u32; 6] = [4, 5, 9, 10, 0x0bad, 0x4000_0bad];
}

/// A pcapng file, and how far it was read.
pub(crate) struct Pcapng {
    order: ByteOrder,
    interfaces: Vec<Interface>,
    /// Length of the block that was handed out last: it is still buffered.
    taken: usize,
}

impl Default for Pcapng {
    fn default() -> Self {
        Self { order: ByteOrder::Little, interfaces: Vec::new(), taken: 0 }
    }
}

/// What an interface description says.
#[derive(Clone, Copy)]
struct Interface {
    link_type: LinkType,
    snapshot_length: usize,
    unit: Unit,
    /// Nanoseconds to add.
    offset_ns: i128,
}

/// What a time counts in.
#[derive(Clone, Copy)]
enum Unit {
    /// Ten to the minus that.
    Decimal(u32),
    /// Two to the minus that.
    Binary(u32),
}

impl Interface {
    fn time_ns(&self, ticks: u64) -> u64 {
        if let (Unit::Decimal(6), 0) = (self.unit, self.offset_ns) {
            return ticks.saturating_mul(1000);
        }
        let ns = match self.unit {
            Unit::Decimal(digits @ ..=9) => u128::from(ticks) * 10_u128.pow(9 - digits),
            // Ticks are less than ten to the 20th.
            Unit::Decimal(digits) => u128::from(ticks) / 10_u128.pow((digits - 9).min(20)),
            Unit::Binary(bits) => (u128::from(ticks) * 1_000_000_000) >> bits.min(127),
        };
        let ns = i128::try_from(ns).unwrap_or(i128::MAX).saturating_add(self.offset_ns);
        u64::try_from(ns.max(0)).unwrap_or(u64::MAX)
    }
}

/// What a block is worth.
enum Block {
    Packet(Frame),
    /// Nothing, or what was remembered.
    Read,
    Bad(&'static str),
}

impl Pcapng {
    fn u32(&self, bytes: &[u8], at: usize) -> Option<u32> {
        bytes.get(at..)?.first_chunk().map(|bytes| self.order.u32(*bytes))
    }

    fn u16(&self, bytes: &[u8], at: usize) -> Option<u16> {
        bytes.get(at..)?.first_chunk().map(|bytes| self.order.u16(*bytes))
    }

    /// The length of a block. Some writers leave the padding out of it.
    fn length(&self, bytes: &[u8], at: usize) -> Option<usize> {
        (self.u32(bytes, at)? as usize).checked_next_multiple_of(4)
    }

    /// The byte order of the section that starts here, or else the one of the section we are in.
    fn order_of(&self, bytes: &[u8]) -> Result<ByteOrder, &'static str> {
        match *bytes {
            [0x0a, 0x0d, 0x0d, 0x0a, _, _, _, _, 0x4d, 0x3c, 0x2b, 0x1a, ..] => Ok(ByteOrder::Little),
            [0x0a, 0x0d, 0x0d, 0x0a, _, _, _, _, 0x1a, 0x2b, 0x3c, 0x4d, ..] => Ok(ByteOrder::Big),
            [0x0a, 0x0d, 0x0d, 0x0a, ..] => Err("a section of unknown byte order"),
            _ => Ok(self.order),
        }
    }

    /// Type and length of the block that starts here.
    fn header(&mut self, bytes: &[u8]) -> Result<(u32, usize), &'static str> {
        self.order = self.order_of(bytes)?;
        let kind = self.u32(bytes, 0).ok_or(CUT)?;
        let length = self.length(bytes, 4).ok_or(CUT)?;
        if !(FRAME..=LONGEST_BLOCK).contains(&length) {
            return Err("a block of an impossible length");
        }
        Ok((kind, length))
    }

    /// Is the length repeated at the end of a block? Of one that is longer than the buffer nobody knows.
    fn ends_well(&self, block: &[u8], length: usize) -> bool {
        block.len() < length || self.length(block, length - 4) == Some(length)
    }

    /// Takes in a block, of which as much is there as the buffer holds.
    fn read(&mut self, kind: u32, block: &[u8], length: usize) -> Block {
        match kind {
            block::SECTION_HEADER => {
                self.interfaces.clear();
                match self.u16(block, 12) {
                    Some(1) => Block::Read,
                    _ => Block::Bad("a section of an unknown version"),
                }
            }
            block::INTERFACE => match self.interface(block) {
                Some(_) if self.interfaces.len() >= INTERFACES => Block::Bad("too many interfaces"),
                Some(interface) => {
                    self.interfaces.push(interface);
                    Block::Read
                }
                None => Block::Bad("an interface description that is too short"),
            },
            block::ENHANCED_PACKET | block::OBSOLETE_PACKET => self.packet(kind, block, length),
            block::SIMPLE_PACKET => self.simple_packet(block),
            _ => Block::Read,
        }
    }

    fn interface(&self, block: &[u8]) -> Option<Interface> {
        let mut interface = Interface {
            link_type: LinkType(self.u16(block, 8)?),
            snapshot_length: self.u32(block, 12)? as usize,
            unit: Unit::Decimal(6),
            offset_ns: 0,
        };
        let mut options = block.get(16..block.len() - 4)?;
        while let (Some(code @ 1..), Some(length)) = (self.u16(options, 0), self.u16(options, 2)) {
            let length = usize::from(length);
            match (code, options.get(4..4 + length)) {
                (9, Some(&[resolution])) => {
                    let exponent = u32::from(resolution & 0x7f);
                    interface.unit =
                        if resolution & 0x80 == 0 { Unit::Decimal(exponent) } else { Unit::Binary(exponent) };
                }
                (14, Some(seconds)) if length == 8 => {
                    let seconds = seconds.first_chunk().map_or(0, |bytes| match self.order {
                        ByteOrder::Little => i64::from_le_bytes(*bytes),
                        ByteOrder::Big => i64::from_be_bytes(*bytes),
                    });
                    interface.offset_ns = i128::from(seconds) * 1_000_000_000;
                }
                _ => {}
            }
            options = options.get(4 + length.next_multiple_of(4)..).unwrap_or_default();
        }
        Some(interface)
    }

    fn packet(&self, kind: u32, block: &[u8], length: usize) -> Block {
        const HEADER: usize = 28;
        // In the obsolete block, a count of drops is in the upper half.
        let interface = match kind {
            block::ENHANCED_PACKET => self.u32(block, 8),
            _ => self.u16(block, 8).map(u32::from),
        };
        let (Some(interface), Some(high), Some(low), Some(captured), Some(original)) =
            (interface, self.u32(block, 12), self.u32(block, 16), self.u32(block, 20), self.u32(block, 24))
        else {
            return Block::Bad("a packet block that is too short");
        };
        let captured = captured as usize;
        if HEADER + captured + 4 > length {
            return Block::Bad("a packet that is longer than its block");
        }
        let Some(interface) = self.interfaces.get(interface as usize) else {
            return Block::Bad("a packet of an interface that is not described");
        };
        Block::Packet(Frame {
            time_ns: Some(interface.time_ns(u64::from(high) << 32 | u64::from(low))),
            link_type: interface.link_type,
            data: HEADER..HEADER + captured.min(LONGEST_RECORD),
            missing: (original as usize).saturating_sub(captured.min(LONGEST_RECORD)),
        })
    }

    fn simple_packet(&self, block: &[u8]) -> Block {
        const HEADER: usize = 12;
        let Some(original) = self.u32(block, 8) else {
            return Block::Bad("a packet block that is too short");
        };
        let Some(interface) = self.interfaces.first() else {
            return Block::Bad("a packet of an interface that is not described");
        };
        let limit = match interface.snapshot_length {
            0 => LONGEST_RECORD,
            length => length.min(LONGEST_RECORD),
        };
        let captured = (original as usize).min(limit).min(block.len().saturating_sub(HEADER + 4));
        Block::Packet(Frame {
            time_ns: None,
            link_type: interface.link_type,
            data: HEADER..HEADER + captured,
            missing: (original as usize).saturating_sub(captured),
        })
    }

    /// Does a block start here that one would believe without knowing where the last one ended?
    fn is_block(&self, bytes: &[u8]) -> bool {
        let mut reader = Self { order: self.order, interfaces: Vec::new(), taken: 0 };
        let Ok((kind, length)) = reader.header(bytes) else { return false };
        let known = matches!(kind, 1..=3 | 6 | block::SECTION_HEADER) || block::OTHERS.contains(&kind);
        known && bytes.len() >= length && reader.ends_well(bytes, length)
    }

    /// Goes to where a block starts again, from within the bad one on.
    fn resynchronise(&self, input: &mut Input) -> bool {
        let limit = input.offset() + SEARCHED;
        input.consume(1);
        while input.offset() < limit {
            if input.buffered().len() < SEARCH_STEP {
                input.fill(BUFFER);
            }
            let ended = input.has_ended();
            let bytes = input.buffered();
            // Leaves enough for a block, unless there is no more.
            let last = if ended { bytes.len() } else { bytes.len() / 2 };
            if let Some(found) = (0..last).find(|&start| self.is_block(&bytes[start..])) {
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

impl Format for Pcapng {
    fn next_frame(&mut self, input: &mut Input, tally: &mut Tally) -> Option<Frame> {
        loop {
            if !input.skip(std::mem::take(&mut self.taken) as u64) {
                tally.add_damage(&format!("damaged at byte {}: {CUT}", input.offset()));
                return None;
            }
            if input.fill(FRAME).is_empty() && input.failure().is_none() {
                return None;
            }
            let here = input.offset();
            let what = match self.header(input.buffered()) {
                Err(what) => what,
                Ok((kind, length)) => {
                    let buffered = length.min(BUFFER);
                    match input.fill(length.min(BUFFER)).get(..buffered) {
                        None => CUT,
                        Some(block) if !self.ends_well(block, length) => "a block whose two lengths differ",
                        Some(block) => {
                            self.taken = length;
                            match self.read(kind, block, length) {
                                Block::Packet(frame) => return Some(frame),
                                Block::Read => {}
                                Block::Bad(what) => {
                                    tally.add_damage(&format!("damaged at byte {here}: {what}"));
                                }
                            }
                            continue;
                        }
                    }
                }
            };
            let what = input.failure().map_or(what.to_owned(), |error| format!("cannot read on: {error}"));
            tally.add_damage(&format!("damaged at byte {here}: {what}"));
            if !self.resynchronise(input) {
                return None;
            }
        }
    }
}
