//! tcpdump's text.
//!
//! A packet is one line, or with `-v` several: IP's header in parentheses, then the addresses. Some packets
//! carry another one, whose text follows: in a tunnel, or quoted by an ICMP error. So the reader goes line by
//! line and keeps what the next line may complete:
//!
//! ```text
//! 10:00:00.1 IP (tos 0x0, …, proto UDP (17), length 34)     header: waits for the addresses
//!     10.0.0.1.5 > 10.0.0.2.6: [udp sum ok] UDP, length 6   a datagram
//! 10:00:00.2 IP (tos 0xc0, …, proto ICMP (1), length 62)
//!     10.0.0.2 > 10.0.0.1: ICMP 10.0.0.2 udp port 6 unreachable, length 42     waits for the quote
//!         IP (tos 0x0, …, proto UDP (17), length 34)        the quote's header
//!     10.0.0.1.5 > 10.0.0.2.6: UDP, length 6                the quote: not a datagram of its own
//! ```

mod clock;
mod decode;
mod ends;
mod icmp;
mod line;
mod recent;
mod recognise;

use std::collections::VecDeque;
use std::io::BufRead;
use std::net::{IpAddr, SocketAddr};

use udpkit_capture::{Clock, Message, Messages, Quoted, Stamped, Tally};

use crate::lines::Lines;
use crate::services::Services;
use clock::Timeline;
use decode::{Decoded, Sum, decode};
use ends::{Family, Host, Names, Port};
use icmp::{About, Icmp};
use line::{Ends, Header, Line, What};
use recent::{Recent, Sent};
use recognise::is_certain;

pub use recognise::is_tcpdump;

/// Packets within packets that are followed.
const DEPTH: u8 = 4;
/// Lines of other programs that may stand between the lines of one packet.
const BETWEEN: u8 = 4;

const UNKNOWN_PORT: &str = "a port name that is in no list of services: run tcpdump with -n";
const MANY_NAMES: &str = "more host names than are kept: run tcpdump with -n";
const CUT: &str = "a line that is cut off before it says what the packet is";
const PORTLESS: &str = "a datagram whose ports were not captured";
const WHOSE: &str = "an ICMP error whose line does not tell if it is about UDP: run tcpdump with -v";
const LONG: &str = "a line of more than 16 KiB: what follows them was left out";
const DEEP: &str = "a packet within more tunnels than are followed";

/// A reader of the text that tcpdump prints, with whatever options.
///
/// What the text does not tell:
/// - a datagram's `length` is 0 where no option made tcpdump print it; its payload is never read;
/// - an ICMP error's line names the port in error, but not the one that the datagram came from, unless `-v`
///   prints the quoted packet too: it is that of the latest such datagram in the text, and 0 if there is
///   none;
/// - dates (`-tttt`) are taken as UTC, times of day go on to the next day at midnight, relative times
///   (`-ttt`, `-ttttt`) count from an arbitrary midnight.
///
/// [`Stamped::number`] is that of the line where the packet begins. Host names become addresses that stand
/// for them ([`Messages::names`]). A tunnel's inner packet counts, of IP in IP, GRE and VXLAN; VXLAN's own
/// datagram, where it carries none.
#[derive(Debug)]
pub struct Tcpdump<R> {
    lines: Lines<R>,
    services: Services,
    names: Names,
    recent: Recent,
    timeline: Timeline,
    tally: Tally,
    /// Whether packets have times: one without is then within another.
    timed: bool,
    /// The header that waits for its addresses.
    header: Option<Waiting>,
    /// The packet that waits for the text of the packet within it.
    outer: Option<Outer>,
    /// Lines since then that tell of no packet.
    between: u8,
    ready: VecDeque<Stamped<'static>>,
    buffer: Vec<u8>,
}

/// Where a packet begins.
#[derive(Clone, Copy, Debug)]
struct Place {
    number: u64,
    time_ns: Option<u64>,
    timed: bool,
}

#[derive(Clone, Copy, Debug)]
struct Waiting {
    place: Place,
    family: Option<Family>,
    header: Header,
}

#[derive(Clone, Copy, Debug)]
struct Outer {
    place: Place,
    held: Held,
}

/// What waits for the packet within it.
#[derive(Clone, Copy, Debug)]
enum Held {
    /// A tunnel; its datagram if none follows.
    Tunnel(Option<Message<'static>>),
    /// An ICMP error.
    Error(IcmpError),
    /// An ICMP error of which the text has only the end: the quote follows, and no packet.
    Lost,
}

/// An ICMP error as the line tells it.
#[derive(Clone, Copy, Debug)]
struct IcmpError {
    sender: IpAddr,
    receiver: IpAddr,
    icmp_type: u8,
    code: u8,
    mtu: Option<u32>,
    about: Known,
}

/// What is known of the datagram in error.
#[derive(Clone, Copy, Debug)]
enum Known {
    Nothing,
    Host(IpAddr),
    Udp(IpAddr),
    Port(SocketAddr),
}

/// What a packet's text says.
enum Packet {
    Datagram(Message<'static>),
    UdpPortless,
    Error(IcmpError),
    Tunnel(Option<Message<'static>>),
    /// Something else, between these hosts.
    Other(Option<(IpAddr, IpAddr)>),
    Unread(&'static str),
}

impl<R: BufRead + Send> Tcpdump<R> {
    /// Reads up to the first packet, so that [`Messages::clock`] is known.
    pub fn new(input: R, services: Services) -> Self {
        let mut reader = Self {
            lines: Lines::new(input),
            services,
            names: Names::default(),
            recent: Recent::default(),
            timeline: Timeline::default(),
            tally: Tally::default(),
            timed: false,
            header: None,
            outer: None,
            between: 0,
            ready: VecDeque::new(),
            buffer: Vec::new(),
        };
        let mut line = Vec::new();
        while reader.tally.packets == 0 && reader.step(&mut line) {}
        reader
    }

    /// Reads one line; `false` at the end.
    fn step(&mut self, buffer: &mut Vec<u8>) -> bool {
        if self.lines.read(buffer) {
            self.line(buffer);
            return true;
        }
        self.settle();
        false
    }

    fn line(&mut self, text: &[u8]) {
        let Some(line) =
            line::read(text).filter(|line| self.header.is_some() || is_certain(line, &self.services))
        else {
            self.chatter(text);
            return;
        };
        if line.time.is_none() {
            if let (What::Bare(text), Some(waiting)) = (line.what, self.header) {
                self.header = None;
                self.packet(&waiting, text);
                return;
            }
            if let Some(outer) =
                self.outer.filter(|outer| outer.place.timed || line.indented || outer.is_tunnel())
            {
                self.within(&outer, line.what);
                return;
            }
            if self.timed {
                return;
            }
        }
        self.begin(&line);
    }

    /// A line that tells of no packet.
    fn chatter(&mut self, text: &[u8]) {
        if let Some(dropped) = text.strip_suffix(b" packets dropped by kernel").and_then(ends::number)
            && dropped > 0
        {
            self.tally.add_damage(&format!(
                "line {}: tcpdump says that {dropped} packets are missing",
                self.lines.number()
            ));
        }
        if self.header.is_some() || self.outer.is_some() {
            self.between += 1;
            if self.between > BETWEEN {
                self.settle();
            }
        } else if self.tally.packets == 0 && is_end_of_error(text) {
            let place = Place { number: self.lines.number(), time_ns: None, timed: false };
            self.hold(place, Held::Lost);
        }
    }

    /// A packet's first line.
    fn begin(&mut self, line: &Line<'_>) {
        self.settle();
        self.timed |= line.time.is_some();
        let time_ns = line.time.and_then(|time| self.timeline.next(time));
        if let Some(ns) = time_ns {
            self.tally.add_time(ns);
        }
        self.tally.packets += 1;
        let place = Place { number: self.lines.number(), time_ns, timed: line.time.is_some() };
        let waiting = Waiting { place, family: None, header: Header::default() };
        match line.what {
            What::Ip(family, text) => self.ip(Waiting { family, ..waiting }, text),
            What::Bare(text) => self.packet(&waiting, text),
            What::Ahead => self.hold(place, Held::Tunnel(None)),
            What::Other => {}
        }
    }

    /// The packet within another.
    fn within(&mut self, outer: &Outer, what: What<'_>) {
        let waiting = Waiting { place: outer.place, family: None, header: Header::default() };
        match what {
            What::Ip(family, text) => {
                self.settle_header();
                self.ip(Waiting { family, ..waiting }, text);
            }
            What::Bare(text) => self.packet(&waiting, text),
            What::Ahead => {}
            What::Other => self.settle(),
        }
    }

    /// The text behind "IP": perhaps a header in parentheses, then the ends.
    fn ip(&mut self, mut waiting: Waiting, mut text: &[u8]) {
        if text.starts_with(b"truncated-ip") {
            text = line::after(text, b"missing!").unwrap_or(b"").trim_ascii_start();
        }
        if line::is_header(text) {
            (waiting.header, text) = Header::split(text);
            if text.starts_with(b"truncated-ip") {
                text = line::after(text, b"missing!").unwrap_or(b"").trim_ascii_start();
            }
            if text.is_empty() {
                self.header = Some(waiting);
                self.between = 0;
                return;
            }
        }
        self.packet(&waiting, text);
    }

    /// The ends and what follows them: the packet is known.
    fn packet(&mut self, waiting: &Waiting, text: &[u8]) {
        let place = waiting.place;
        let packet = self.parse(*waiting, text, 0);
        let held = self.outer.take().map(|outer| outer.held);
        match (held, packet) {
            (
                Some(Held::Error(error)),
                Packet::Datagram(Message::Datagram { source, destination, length, .. })
                | Packet::Tunnel(Some(Message::Datagram { source, destination, length, .. })),
            ) => {
                let length = (length > 0).then_some(length);
                self.error(place, &error, Some(Quoted { source, destination, length }));
            }
            (Some(Held::Error(error)), Packet::UdpPortless) => self.error(place, &error, None),
            (Some(Held::Error(error)), Packet::Unread(reason)) => {
                self.tally.add_unread(reason);
                self.judge(place, &error);
            }
            // It was about something else than UDP, or nobody knows what it was.
            (Some(Held::Error(_) | Held::Lost), _) => {}
            // What VXLAN carries is no datagram: its own is.
            (Some(Held::Tunnel(Some(message))), Packet::Other(_) | Packet::UdpPortless)
                if self.header.is_none() =>
            {
                self.datagram(place, message);
            }
            (_, Packet::Datagram(message)) => self.datagram(place, message),
            (_, Packet::Error(error)) => {
                // Only -v prints the quote, on lines of its own.
                if waiting.header == Header::default() {
                    self.judge(place, &error);
                } else {
                    self.hold(place, Held::Error(error));
                }
            }
            (_, Packet::Tunnel(datagram)) => self.hold(place, Held::Tunnel(datagram)),
            (_, Packet::Other(Some((source, destination)))) => self.recent.other(source, destination),
            (_, Packet::Unread(reason)) => self.tally.add_unread(reason),
            (_, Packet::Other(None) | Packet::UdpPortless) => {}
        }
    }

    fn hold(&mut self, place: Place, held: Held) {
        self.outer = Some(Outer { place, held });
        self.between = 0;
    }

    fn parse(&mut self, waiting: Waiting, text: &[u8], depth: u8) -> Packet {
        let Some(ends) = Ends::split(text) else { return Packet::Other(None) };
        let Some(rest) = ends.rest else { return Packet::Unread(CUT) };
        if waiting.header.later_fragment {
            return Packet::UdpPortless;
        }
        let ported = ends::with_port(ends.source).zip(ends::with_port(ends.destination));
        match decode(rest, ported.is_some()) {
            // RIP's text begins on the next line.
            Decoded::Cut => match ported.filter(|_| waiting.header.udp) {
                Some((from, to)) => self.ends(&waiting, from, to, None, Sum::Untold),
                None => Packet::Unread(CUT),
            },
            Decoded::UdpPortless if rest.starts_with(b"[|") => Packet::Unread(PORTLESS),
            Decoded::UdpPortless => Packet::UdpPortless,
            Decoded::Other => {
                self.other(waiting.family, &ends, rest, ported.map(|(from, to)| (from.0, to.0)))
            }
            Decoded::InnerAhead => Packet::Tunnel(None),
            Decoded::Inner(_) if depth == DEPTH => Packet::Unread(DEEP),
            Decoded::Inner(text) => self.inner(waiting.place, text, depth),
            Decoded::Icmp(icmp) => self.icmp(waiting.family, &ends, icmp),
            Decoded::Vxlan => match ported.map(|(from, to)| self.ends(&waiting, from, to, None, Sum::Untold))
            {
                Some(Packet::Datagram(message)) => Packet::Tunnel(Some(message)),
                _ => Packet::Tunnel(None),
            },
            Decoded::Behind(text) => self.behind(&waiting, &ends, text),
            Decoded::Udp { length, checksum, .. } => match ported {
                Some((from, to)) => self.ends(&waiting, from, to, length, checksum),
                None => Packet::Other(None),
            },
        }
    }

    /// A packet within this one, on the same line; or its header is, and the addresses follow.
    fn inner(&mut self, place: Place, text: &[u8], depth: u8) -> Packet {
        let (header, rest) =
            if line::is_header(text) { Header::split(text) } else { (Header::default(), text) };
        if rest.is_empty() {
            self.header = Some(Waiting { place, family: None, header });
            self.between = 0;
            return Packet::Other(None);
        }
        self.parse(Waiting { place, family: None, header }, rest, depth + 1)
    }

    /// A datagram between these ends.
    fn ends(
        &mut self,
        waiting: &Waiting,
        from: (Host<'_>, Port<'_>),
        to: (Host<'_>, Port<'_>),
        told: Option<u16>,
        sum: Sum,
    ) -> Packet {
        let Some((source_port, destination_port)) = self.port(from.1).zip(self.port(to.1)) else {
            return Packet::Unread(UNKNOWN_PORT);
        };
        let Some(family) = family(waiting.family, from.0, to.0) else { return Packet::Other(None) };
        let Some((source, destination)) =
            self.names.address(from.0, family).zip(self.names.address(to.0, family))
        else {
            return Packet::Unread(MANY_NAMES);
        };
        let (source, destination) =
            (SocketAddr::new(source, source_port), SocketAddr::new(destination, destination_port));
        let length = decode::length(told, Some(&waiting.header));
        let named = matches!(from.0, Host::Name(_)) || matches!(to.0, Host::Name(_));
        let checksum = sum.judge(|| {
            length.filter(|_| !named).map(|length| pseudo_header(source.ip(), destination.ip(), length))
        });
        let length = length.unwrap_or(0);
        Packet::Datagram(Message::Datagram { source, destination, length, payload: &[], checksum })
    }

    fn port(&self, port: Port<'_>) -> Option<u16> {
        match port {
            Port::Number(number) => Some(number),
            Port::Name(name) => self.services.port(name),
        }
    }

    /// "1234 > 53: UDP, …" behind IPv6 extension headers: the addresses stand before these.
    fn behind(&mut self, waiting: &Waiting, ends: &Ends<'_>, text: &[u8]) -> Packet {
        let hosts = Host::parse(ends.source).zip(Host::parse(ends.destination));
        let mut words = text.splitn(4, |byte| *byte == b' ');
        let (Some((from, to)), Some(source), Some(b">"), Some(destination)) =
            (hosts, words.next(), words.next(), words.next())
        else {
            return Packet::Other(None);
        };
        let ports = Port::parse(source).zip(destination.strip_suffix(b":").and_then(Port::parse));
        match (decode(words.next().unwrap_or_default(), true), ports) {
            (Decoded::Udp { length, checksum, .. }, Some((source, destination))) => {
                self.ends(waiting, (from, source), (to, destination), length, checksum)
            }
            (Decoded::Cut, _) => Packet::Unread(CUT),
            _ => Packet::Other(None),
        }
    }

    fn icmp(&mut self, hint: Option<Family>, ends: &Ends<'_>, icmp: Icmp<'_>) -> Packet {
        let Some((from, to)) = Host::parse(ends.source).zip(Host::parse(ends.destination)) else {
            return Packet::Other(None);
        };
        let error = match icmp {
            Icmp::Error(error) => error,
            Icmp::Other => return self.between_hosts(hint, from, to),
            Icmp::Cut => return Packet::Unread(CUT),
        };
        let Some(family) = family(hint, from, to) else { return Packet::Other(None) };
        let mut address = |host| self.names.address(host, family);
        let Some((sender, receiver)) = address(from).zip(address(to)) else {
            return Packet::Unread(MANY_NAMES);
        };
        let mut host = |token| {
            let host = Host::parse(token).filter(|host| host.family().is_none_or(|other| other == family));
            host.and_then(&mut address)
        };
        let about = match error.about {
            About::Nothing => Some(Known::Nothing),
            About::Host(token) => host(token).map(Known::Host),
            About::Udp(token) => host(token).map(Known::Udp),
            About::Port(token, port) => {
                let host = host(token);
                match Port::parse(port).map(|port| self.port(port)) {
                    Some(Some(port)) => host.map(|host| Known::Port(SocketAddr::new(host, port))),
                    Some(None) => return Packet::Unread(UNKNOWN_PORT),
                    None => None,
                }
            }
        };
        let Some(about) = about else { return Packet::Unread(CUT) };
        let (icmp_type, code, mtu) = (error.icmp_type, error.code, error.mtu);
        Packet::Error(IcmpError { sender, receiver, icmp_type, code, mtu, about })
    }

    fn other(
        &mut self,
        hint: Option<Family>,
        ends: &Ends<'_>,
        rest: &[u8],
        ported: Option<(Host<'_>, Host<'_>)>,
    ) -> Packet {
        // What the datagrams of late are asked for only after one.
        if self.recent.is_empty() || rest.is_empty() {
            return Packet::Other(None);
        }
        match ported.or_else(|| Host::parse(ends.source).zip(Host::parse(ends.destination))) {
            Some((from, to)) => self.between_hosts(hint, from, to),
            None => Packet::Other(None),
        }
    }

    fn between_hosts(&self, hint: Option<Family>, from: Host<'_>, to: Host<'_>) -> Packet {
        let known = |host| self.names.known(host, family(hint, from, to)?);
        Packet::Other(known(from).zip(known(to)))
    }

    fn datagram(&mut self, place: Place, message: Message<'static>) {
        if let Message::Datagram { source, destination, .. } = message {
            self.recent.datagram(source, destination);
        }
        self.tally.datagrams += 1;
        self.ready.push_back(Stamped { number: place.number, time_ns: place.time_ns, message });
    }

    /// An ICMP error without its quote: whose datagram was it?
    fn judge(&mut self, place: Place, error: &IcmpError) {
        let receiver = error.receiver;
        let quoted = |source, destination| Some(Quoted { source, destination, length: None });
        let between = |recent: &mut Recent, host| {
            let (source, destination) = recent.ports(receiver, host)?;
            quoted(SocketAddr::new(receiver, source), SocketAddr::new(host, destination))
        };
        let quoted = match error.about {
            Known::Port(destination) => {
                let port = self.recent.source_port(receiver, destination).unwrap_or(0);
                quoted(SocketAddr::new(receiver, port), destination)
            }
            Known::Udp(host) => between(&mut self.recent, host),
            Known::Host(host) => match between(&mut self.recent, host) {
                None => return self.tally.add_unread(WHOSE),
                quoted => quoted,
            },
            Known::Nothing => match self.recent.sent(receiver) {
                Sent::One(source, destination) => quoted(source, destination),
                Sent::Several => None,
                Sent::Unknown => return self.tally.add_unread(WHOSE),
            },
        };
        self.error(place, error, quoted);
    }

    fn error(&mut self, place: Place, error: &IcmpError, quoted: Option<Quoted>) {
        let &IcmpError { sender, receiver, icmp_type, code, mtu, .. } = error;
        self.tally.icmp_errors += 1;
        let message = Message::IcmpError { sender, receiver, icmp_type, code, mtu, quoted };
        self.ready.push_back(Stamped { number: place.number, time_ns: place.time_ns, message });
    }

    /// The addresses do not come.
    fn settle_header(&mut self) {
        if let Some(waiting) = self.header.take() {
            self.tally.add_damage(&format!(
                "line {}: the line with the packet's addresses is missing",
                waiting.place.number
            ));
        }
    }

    /// Nothing more comes for what waits.
    fn settle(&mut self) {
        self.settle_header();
        match self.outer.take() {
            Some(Outer { place, held: Held::Error(error) }) => self.judge(place, &error),
            Some(Outer { place, held: Held::Tunnel(Some(message)) }) => self.datagram(place, message),
            _ => {}
        }
    }

    /// The end: what the lines themselves were like.
    fn finish(&mut self) {
        let long = self.lines.long();
        if long > 0 {
            self.tally.unread.insert(LONG.to_owned(), long);
        }
        let failure = self.lines.take_failure();
        if let Some(failure) = failure {
            self.tally.add_damage(&format!("line {}: reading stopped: {failure}", self.lines.number()));
        }
    }
}

impl Outer {
    const fn is_tunnel(&self) -> bool {
        matches!(self.held, Held::Tunnel(_))
    }
}

impl<R: BufRead + Send> Messages for Tcpdump<R> {
    fn next_message(&mut self) -> Option<Stamped<'_>> {
        let mut line = std::mem::take(&mut self.buffer);
        while self.ready.is_empty() {
            if !self.step(&mut line) {
                self.finish();
                break;
            }
        }
        self.buffer = line;
        self.ready.pop_front()
    }

    fn tally(&self) -> &Tally {
        &self.tally
    }

    fn clock(&self) -> Clock {
        self.timeline.clock()
    }

    fn names(&self) -> Vec<(IpAddr, String)> {
        self.names.all()
    }
}

/// The IP version that the line and both ends agree on.
fn family(hint: Option<Family>, from: Host<'_>, to: Host<'_>) -> Option<Family> {
    let said = hint.or(from.family()).or(to.family()).unwrap_or(Family::V4);
    let agrees = |host: Host<'_>| host.family().is_none_or(|family| family == said);
    (agrees(from) && agrees(to)).then_some(said)
}

/// The sum of the pseudo-header (RFC 768, RFC 8200 section 8.1) of a datagram with that many bytes of
/// payload.
fn pseudo_header(source: IpAddr, destination: IpAddr, length: u16) -> u16 {
    let words = |address: IpAddr| -> u32 {
        let sum =
            |bytes: &[u8]| bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1])).sum();
        match address {
            IpAddr::V4(address) => sum(&address.octets()),
            IpAddr::V6(address) => sum(&address.octets()),
        }
    };
    let mut sum = words(source) + words(destination) + 17 + u32::from(length) + 8;
    while sum > 0xffff {
        sum = (sum >> 16) + (sum & 0xffff);
    }
    u16::try_from(sum).unwrap_or(u16::MAX)
}

/// Whether a text that was cut out begins within an ICMP error's line.
fn is_end_of_error(text: &[u8]) -> bool {
    let errors = [&b"time exceeded"[..], b"unreachable"];
    errors.iter().any(|error| line::after(text, error).is_some()) && line::after(text, b", length ").is_some()
}
