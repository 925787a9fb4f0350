//! Loads and attaches the eBPF programs of `bpf/source.bpf.c`, which see to it that answers leave from the address
//! that was asked, and finds those that are loaded already.
//!
//! Nothing is kept on disk: what there is to know about a fix stands in its maps, which whoever may load programs
//! may read. A fix ends with its process, however that ends: then nobody holds the links any more.

#![forbid(unsafe_code)]

mod error;
mod loaded;

use std::net::IpAddr;
use std::os::fd::AsFd;

use aya::maps::lpm_trie::{Key, LpmTrie};
use aya::maps::{Array, MapData};
use aya::programs::{CgroupAttachMode, CgroupSkb, CgroupSkbAttachType, CgroupSockAddr, ProgramError};
use aya::{Ebpf, EbpfLoader};

pub use error::Error;
pub use loaded::{Counts, Loaded, loaded};

/// Built by `make bpf`.
static OBJECT: &[u8] = aya::include_bytes_aligned!("../bpf/source.bpf.o");
/// The upper two bytes of every mark: "ud". The lower two are the slot, and one per address.
const MARKS: u32 = 0x7564 << 16;
/// The programs beside the first, which learns.
const SENDERS: [&str; 4] = ["udpkit_sendmsg4", "udpkit_sendmsg6", "udpkit_connect4", "udpkit_connect6"];
const LEARNER: &str = "udpkit_learn";
const STATE: &str = "udpkit_state";
const LOCAL: &str = "udpkit_local";
const FLOWS: &str = "udpkit_flows";
const COUNTS: &str = "udpkit_counts";

/// Indices of the map `udpkit_state`.
#[derive(Clone, Copy)]
enum State {
    Generation,
    Slot,
    Instance,
    Cgroup,
    Leave,
    Owner,
}

/// A local address, or a network of them: scope, address, bits of the prefix.
pub type Local = (u64, IpAddr, u8);

/// The mark of the address `number` of the fix in `slot`.
#[must_use]
pub fn mark(slot: u8, number: u8) -> u32 {
    MARKS | u32::from(slot) << 8 | u32::from(number)
}

/// The programs, loaded; and attached from `attach` until this is dropped.
#[derive(Debug)]
pub struct Fix {
    ebpf: Ebpf,
    generation: u64,
    namespaces: bool,
}

impl Fix {
    /// Load the programs, with room for so many flows; `namespaces`: tell network namespaces apart if possible.
    /// No two fixes have the same `slot`, nor the same `instance`, which none should have for long after it.
    ///
    /// # Errors
    /// The kernel refuses: [`Error::Permission`] without privilege, else what it lacks.
    pub fn load(slot: u8, instance: u16, flows: u32, namespaces: bool) -> Result<Self, Error> {
        match Self::load_for(slot, instance, flows, namespaces) {
            Err(Error::Refused { .. }) if namespaces => Self::load_for(slot, instance, flows, false),
            result => result,
        }
    }

    fn load_for(slot: u8, instance: u16, flows: u32, namespaces: bool) -> Result<Self, Error> {
        let mut ebpf = EbpfLoader::new()
            .set_max_entries(FLOWS, flows)
            .set_global("NAMESPACES", &u32::from(namespaces), true)
            .set_global("MARK", &mark(slot, 0), true)
            .load(OBJECT)?;
        learner(&mut ebpf)?.load()?;
        for name in SENDERS {
            sender(&mut ebpf, name)?.load()?;
        }
        let mut fix = Self { ebpf, generation: 0, namespaces };
        fix.set(State::Slot, slot.into())?;
        fix.set(State::Instance, instance.into())?;
        fix.set(State::Owner, std::process::id().into())?;
        Ok(fix)
    }

    /// Whether flows are told apart by network namespace, for which this takes Linux 6.15; before, by socket.
    #[must_use]
    pub fn namespaces(&self) -> bool {
        self.namespaces
    }

    /// Attach them to a cgroup: to the sockets that were made in it and below it, those that are open included.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn attach(&mut self, cgroup: impl AsFd, id: u64) -> Result<(), Error> {
        self.set(State::Cgroup, id)?;
        // A link is beside others by nature, and takes no flags (cgroup_bpf_link_attach).
        let mode = CgroupAttachMode::Single;
        learner(&mut self.ebpf)?.attach(cgroup.as_fd(), CgroupSkbAttachType::Ingress, mode)?;
        for name in SENDERS {
            sender(&mut self.ebpf, name)?.attach(cgroup.as_fd(), mode)?;
        }
        Ok(())
    }

    /// These addresses have come, with their marks, or 0; those have gone. What has neither stays.
    ///
    /// # Errors
    /// More addresses than the map has room for.
    pub fn tell(
        &mut self,
        come: impl IntoIterator<Item = (Local, u32)>,
        gone: impl IntoIterator<Item = Local>,
    ) -> Result<(), Error> {
        let map = self.ebpf.map_mut(LOCAL).ok_or(Error::Object)?;
        let mut local: LpmTrie<&mut MapData, [u8; 24], u32> = map.try_into()?;
        for (one, mark) in come {
            local.insert(&key(one), mark, 0)?;
        }
        let generation = self.generation;
        for one in gone {
            local.remove(&key(one))?;
            self.generation = generation + 1;
        }
        if self.generation != generation {
            self.set(State::Generation, self.generation)?;
        }
        Ok(())
    }

    /// Whether somebody has asked this fix to leave.
    ///
    /// # Errors
    /// The kernel refuses to read its own map.
    pub fn is_to_leave(&self) -> Result<bool, Error> {
        let state: Array<&MapData, u64> = self.ebpf.map(STATE).ok_or(Error::Object)?.try_into()?;
        Ok(state.get(&(State::Leave as u32), 0)? != 0)
    }

    fn set(&mut self, which: State, value: u64) -> Result<(), Error> {
        let map = self.ebpf.map_mut(STATE).ok_or(Error::Object)?;
        let mut state: Array<&mut MapData, u64> = map.try_into()?;
        Ok(state.set(which as u32, value, 0)?)
    }
}

fn learner(ebpf: &mut Ebpf) -> Result<&mut CgroupSkb, Error> {
    Ok(ebpf.program_mut(LEARNER).ok_or(Error::Object)?.try_into()?)
}

fn sender<'a>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut CgroupSockAddr, ProgramError> {
    ebpf.program_mut(name).ok_or(ProgramError::NotLoaded)?.try_into()
}

/// As `struct local_key`: addresses of IPv4 are mapped.
fn key((scope, address, prefix): Local) -> Key<[u8; 24]> {
    let (bytes, bits) = match address {
        IpAddr::V4(address) => (address.to_ipv6_mapped().octets(), 96 + u32::from(prefix)),
        IpAddr::V6(address) => (address.octets(), u32::from(prefix)),
    };
    let mut data = [0; 24];
    data[..8].copy_from_slice(&scope.to_ne_bytes());
    data[8..].copy_from_slice(&bytes);
    Key::new(64 + bits, data)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_of_ipv4_lie_in_the_mapped_ones() {
        let four = key((7, IpAddr::from([127, 0, 0, 0]), 8));
        let six = key((7, "::ffff:127.0.0.0".parse().expect("an address"), 104));
        assert_eq!((four.prefix_len(), four.data()), (six.prefix_len(), six.data()));
        assert_eq!(four.prefix_len(), 64 + 104);
        assert_ne!(four.data(), key((8, IpAddr::from([127, 0, 0, 0]), 8)).data());
    }

    #[test]
    fn marks_tell_fixes_and_addresses_apart() {
        assert_eq!(mark(0, 0), 0x7564_0000);
        assert_eq!(mark(63, 255), 0x7564_3fff);
    }
}
