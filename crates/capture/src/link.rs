//! Link layers: from the captured bytes to the IP packet in them.

use crate::ip::IpVersion;

/// What kind of link a packet was captured on, and so which header it starts with: a `LINKTYPE_` number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LinkType(pub u16);

impl LinkType {
    /// IEEE 802.3 Ethernet, `LINKTYPE_ETHERNET`.
    pub const ETHERNET: Self = Self(1);
}

/// The IP packet behind the link-layer header.
pub(crate) fn strip(link_type: LinkType, data: &[u8]) -> Option<(IpVersion, &[u8])> {
    match link_type {
        LinkType::ETHERNET => ethernet(data),
        _ => None,
    }
}

fn ethernet(data: &[u8]) -> Option<(IpVersion, &[u8])> {
    let (_addresses, data) = data.split_first_chunk::<12>()?;
    ether_type(data)
}

/// Reads the `EtherType` and steps over any number of VLAN tags.
fn ether_type(mut data: &[u8]) -> Option<(IpVersion, &[u8])> {
    loop {
        let (number, rest) = data.split_first_chunk::<2>()?;
        data = match u16::from_be_bytes(*number) {
            0x0800 => return Some((IpVersion::V4, rest)),
            0x86dd => return Some((IpVersion::V6, rest)),
            // 802.1Q, 802.1ad, and what came before 802.1ad: two bytes of tag, then the next EtherType.
            0x8100 | 0x88a8 | 0x9100 => rest.split_first_chunk::<2>()?.1,
            _ => return None,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(after_addresses: &[u8]) -> Vec<u8> {
        [&[0; 12], after_addresses].concat()
    }

    #[test]
    fn plain_frames() {
        assert_eq!(strip(LinkType::ETHERNET, &frame(&[0x08, 0x00, 7])), Some((IpVersion::V4, &[7][..])));
        assert_eq!(strip(LinkType::ETHERNET, &frame(&[0x86, 0xdd, 7])), Some((IpVersion::V6, &[7][..])));
    }

    #[test]
    fn tags_are_stepped_over() {
        let tagged = frame(&[0x88, 0xa8, 0, 1, 0x81, 0x00, 0, 2, 0x08, 0x00, 7]);
        assert_eq!(strip(LinkType::ETHERNET, &tagged), Some((IpVersion::V4, &[7][..])));
    }

    #[test]
    fn nothing_but_tags_ends() {
        assert_eq!(strip(LinkType::ETHERNET, &frame(&[0x81, 0x00].repeat(1000))), None);
    }

    #[test]
    fn what_is_not_ip_is_not_guessed() {
        assert_eq!(strip(LinkType::ETHERNET, &frame(&[0x08, 0x06, 7])), None, "ARP");
        assert_eq!(strip(LinkType::ETHERNET, &frame(&[0x00, 0x40, 7])), None, "802.3 length");
        assert_eq!(strip(LinkType(228), &frame(&[0x08, 0x00, 7])), None, "another link type");
        assert_eq!(strip(LinkType::ETHERNET, &[0; 13]), None, "cut");
    }
}
