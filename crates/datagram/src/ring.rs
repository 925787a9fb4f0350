//! The packet ring: captured packets in memory that the kernel shares with us, a block of them at a time
//! (packet(7), `Documentation/networking/packet_mmap.rst`, `TPACKET_V3`).
//!
//! The socket is a cooked one: packets start at the IP header, and what link they came by stands beside them.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use crate::address::array;
use crate::filter;
use crate::wait::{self, Readiness, Woken};

/// Bytes of a block. The kernel hands a block over when it is full, or after `RETIRE`.
const BLOCK: usize = 1 << 19;
/// Milliseconds after which a block that holds anything is handed over.
const RETIRE: u32 = 40;
/// Only a divisor of the block to `TPACKET_V3`, which packs packets as long as they are.
const FRAME: usize = 2048;

/// `TP_STATUS_KERNEL` and `TP_STATUS_USER`: whose block it is.
const OF_KERNEL: u32 = 0;
const OF_USER: u32 = 1;

/// Offsets in `struct tpacket_block_desc`, and in the `struct tpacket3_hdr` of a packet (`linux/if_packet.h`).
mod offset {
    pub(super) const BLOCK_STATUS: usize = 8;
    pub(super) const COUNT: usize = 12;
    pub(super) const FIRST: usize = 16;
    pub(super) const NEXT: usize = 0;
    pub(super) const SECONDS: usize = 4;
    pub(super) const NANOSECONDS: usize = 8;
    pub(super) const CAPTURED: usize = 12;
    pub(super) const LENGTH: usize = 16;
    pub(super) const NETWORK: usize = 26;
    /// `struct sockaddr_ll`, behind the header.
    pub(super) const LINK: usize = 48;
}

/// One captured packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet<'a> {
    /// When the kernel saw it, in nanoseconds since the epoch.
    pub time_ns: u64,
    /// Index of the interface.
    pub interface: u32,
    /// This host sent it.
    pub outgoing: bool,
    /// Bytes of it on the wire, from the IP header on.
    pub length: u32,
    /// What was kept of it, from the IP header on.
    pub data: &'a [u8],
}

/// What the kernel has counted for a ring, over its life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Packets that passed the filter, the lost ones among them.
    pub packets: u64,
    /// Packets for which there was no room.
    pub lost: u64,
}

/// An open ring. Closing it ends the capture.
#[derive(Debug)]
pub struct Ring {
    socket: OwnedFd,
    map: Map,
    next: usize,
    counters: Counters,
}

impl Ring {
    /// The most interfaces that can be told from the others: as far as a filter can jump.
    pub const INTERFACES: usize = 255;

    /// Capture UDP and the ICMP errors about it on these interfaces of the calling thread's network namespace,
    /// on all of them if none is named. At most `snapshot` bytes of a packet are kept; the ring takes `memory`
    /// bytes, at least a block.
    ///
    /// # Errors
    /// Those of socket(2), setsockopt(2), mmap(2) and bind(2): `PermissionDenied` without `CAP_NET_RAW`.
    /// `InvalidInput` for more than [`Ring::INTERFACES`].
    pub fn open(interfaces: &[u32], snapshot: u32, memory: usize) -> io::Result<Self> {
        if interfaces.len() > Self::INTERFACES {
            let most = format!("more than {} interfaces: name none, for all", Self::INTERFACES);
            return Err(io::Error::new(io::ErrorKind::InvalidInput, most));
        }
        // Protocol 0: nothing is received before the filter is in place and bind() names one.
        // SAFETY: a system call without pointers; the descriptor is new, and ours alone.
        #[expect(unsafe_code, reason = "a system call")]
        let socket = unsafe {
            let fd = libc::socket(libc::AF_PACKET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0);
            if fd < 0 {
                return Err(io::Error::last_os_error());
            }
            OwnedFd::from_raw_fd(fd)
        };
        let mut code = filter::program(if interfaces.len() > 1 { interfaces } else { &[] }, snapshot);
        let program = libc::sock_fprog {
            len: u16::try_from(code.len()).map_err(|_| io::ErrorKind::InvalidInput)?,
            filter: code.as_mut_ptr(),
        };
        set(&socket, libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, &program)?;
        set(&socket, libc::SOL_PACKET, libc::PACKET_VERSION, &libc::tpacket_versions::TPACKET_V3)?;
        let blocks = (memory / BLOCK).clamp(1, 1 << 12);
        let request = libc::tpacket_req3 {
            tp_block_size: number(BLOCK),
            tp_block_nr: number(blocks),
            tp_frame_size: number(FRAME),
            tp_frame_nr: number(blocks * (BLOCK / FRAME)),
            tp_retire_blk_tov: RETIRE,
            tp_sizeof_priv: 0,
            tp_feature_req_word: 0,
        };
        set(&socket, libc::SOL_PACKET, libc::PACKET_RX_RING, &request)?;
        let map = Map::new(socket.as_fd(), 0, blocks * BLOCK, libc::PROT_READ | libc::PROT_WRITE)?;
        bind(&socket, if let [only] = interfaces { *only } else { 0 })?;
        Ok(Self { socket, map, next: 0, counters: Counters::default() })
    }

    /// Wait for a block, at most as long as given. `false`: none came. An interface that went down is no error:
    /// others may go on, and it may come back.
    ///
    /// # Errors
    /// Those of ppoll(2).
    pub fn wait(&self, timeout: Duration) -> io::Result<bool> {
        let woken = wait::wait(self.socket.as_fd(), Readiness::Readable, timeout)?;
        // Said once (ENETDOWN), and poll would return at once until it is heard.
        let _heard = crate::report::pending(self.socket.as_fd())?;
        Ok(woken != Woken::TooLate)
    }

    /// How many blocks it has.
    #[must_use]
    pub fn blocks(&self) -> usize {
        self.map.length / BLOCK
    }

    /// The next block that the kernel has handed over, `None` if there is none. Dropping it gives it back.
    pub fn next_block(&mut self) -> Option<Block<'_>> {
        let start = self.next * BLOCK;
        if self.map.word(start + offset::BLOCK_STATUS).load(Ordering::Acquire) & OF_USER == 0 {
            return None;
        }
        self.next = (self.next + 1) % self.blocks();
        Some(Block { ring: self, start })
    }

    /// What the kernel has counted so far.
    ///
    /// # Errors
    /// Those of getsockopt(2).
    pub fn counters(&mut self) -> io::Result<Counters> {
        let mut counted = libc::tpacket_stats_v3 { tp_packets: 0, tp_drops: 0, tp_freeze_q_cnt: 0 };
        let mut length = socket_length::<libc::tpacket_stats_v3>();
        // SAFETY: the value and its length are valid for the call; the kernel writes at most `length` bytes.
        #[expect(unsafe_code, reason = "a system call")]
        let status = unsafe {
            libc::getsockopt(
                self.socket.as_raw_fd(),
                libc::SOL_PACKET,
                libc::PACKET_STATISTICS,
                (&raw mut counted).cast(),
                &raw mut length,
            )
        };
        if status < 0 {
            return Err(io::Error::last_os_error());
        }
        // The kernel counts from one look to the next.
        self.counters.packets += u64::from(counted.tp_packets);
        self.counters.lost += u64::from(counted.tp_drops);
        Ok(self.counters)
    }
}

/// A block of packets, ours until it is dropped.
#[derive(Debug)]
pub struct Block<'a> {
    ring: &'a Ring,
    start: usize,
}

impl Block<'_> {
    /// The packets in it, in the order in which they came.
    pub fn packets(&self) -> impl Iterator<Item = Packet<'_>> {
        // SAFETY: within the map, checked by `bytes`; the kernel does not write to a block that is the user's,
        // and this value, which borrows the ring, gives it back only when it is dropped.
        #[expect(unsafe_code, reason = "memory shared with the kernel")]
        let bytes = unsafe { self.ring.map.bytes(self.start, BLOCK) };
        let word = |at| array(bytes, at).map_or(0, u32::from_ne_bytes);
        let mut left = word(offset::COUNT);
        let mut at = word(offset::FIRST) as usize;
        std::iter::from_fn(move || {
            left = left.checked_sub(1)?;
            let header = bytes.get(at..)?;
            let packet = read(header)?;
            at += u32::from_ne_bytes(array(header, offset::NEXT)?) as usize;
            Some(packet)
        })
    }
}

impl Drop for Block<'_> {
    fn drop(&mut self) {
        self.ring.map.word(self.start + offset::BLOCK_STATUS).store(OF_KERNEL, Ordering::Release);
    }
}

/// The packet behind a `struct tpacket3_hdr`.
fn read(header: &[u8]) -> Option<Packet<'_>> {
    let word = |at| array(header, at).map(u32::from_ne_bytes);
    let start = usize::from(u16::from_ne_bytes(array(header, offset::NETWORK)?));
    let data = header.get(start..)?.get(..word(offset::CAPTURED)? as usize)?;
    let tag = tag_length(u16::from_be_bytes(array(header, offset::LINK + 2)?), data);
    Some(Packet {
        time_ns: u64::from(word(offset::SECONDS)?) * 1_000_000_000 + u64::from(word(offset::NANOSECONDS)?),
        interface: word(offset::LINK + 4)?,
        outgoing: header.get(offset::LINK + 10) == Some(&libc::PACKET_OUTGOING),
        length: word(offset::LENGTH)?.saturating_sub(number(tag)),
        data: data.get(tag..)?,
    })
}

/// Bytes of a second VLAN tag before the IP header: the first one is taken off by the kernel.
fn tag_length(protocol: u16, data: &[u8]) -> usize {
    let tagged = matches!(protocol, 0x8100 | 0x88a8);
    let inner = array(data, 2).map(u16::from_be_bytes);
    if tagged && matches!(inner, Some(0x0800 | 0x86dd)) { 4 } else { 0 }
}

/// Memory shared with the kernel.
#[derive(Debug)]
pub(crate) struct Map {
    start: NonNull<u8>,
    pub(crate) length: usize,
}

// SAFETY: the memory belongs to this value alone, and stays where it is until it is dropped.
#[expect(unsafe_code, reason = "a raw pointer to memory that it owns")]
unsafe impl Send for Map {}
// SAFETY: through a shared reference it is only read, and written to by atomic operations.
#[expect(unsafe_code, reason = "a raw pointer to memory that it owns")]
unsafe impl Sync for Map {}

impl Map {
    /// Map `length` bytes of what a descriptor stands for.
    pub(crate) fn new(fd: BorrowedFd<'_>, from: usize, length: usize, protection: i32) -> io::Result<Self> {
        let from = libc::off_t::try_from(from).map_err(|_| io::ErrorKind::InvalidInput)?;
        // SAFETY: the kernel chooses the place, so nothing that is mapped already is touched.
        #[expect(unsafe_code, reason = "a system call")]
        let start = unsafe {
            libc::mmap(std::ptr::null_mut(), length, protection, libc::MAP_SHARED, fd.as_raw_fd(), from)
        };
        match NonNull::new(start.cast::<u8>()) {
            Some(start) if start.as_ptr().cast() != libc::MAP_FAILED => Ok(Self { start, length }),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// A word that both sides write to.
    pub(crate) fn word(&self, at: usize) -> &AtomicU32 {
        assert!(at % 4 == 0 && at + 4 <= self.length, "a word within the map");
        // SAFETY: within the map, aligned (a map starts at a page), and touched by atomic operations only.
        #[expect(unsafe_code, reason = "memory shared with the kernel")]
        unsafe {
            AtomicU32::from_ptr(self.start.as_ptr().add(at).cast())
        }
    }

    /// Bytes of it.
    ///
    /// # Safety
    /// Nobody writes to them while the slice is in use.
    #[expect(unsafe_code, reason = "memory shared with the kernel")]
    pub(crate) unsafe fn bytes(&self, at: usize, length: usize) -> &[u8] {
        assert!(at.checked_add(length).is_some_and(|end| end <= self.length), "bytes within the map");
        // SAFETY: within the map; that nobody writes is for the caller to see to.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr().add(at), length) }
    }
}

impl Drop for Map {
    fn drop(&mut self) {
        // SAFETY: mapped by `new` with this length; no reference into it can outlive it.
        #[expect(unsafe_code, reason = "a system call")]
        unsafe {
            libc::munmap(self.start.as_ptr().cast(), self.length);
        }
    }
}

/// Bind to an interface, 0 for all, and so begin to receive.
fn bind(socket: &OwnedFd, interface: u32) -> io::Result<()> {
    // SAFETY: all zeros are a valid value of this structure of numbers.
    #[expect(unsafe_code, reason = "a structure of the kernel's")]
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    address.sll_family = u16::try_from(libc::AF_PACKET).expect("17");
    address.sll_protocol = u16::try_from(libc::ETH_P_ALL).expect("3").to_be();
    address.sll_ifindex = i32::try_from(interface).map_err(|_| io::ErrorKind::InvalidInput)?;
    // SAFETY: the address outlives the call, and its length is its type's.
    #[expect(unsafe_code, reason = "a system call")]
    let status = unsafe {
        let length = socket_length::<libc::sockaddr_ll>();
        libc::bind(socket.as_raw_fd(), (&raw const address).cast(), length)
    };
    if status < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// setsockopt(2) with a structure of the kernel's.
fn set<T>(socket: &OwnedFd, level: i32, option: i32, value: &T) -> io::Result<()> {
    // SAFETY: the value outlives the call, and the length is its type's; what a `sock_fprog` points to is
    // alive in the caller.
    #[expect(unsafe_code, reason = "a system call")]
    let status = unsafe {
        let value = std::ptr::from_ref(value).cast();
        libc::setsockopt(socket.as_raw_fd(), level, option, value, socket_length::<T>())
    };
    if status < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn socket_length<T>() -> libc::socklen_t {
    libc::socklen_t::try_from(size_of::<T>()).expect("a small structure")
}

fn number(size: usize) -> u32 {
    u32::try_from(size).expect("far less than 4 GB")
}
