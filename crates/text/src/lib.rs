//! What other programs printed about UDP, read back: tcpdump's lines and strace's logs.
//!
//! The input is text from outside, as people paste it: no input panics or allocates without bound, and what is
//! not a packet's line or a system call is passed over.

#![forbid(unsafe_code)]

mod lines;
mod services;
pub mod strace;
mod tcpdump;

pub use services::Services;
pub use tcpdump::{Tcpdump, is_tcpdump};
