//! Captured packets in, UDP datagrams and the ICMP errors about them out.
//!
//! The input is bytes from outside: no input panics, allocates without bound or is trusted to be whole. A
//! damaged capture gives everything before the damage and then says where it is damaged.
//!
//! ```
//! use udpkit_capture::{Message, PcapReader};
//!
//! fn ports_asked(capture: impl std::io::Read) -> Result<Vec<u16>, Box<dyn std::error::Error>> {
//!     let mut reader = PcapReader::new(capture)?;
//!     let mut ports = Vec::new();
//!     while let Some(record) = reader.next_record() {
//!         if let Some(Message::Datagram { destination, .. }) = record?.message() {
//!             ports.push(destination.port());
//!         }
//!     }
//!     Ok(ports)
//! }
//! # assert!(ports_asked(&b"not a capture"[..]).is_err());
//! ```

#![forbid(unsafe_code)]

mod icmp;
mod ip;
mod link;
mod message;
mod pcap;
mod udp;

pub use link::LinkType;
pub use message::{Checksum, Clock, Message, Messages, Quoted, Stamped, Tally, dissect};
pub use pcap::{Damage, DamageKind, NotPcap, PcapReader, Record};
