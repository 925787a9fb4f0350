//! Packets that come one by one, and not from a file.

use crate::dissector::Dissector;
use crate::fragments::Stamp;
use crate::link::LinkType;
use crate::message::Stamped;

/// Reads the packets of one link as they are captured, and waits for fragments.
#[derive(Default)]
pub struct Packets {
    dissector: Dissector,
    number: u64,
}

impl Packets {
    /// What the next packet says about UDP; `None`: nothing, or nothing that could be read.
    pub fn read<'a>(&'a mut self, time_ns: u64, link_type: LinkType, data: &'a [u8]) -> Option<Stamped<'a>> {
        self.number += 1;
        let stamp = Stamp { number: self.number, time_ns: Some(time_ns) };
        match self.dissector.dissect(stamp, link_type, 0, data) {
            Ok(true) => self.dissector.said(data),
            _ => None,
        }
    }

    /// The next datagram of which fragments are missing for good.
    pub fn next_lost(&mut self) -> Option<Stamped<'_>> {
        if self.dissector.loses() { self.dissector.said(&[]) } else { None }
    }

    /// How many packets there were.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.number
    }
}

impl std::fmt::Debug for Packets {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Packets").field("number", &self.number).finish_non_exhaustive()
    }
}
