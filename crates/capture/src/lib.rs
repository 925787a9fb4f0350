//! Captured packets in, UDP datagrams and the ICMP errors about them out.
//!
//! The input is bytes from outside: no input panics, allocates without bound or is trusted to be whole. A
//! damaged capture gives everything before the damage and what is found again behind it, and says where it is
//! damaged.
//!
//! ```
//! use udpkit_capture::{Input, Message, NotACapture, open_capture};
//!
//! fn ports_asked(input: Input) -> Result<Vec<u16>, NotACapture> {
//!     let mut capture = open_capture(input)?;
//!     let mut ports = Vec::new();
//!     while let Some(said) = capture.next_message() {
//!         if let Message::Datagram { destination, .. } = said.message {
//!             ports.push(destination.port());
//!         }
//!     }
//!     Ok(ports)
//! }
//! # assert!(ports_asked(Input::new(Box::new(&b"not a capture"[..])).unwrap()).is_err());
//! ```

#![forbid(unsafe_code)]

mod book;
mod capture;
mod dissector;
mod fragments;
mod icmp;
mod input;
mod ip;
mod link;
mod message;
mod packets;
mod pcap;
mod pcapng;
mod tunnel;
mod udp;

pub use book::{Book, Conversation, Errors, Flow, Latest, Moment, Remarkable};
pub use capture::{CaptureKind, NotACapture, check_capture, is_capture, open_capture};
pub use dissector::dissect;
pub use input::Input;
pub use link::LinkType;
pub use message::{Checksum, Clock, Message, Messages, Quoted, Stamped, Tally};
pub use packets::Packets;
