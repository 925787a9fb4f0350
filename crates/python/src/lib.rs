//! `udpkit._native`: what Python needs from the Rust crates, and nothing more.
//!
//! Its types and docstrings are in `src/udpkit/_native.pyi`; the tests check that both agree.

mod capture;
mod cgroup;
mod channel;
mod conversations;
mod datagram;
mod descriptor;
mod errors;
mod inputs;
mod live;
mod namespaces;
mod text;

/// The Rust core of udpkit: captures, batches of datagrams, and namespaces of the calling thread.
#[pyo3::pymodule]
mod _native {
    #[pymodule_export]
    use crate::capture::{PcapDatagram, PcapFile, PcapIcmpError, Quoted, read_pcap};
    #[pymodule_export]
    use crate::cgroup::{CgroupFix, LoadedFix, loaded_fixes};
    #[pymodule_export]
    use crate::channel::Channel;
    #[pymodule_export]
    use crate::conversations::{Tally, read};
    #[pymodule_export]
    use crate::datagram::{Datagram, Path, QueuedError};
    #[pymodule_export]
    use crate::inputs::{Input, udp_port};
    #[pymodule_export]
    use crate::live::{Live, LiveTally, give_up};
    #[pymodule_export]
    use crate::namespaces::{setns, unshare};
    #[pymodule_export]
    use crate::text::read_strace;

    use nix::sched::CloneFlags;

    #[pymodule_export]
    const CLONE_NEWNET: i32 = CloneFlags::CLONE_NEWNET.bits();
    #[pymodule_export]
    const CLONE_NEWNS: i32 = CloneFlags::CLONE_NEWNS.bits();
    #[pymodule_export]
    const CLONE_NEWPID: i32 = CloneFlags::CLONE_NEWPID.bits();
    #[pymodule_export]
    const CLONE_NEWUSER: i32 = CloneFlags::CLONE_NEWUSER.bits();
}
