//! bpf(2): loading a program for a tracepoint, and the ring through which it talks (bpf-helpers(7)).

use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::sync::atomic::Ordering;

use crate::address::array;
use crate::ring::Map;

/// Commands, map types and program types (`linux/bpf.h`).
const MAP_CREATE: i32 = 0;
const PROG_LOAD: i32 = 5;
const RAW_TRACEPOINT_OPEN: i32 = 17;
const MAP_TYPE_ARRAY: u32 = 2;
const MAP_TYPE_RINGBUF: u32 = 27;
const PROG_TYPE_RAW_TRACEPOINT: u32 = 17;
const MMAPABLE: u32 = 1 << 10;

/// Of a record in the ring: not written yet, and given up.
const BUSY: u32 = 1 << 31;
const DISCARDED: u32 = 1 << 30;
const RECORD_HEADER: usize = 8;

/// Where in a number of 64 bits its words are.
const LOW: usize = if cfg!(target_endian = "little") { 0 } else { 4 };
const HIGH: usize = 4 - LOW;

/// Says to the kernel that helpers which are for GPL programs only may be called.
const LICENSE: &[u8] = b"Dual MIT/GPL\0";

/// One instruction (`struct bpf_insn`).
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Instruction {
    pub(crate) code: u8,
    /// Destination in the lower half, source in the upper one.
    pub(crate) registers: u8,
    pub(crate) offset: i16,
    pub(crate) immediate: i32,
}

/// The argument of bpf(2), of which each command uses the start.
#[repr(C, align(8))]
struct Attributes([u8; 128]);

impl Attributes {
    fn new(words: &[u32]) -> Self {
        let mut attributes = Self([0; 128]);
        for (place, word) in attributes.0.chunks_exact_mut(4).zip(words) {
            place.copy_from_slice(&word.to_ne_bytes());
        }
        attributes
    }

    fn pointer<T>(mut self, at: usize, to: &[T]) -> Self {
        self.0[at..at + 8].copy_from_slice(&(to.as_ptr() as u64).to_ne_bytes());
        self
    }

    /// What the attributes point to must be alive still, and laid out as the command wants it.
    fn call(&self, command: i32) -> io::Result<OwnedFd> {
        // SAFETY: the attributes outlive the call; the kernel reads from where they point, and nothing there is
        // freed before `call` returns, since the callers in this file hold it.
        #[expect(unsafe_code, reason = "a system call")]
        unsafe {
            let fd = libc::syscall(libc::SYS_bpf, command, self.0.as_ptr(), self.0.len());
            match i32::try_from(fd) {
                Ok(fd) if fd >= 0 => Ok(OwnedFd::from_raw_fd(fd)),
                _ => Err(io::Error::last_os_error()),
            }
        }
    }
}

/// A number that a program counts up.
pub(crate) struct Counter {
    pub(crate) map: OwnedFd,
    memory: Map,
}

impl Counter {
    pub(crate) fn new() -> io::Result<Self> {
        let map = Attributes::new(&[MAP_TYPE_ARRAY, 4, 8, 1, MMAPABLE]).call(MAP_CREATE)?;
        let memory = Map::new(map.as_fd(), 0, page_size(), libc::PROT_READ)?;
        Ok(Self { map, memory })
    }

    pub(crate) fn value(&self) -> u64 {
        let half = |at| u64::from(self.memory.word(at).load(Ordering::Relaxed));
        half(LOW) | half(HIGH) << 32
    }
}

/// `BPF_MAP_TYPE_RINGBUF`: what a program says, in order.
pub(crate) struct Records {
    pub(crate) map: OwnedFd,
    consumer: Map,
    producer: Map,
    size: usize,
    /// Bytes read so far; the kernel counts in longs, of which a word has what counts here.
    position: usize,
}

impl Records {
    /// `size`: bytes, a power of two and at least a page.
    pub(crate) fn new(size: usize) -> io::Result<Self> {
        let bytes = u32::try_from(size).map_err(|_| io::ErrorKind::InvalidInput)?;
        let map = Attributes::new(&[MAP_TYPE_RINGBUF, 0, 0, bytes]).call(MAP_CREATE)?;
        let page = page_size();
        let consumer = Map::new(map.as_fd(), 0, page, libc::PROT_READ | libc::PROT_WRITE)?;
        // The data is there twice, one behind the other: a record never wraps around.
        let producer = Map::new(map.as_fd(), page, page + 2 * size, libc::PROT_READ)?;
        Ok(Self { map, consumer, producer, size, position: 0 })
    }

    /// The next record, if there is one that is as long as this.
    pub(crate) fn next<const N: usize>(&mut self) -> Option<[u8; N]> {
        loop {
            if self.producer.word(LOW).load(Ordering::Acquire) == halves(self.position as u64)[0] {
                return None;
            }
            let start = page_size() + (self.position & (self.size - 1));
            let length = self.producer.word(start).load(Ordering::Acquire);
            if length & BUSY != 0 {
                return None;
            }
            let data = (length & !(BUSY | DISCARDED)) as usize;
            let record = if length & DISCARDED == 0 && data >= N {
                // SAFETY: a record that is not busy is not written to until the consumer's position is behind
                // it, which happens below; it lies within the map (checked by `bytes`).
                #[expect(unsafe_code, reason = "memory shared with the kernel")]
                let bytes = unsafe { self.producer.bytes(start + RECORD_HEADER, N) };
                array(bytes, 0)
            } else {
                None
            };
            self.position += (RECORD_HEADER + data).next_multiple_of(8);
            self.advance();
            if record.is_some() {
                return record;
            }
        }
    }

    /// Tell the kernel how far we have read.
    fn advance(&self) {
        let [low, high] = halves(self.position as u64);
        // In this order the kernel sees, between the two, a position that is too low rather than too high;
        // the upper half changes every 4 GB.
        self.consumer.word(LOW).store(low, Ordering::Release);
        self.consumer.word(HIGH).store(high, Ordering::Release);
    }
}

/// The lower and the upper word of a number.
#[expect(clippy::cast_possible_truncation, reason = "the halves of a number are meant")]
fn halves(number: u64) -> [u32; 2] {
    [number as u32, (number >> 32) as u32]
}

/// Load a program and let it run at every hit of a tracepoint, as long as what is returned is open.
pub(crate) fn attach(program: &[Instruction], tracepoint: &std::ffi::CStr) -> io::Result<[OwnedFd; 2]> {
    let length = u32::try_from(program.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let loaded = Attributes::new(&[PROG_TYPE_RAW_TRACEPOINT, length])
        .pointer(8, program)
        .pointer(16, LICENSE)
        .call(PROG_LOAD)?;
    let number = u32::try_from(loaded.as_raw_fd()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let attached = Attributes::new(&[0, 0, number])
        .pointer(0, tracepoint.to_bytes_with_nul())
        .call(RAW_TRACEPOINT_OPEN)?;
    Ok([loaded, attached])
}

fn page_size() -> usize {
    // SAFETY: a call without pointers.
    #[expect(unsafe_code, reason = "a call of the C library")]
    let size = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    usize::try_from(size).unwrap_or(4096)
}
