//! UDP system calls in batches: recvmmsg(2) and sendmmsg(2) with control messages, and the error queue.
//!
//! All of it works on a borrowed descriptor and knows nothing of Python. `unsafe` is each system call, in a
//! function of its own; what the kernel hands over is read from byte slices, with bounds.

mod address;
mod bpf;
mod btf;
mod control;
mod drops;
mod filter;
mod privileges;
mod receive;
mod report;
mod ring;
mod send;
mod wait;

pub use address::{Family, Path};
pub use drops::{Drops, Fate, KernelEvent};
pub use privileges::{give_up, monotonic_ns};
pub use receive::{Arena, Received};
pub use report::{Drained, Origin, Report, Reports};
pub use ring::{Block, Counters, Packet, Ring};
pub use send::{Deliver, Outbox, Outcome, Outgoing};
pub use wait::{Readiness, Woken, wait};
