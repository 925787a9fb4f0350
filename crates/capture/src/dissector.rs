//! From a captured packet to what it says about UDP, through tunnels and over fragments.

use std::ops::Range;

use crate::fragments::{Fragments, Stamp, Start};
use crate::ip::{self, Fragment, IpPacket, Undecodable, protocol};
use crate::link::{self, LinkType, Network, NoPacket};
use crate::message::{Message, Stamped};
use crate::{icmp, tunnel, udp};

/// IP headers in each other that are looked at.
const NESTED: usize = 8;

/// Reads one packet after the other.
#[derive(Default)]
pub(crate) struct Dissector {
    fragments: Fragments,
    found: Option<Found>,
    /// The datagram that the last packet made whole.
    whole: Option<Start>,
}

/// A message, but for its payload. What is lent from a buffer cannot be kept beside it.
struct Found {
    stamp: Stamp,
    message: Message<'static>,
    payload: Payload,
}

enum Payload {
    /// In the packet.
    Here(Range<usize>),
    /// In the datagram that became whole.
    Whole(Range<usize>),
}

impl Dissector {
    /// Does the packet say something? An error: it could not be read, and perhaps does.
    ///
    /// `missing` are the bytes at its end that were not captured.
    pub(crate) fn dissect(
        &mut self,
        stamp: Stamp,
        link_type: LinkType,
        missing: usize,
        data: &[u8],
    ) -> Result<bool, NoPacket> {
        if let Some(time_ns) = stamp.time_ns {
            self.fragments.pass(time_ns);
        }
        let mut walk = Walk::new(Some((&mut self.fragments, stamp)), missing);
        walk.inwards(link::strip(link_type, data));
        let Walk { message, whole, unread, .. } = walk;
        self.found = message.map(|message| Found {
            stamp,
            payload: Payload::Here(message.range_in(data)),
            message: message.without_payload(),
        });
        if whole.is_some() {
            self.take_whole(stamp, whole);
        }
        match unread {
            Some(why) if self.found.is_none() => Err(why),
            _ => Ok(self.found.is_some()),
        }
    }

    #[cold]
    fn take_whole(&mut self, stamp: Stamp, whole: Option<Start>) {
        self.whole = whole;
        let Some(whole) = &self.whole else { return };
        let Some(packet) = whole.packet() else { return };
        let mut walk = Walk::new(None, 0);
        if let Ok(Some(network)) = walk.content(&packet) {
            walk.inwards(network);
        }
        if let Some(message) = walk.message {
            let payload = Payload::Whole(message.range_in(whole.head()));
            self.found = Some(Found { stamp, payload, message: message.without_payload() });
        }
    }

    /// The capture has ended.
    pub(crate) fn end(&mut self) {
        self.fragments.end();
    }

    /// Is there another datagram of which fragments are missing for good?
    pub(crate) fn loses(&mut self) -> bool {
        let Some(lost) = self.fragments.next_lost() else { return false };
        let message = Message::FragmentLost { source: lost.source, destination: lost.destination };
        self.found = Some(Found { stamp: lost.stamp, message, payload: Payload::Here(0..0) });
        true
    }

    /// Was the message that was found a datagram?
    pub(crate) fn found_datagram(&self) -> bool {
        matches!(self.found, Some(Found { message: Message::Datagram { .. }, .. }))
    }

    /// The message that was found, with its payload, which is in the packet or in what is kept here.
    pub(crate) fn said<'a>(&'a self, packet: &'a [u8]) -> Option<Stamped<'a>> {
        let Found { stamp, message, payload: place } = self.found.as_ref()?;
        let mut message: Message<'a> = *message;
        if let Message::Datagram { payload, .. } = &mut message {
            let bytes = match place {
                Payload::Here(range) => packet.get(range.clone()),
                Payload::Whole(range) => self.whole.as_ref()?.head().get(range.clone()),
            };
            *payload = bytes.unwrap_or_default();
        }
        Some(Stamped { number: stamp.number, time_ns: stamp.time_ns, message })
    }
}

impl Message<'_> {
    /// Where its payload is in the bytes that it was found in.
    fn range_in(&self, bytes: &[u8]) -> Range<usize> {
        match self {
            Message::Datagram { payload, .. } => {
                let start = payload.as_ptr().addr().wrapping_sub(bytes.as_ptr().addr());
                start..start.wrapping_add(payload.len())
            }
            _ => 0..0,
        }
    }

    fn without_payload(self) -> Message<'static> {
        match self {
            Message::Datagram { source, destination, length, checksum, .. } => {
                Message::Datagram { source, destination, length, payload: &[], checksum }
            }
            Message::FragmentLost { source, destination } => Message::FragmentLost { source, destination },
            Message::IcmpError { sender, receiver, icmp_type, code, mtu, quoted } => {
                Message::IcmpError { sender, receiver, icmp_type, code, mtu, quoted }
            }
        }
    }
}

/// Decodes one packet on its own. `None`: it is whole or not, but says nothing about UDP that we know how to
/// read. Of a datagram in fragments the first one speaks for all.
#[must_use]
pub fn dissect(link_type: LinkType, data: &[u8]) -> Option<Message<'_>> {
    let mut walk = Walk::new(None, 0);
    walk.inwards(link::strip(link_type, data));
    walk.message
}

fn unread(undecodable: Undecodable) -> NoPacket {
    NoPacket::Unread(match undecodable {
        Undecodable::Cut => "cut within an IP header",
        Undecodable::Malformed => "not a valid IP header",
    })
}

/// One packet, from the outermost header inwards.
struct Walk<'w, 'a> {
    /// Without it, first fragments are taken for the whole.
    fragments: Option<(&'w mut Fragments, Stamp)>,
    /// Bytes at the end of the packet that were not captured.
    missing: usize,
    /// The innermost message so far.
    message: Option<Message<'a>>,
    /// The datagram that this packet makes whole.
    whole: Option<Start>,
    /// What could not be read within.
    unread: Option<NoPacket>,
}

impl<'w, 'a> Walk<'w, 'a> {
    fn new(fragments: Option<(&'w mut Fragments, Stamp)>, missing: usize) -> Self {
        Self { fragments, missing, message: None, whole: None, unread: None }
    }

    fn inwards(&mut self, mut network: Network<'a>) {
        for _ in 0..NESTED {
            let step = match network {
                Ok((version, data)) => match ip::decode(version, data) {
                    Ok(packet) => self.content(&packet),
                    Err(undecodable) => Err(unread(undecodable)),
                },
                Err(why) => Err(why),
            };
            match step {
                Ok(None) => return,
                Ok(Some(inner)) => network = inner,
                Err(why) => {
                    self.unread = (why != NoPacket::Other).then_some(why);
                    return;
                }
            }
        }
        self.unread = Some(NoPacket::Unread("too many tunnels in each other"));
    }

    /// Reads what is in an IP packet; returns the next one inwards, if it is a tunnel.
    fn content(&mut self, packet: &IpPacket<'a>) -> Result<Option<Network<'a>>, NoPacket> {
        if let Some(fragment) = packet.fragment {
            return self.part(packet, fragment);
        }
        match packet.protocol {
            protocol::UDP => {
                let (destination_port, payload) = match udp::datagram(packet) {
                    Some(message @ Message::Datagram { destination, payload, .. }) => {
                        self.message = Some(message);
                        (destination.port(), payload)
                    }
                    _ => return Err(NoPacket::Unread("no valid UDP header")),
                };
                Ok(tunnel::vxlan(destination_port, payload))
            }
            protocol::ICMP | protocol::ICMPV6 => {
                self.message = icmp::error(packet).or(self.message);
                Ok(None)
            }
            _ => Ok(tunnel::inner(packet)),
        }
    }

    #[cold]
    fn part(&mut self, packet: &IpPacket<'a>, fragment: Fragment) -> Result<Option<Network<'a>>, NoPacket> {
        let followed = is_followed(packet.protocol);
        match &mut self.fragments {
            Some((fragments, stamp)) if followed && is_part(packet, fragment, self.missing) => {
                self.whole = fragments.add(*stamp, packet, fragment);
                Ok(None)
            }
            // What was cut and contradicts itself: the start has to do.
            _ if fragment.offset != 0 => Ok(None),
            Some(_) if followed && packet.payload.len() >= packet.length => Ok(None),
            _ => {
                let packet = IpPacket { fragment: None, ..*packet }.upper().map_err(unread)?;
                self.content(&packet)
            }
        }
    }
}

/// Can it be joined with others? What cannot is dropped by every host; its start still says what it was.
fn is_part(packet: &IpPacket<'_>, fragment: Fragment, missing: usize) -> bool {
    let complete = match packet.payload.first_chunk::<6>() {
        Some(&[_, _, _, _, high, low]) if packet.protocol == protocol::UDP && fragment.offset == 0 => {
            usize::from(u16::from_be_bytes([high, low])) <= packet.length
        }
        _ => false,
    };
    packet.length > 0
        && (!fragment.more || packet.length % 8 == 0)
        && u16::try_from(fragment.offset as usize + packet.length).is_ok()
        && packet.length <= packet.payload.len() + missing
        && !complete
}

/// Is it worth to know when the fragments of such a packet are complete? A packet in a tunnel is read from the
/// first.
const fn is_followed(number: u8) -> bool {
    matches!(
        number,
        protocol::UDP
            | protocol::ICMP
            | protocol::ICMPV6
            | protocol::HOP_BY_HOP_OPTIONS
            | protocol::ROUTING
            | protocol::AUTHENTICATION
            | protocol::DESTINATION_OPTIONS
    )
}
