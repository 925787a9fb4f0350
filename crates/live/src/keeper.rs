//! A rolling capture file of chosen conversations, with what came before they were chosen.

use std::collections::{HashSet, VecDeque};
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use udpkit_capture::Message;
use udpkit_datagram::Packet;

use crate::LINK;

/// Bytes of packets that wait for their conversation to be chosen, with what it costs to keep one.
const ROOM: usize = 32 << 20;
const COST: usize = 64;
/// The most conversations that are chosen.
const MOST: usize = 100_000;

/// Classic pcap with nanoseconds (pcap-savefile(5)).
const MAGIC: u32 = 0xa1b2_3c4d;
const VERSION: [u16; 2] = [2, 4];
const SNAPSHOT: u32 = 262_144;
const FILE_HEADER: u64 = 24;
const RECORD_HEADER: u64 = 16;

/// The two ends of a conversation. Without the second: whoever speaks with the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ends(pub SocketAddr, pub Option<SocketAddr>);

impl Ends {
    fn sorted(one: SocketAddr, other: SocketAddr) -> Self {
        if one <= other { Self(one, Some(other)) } else { Self(other, Some(one)) }
    }
}

/// Whose a packet is. Later fragments have no ports: they belong to their hosts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Whose {
    Conversation(SocketAddr, SocketAddr),
    Hosts(IpAddr, IpAddr),
}

#[derive(Debug)]
struct Waiting {
    whose: Whose,
    time_ns: u64,
    length: u32,
    data: Box<[u8]>,
}

#[derive(Debug)]
pub(crate) struct Keeper {
    path: PathBuf,
    file: BufWriter<File>,
    /// Bytes in the file, and the most that may be.
    bytes: u64,
    most: u64,
    pub(crate) written: u64,
    pub(crate) failure: Option<String>,
    wanted: HashSet<Ends>,
    hosts: HashSet<(IpAddr, IpAddr)>,
    waiting: VecDeque<Waiting>,
    room: usize,
}

impl Keeper {
    /// `size`: bytes that the file and its predecessor, whose name ends in `.1`, may have together.
    pub(crate) fn open(path: &Path, size: u64) -> io::Result<Self> {
        Ok(Self {
            path: path.to_owned(),
            file: begin(path)?,
            bytes: FILE_HEADER,
            most: size / 2,
            written: 0,
            failure: None,
            wanted: HashSet::new(),
            hosts: HashSet::new(),
            waiting: VecDeque::new(),
            room: ROOM,
        })
    }

    pub(crate) fn take(&mut self, packet: &Packet<'_>, message: Option<&Message<'_>>) {
        let whose = match message {
            Some(
                Message::Datagram { source, destination, .. } | Message::FragmentLost { source, destination },
            ) => Whose::Conversation(*source, *destination),
            Some(Message::IcmpError { quoted: Some(quoted), .. }) => {
                Whose::Conversation(quoted.source, quoted.destination)
            }
            Some(Message::IcmpError { quoted: None, .. }) => return,
            None => match hosts(packet.data) {
                Some((source, destination)) => Whose::Hosts(source, destination),
                None => return,
            },
        };
        if self.wants(whose) {
            self.write(packet.time_ns, packet.length, packet.data);
            return;
        }
        let cost = packet.data.len() + COST;
        while self.room < cost {
            match self.waiting.pop_front() {
                Some(oldest) => self.room += oldest.data.len() + COST,
                None => return,
            }
        }
        self.room -= cost;
        let (time_ns, length) = (packet.time_ns, packet.length);
        self.waiting.push_back(Waiting { whose, time_ns, length, data: packet.data.into() });
    }

    fn wants(&self, whose: Whose) -> bool {
        match whose {
            Whose::Conversation(one, other) => {
                self.wanted.contains(&Ends::sorted(one, other))
                    || self.wanted.contains(&Ends(one, None))
                    || self.wanted.contains(&Ends(other, None))
            }
            Whose::Hosts(one, other) => {
                self.hosts.contains(&(one, other)) || self.hosts.contains(&(other, one))
            }
        }
    }

    pub(crate) fn want(&mut self, chosen: &[Ends]) {
        let before = self.wanted.len();
        for &ends in chosen {
            let Ends(one, other) = ends;
            if self.wanted.len() < MOST {
                self.wanted.insert(other.map_or(ends, |other| Ends::sorted(one, other)));
                self.hosts.extend(other.map(|other| (one.ip(), other.ip())));
            }
        }
        if self.wanted.len() == before {
            return;
        }
        for packet in std::mem::take(&mut self.waiting) {
            if self.wants(packet.whose) {
                self.room += packet.data.len() + COST;
                self.write(packet.time_ns, packet.length, &packet.data);
            } else {
                self.waiting.push_back(packet);
            }
        }
    }

    fn write(&mut self, time_ns: u64, length: u32, data: &[u8]) {
        if self.failure.is_some() {
            return;
        }
        match self.try_write(time_ns, length, data) {
            Ok(()) => self.written += 1,
            Err(error) => self.failure = Some(error.to_string()),
        }
    }

    fn try_write(&mut self, time_ns: u64, length: u32, data: &[u8]) -> io::Result<()> {
        let captured = u32::try_from(data.len()).map_err(|_| io::ErrorKind::InvalidData)?;
        let size = RECORD_HEADER + u64::from(captured);
        if self.bytes + size > self.most && self.bytes > FILE_HEADER {
            self.file.flush()?;
            let mut older = self.path.clone().into_os_string();
            older.push(".1");
            std::fs::rename(&self.path, older)?;
            self.file = begin(&self.path)?;
            self.bytes = FILE_HEADER;
        }
        let [seconds, nanoseconds] = [time_ns / 1_000_000_000, time_ns % 1_000_000_000]
            .map(|part| u32::try_from(part).unwrap_or(u32::MAX));
        for word in [seconds, nanoseconds, captured, length.max(captured)] {
            self.file.write_all(&word.to_ne_bytes())?;
        }
        self.file.write_all(data)?;
        self.bytes += size;
        Ok(())
    }

    pub(crate) fn flush(&mut self) {
        if let Err(error) = self.file.flush() {
            self.failure.get_or_insert(error.to_string());
        }
    }
}

/// A new file with its header.
fn begin(path: &Path) -> io::Result<BufWriter<File>> {
    let mut file = BufWriter::new(File::create(path)?);
    file.write_all(&MAGIC.to_ne_bytes())?;
    for half in VERSION {
        file.write_all(&half.to_ne_bytes())?;
    }
    for word in [0, 0, SNAPSHOT, LINK.0.into()] {
        file.write_all(&word.to_ne_bytes())?;
    }
    file.flush()?;
    Ok(file)
}

/// Source and destination of an IP packet.
fn hosts(data: &[u8]) -> Option<(IpAddr, IpAddr)> {
    fn at<const N: usize>(data: &[u8], start: usize) -> Option<[u8; N]> {
        data.get(start..)?.first_chunk().copied()
    }
    match data.first()? >> 4 {
        4 => Some((at::<4>(data, 12)?.into(), at::<4>(data, 16)?.into())),
        6 => Some((at::<16>(data, 8)?.into(), at::<16>(data, 24)?.into())),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn end(port: u16) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, 1], port))
    }

    fn take(keeper: &mut Keeper, time_ns: u64, ports: (u16, u16), payload: &[u8]) {
        let (source, destination) = (end(ports.0), end(ports.1));
        let checksum = udpkit_capture::Checksum::Unknown;
        let message = Message::Datagram { source, destination, length: 0, payload: &[], checksum };
        let packet = Packet { time_ns, interface: 1, outgoing: false, length: 2000, data: payload };
        keeper.take(&packet, Some(&message));
    }

    /// (seconds, bytes) of the records in a file.
    fn records(path: &Path) -> Vec<(u32, Vec<u8>)> {
        let file = std::fs::read(path).unwrap();
        let (mut left, mut records) = (&file[24..], Vec::new());
        while !left.is_empty() {
            let word = |at: usize| u32::from_ne_bytes(left[at..at + 4].try_into().unwrap());
            let (seconds, length) = (word(0), word(8) as usize);
            assert_eq!(word(12), word(8).max(2000), "the length on the wire");
            records.push((seconds, left[16..16 + length].to_vec()));
            left = &left[16 + length..];
        }
        records
    }

    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("udpkit-keeper-{}-{name}", std::process::id()));
            std::fs::create_dir_all(&path).unwrap();
            Self(path)
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn only_what_is_wanted_is_written_with_what_came_before() {
        let folder = Folder::new("wanted");
        let path = folder.0.join("file");
        let mut keeper = Keeper::open(&path, 1 << 20).unwrap();
        take(&mut keeper, 1_000_000_000, (1, 2), b"before");
        take(&mut keeper, 2_000_000_000, (3, 2), b"another's");
        keeper.want(&[Ends(end(2), Some(end(1)))]);
        take(&mut keeper, 3_000_000_000, (2, 1), b"after");
        take(&mut keeper, 4_000_000_000, (2, 3), b"another's");
        keeper.flush();
        let kept = [(1, b"before".to_vec()), (3, b"after".to_vec())];
        assert_eq!(records(&path), kept);
        keeper.want(&[Ends(end(3), None)]);
        keeper.flush();
        assert_eq!(records(&path).len(), 4);
    }

    #[test]
    fn the_files_stay_small_and_the_latest_is_kept() {
        let folder = Folder::new("small");
        let path = folder.0.join("file");
        let mut keeper = Keeper::open(&path, 10_000).unwrap();
        keeper.want(&[Ends(end(1), None)]);
        for second in 0..100 {
            take(&mut keeper, second * 1_000_000_000, (1, 2), &[0; 1000]);
        }
        keeper.flush();
        let older = folder.0.join("file.1");
        let sizes = [&path, &older].map(|path| std::fs::metadata(path).unwrap().len());
        assert!(sizes.iter().sum::<u64>() <= 10_000, "{sizes:?}");
        let both = [records(&older), records(&path)].concat();
        let seconds: Vec<_> = both.iter().map(|(seconds, _)| *seconds).collect();
        assert_eq!(seconds, (100 - u32::try_from(both.len()).unwrap()..100).collect::<Vec<_>>());
        assert_eq!(keeper.written, 100);
    }

    #[test]
    fn the_buffer_forgets_the_oldest() {
        let folder = Folder::new("buffer");
        let path = folder.0.join("file");
        let mut keeper = Keeper::open(&path, 1 << 30).unwrap();
        let packet = vec![0; 1 << 20];
        for second in 0..40 {
            take(&mut keeper, second * 1_000_000_000, (1, 2), &packet);
        }
        assert!(keeper.waiting.len() < 40);
        keeper.want(&[Ends(end(1), None)]);
        assert_eq!(keeper.room, ROOM);
        keeper.flush();
        assert_eq!(records(&path).last().unwrap().0, 39);
    }
}
