//! `struct msghdr`, and the control messages in it, from every version of strace.

use std::net::IpAddr;

use super::names::errno_name;
use super::value::{Sockaddr, address, field, inside, is, items, number, sockaddr, word};

/// What a `struct msghdr` tells.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) name: Option<Sockaddr>,
    /// As in [`super::Key::pktinfo`].
    pub(super) pktinfo: Option<bool>,
    pub(super) local: Option<IpAddr>,
    pub(super) error: Option<Queued>,
}

/// `struct sock_extended_err`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Queued {
    pub(super) errno: String,
    pub(super) icmp: Option<(u8, u8)>,
    pub(super) offender: Option<IpAddr>,
}

const IP: (&[&[u8]], i64) = (&[b"SOL_IP", b"IPPROTO_IP"], 0);
const IPV6: (&[&[u8]], i64) = (&[b"SOL_IPV6", b"IPPROTO_IPV6"], 41);

/// Reads a `struct msghdr`. `address` names the member that has the local address: the destination of what was
/// received is in `ipi_addr`, the source that was chosen in `ipi_spec_dst` (ip(7)).
/// An `ipv4` socket ignores the control messages of IPv6.
pub(super) fn header(value: &[u8], member: &[u8], ipv4: bool) -> Option<Header> {
    let members = inside(value)?;
    let mut header = Header { pktinfo: Some(false), ..Header::default() };
    for item in items(members) {
        match item.name {
            b"msg_name" => header.name = sockaddr(item.value),
            b"msg_control" if item.value.starts_with(b"[") => {
                header.messages(inside(item.value).unwrap_or_default(), member, ipv4);
            }
            b"msg_control" if item.value.starts_with(b"{") => header.messages(item.value, member, ipv4),
            b"msg_control" if word(item.value) != b"NULL" => header.pktinfo = None,
            // Before strace 4.12 a control message stands among the members.
            b"" if field(inside(item.value).unwrap_or_default(), b"cmsg_len").is_some() => {
                header.messages(item.value, member, ipv4);
            }
            _ => {}
        }
    }
    Some(header)
}

impl Header {
    fn messages(&mut self, list: &[u8], member: &[u8], ipv4: bool) {
        for item in items(list) {
            let Some(message) = inside(item.value) else {
                self.pktinfo = self.pktinfo.filter(|&known| known); // "...": cut
                continue;
            };
            let part = |name: &[u8]| field(message, name).unwrap_or_default();
            let (level, kind, data) = (part(b"cmsg_level"), part(b"cmsg_type"), part(b"cmsg_data"));
            let length = number(part(b"cmsg_len"));
            // Old versions leave the type out. Then the length tells: a header of 16 or 12 bytes and the
            // structure, `struct in_pktinfo` with 12 and `struct in6_pktinfo` with 20 bytes.
            let (ip, ipv6) = if kind.is_empty() {
                (matches!(length, Some(28 | 24)), matches!(length, Some(36 | 32)))
            } else {
                (
                    is(kind, &[b"IP_PKTINFO"], 8),
                    is(kind, &[b"IPV6_PKTINFO"], 50) || is(kind, &[b"IPV6_2292PKTINFO"], 2),
                )
            };
            if ip && is(level, IP.0, IP.1) {
                let data = data_of(message, data, b"ipi_ifindex");
                self.pktinfo = Some(true);
                self.local = field(data, member).and_then(address);
            } else if ipv6 && is(level, IPV6.0, IPV6.1) && !ipv4 {
                self.pktinfo = Some(true);
                self.local = address(data).map(|address| address.to_canonical());
            } else if is(kind, &[b"IP_RECVERR"], 11) && is(level, IP.0, IP.1)
                || is(kind, &[b"IPV6_RECVERR"], 25) && is(level, IPV6.0, IPV6.1)
            {
                self.error = queued(data_of(message, data, b"ee_errno"));
            }
        }
    }
}

/// The members of a control message's data; in older versions it has no name.
fn data_of<'a>(message: &'a [u8], data: &'a [u8], member: &[u8]) -> &'a [u8] {
    inside(data)
        .or_else(|| {
            items(message).filter_map(|item| inside(item.value)).find(|it| field(it, member).is_some())
        })
        .unwrap_or_default()
}

fn queued(error: &[u8]) -> Option<Queued> {
    let part = |name: &[u8]| field(error, name).unwrap_or_default();
    let byte = |name: &[u8]| number(part(name)).and_then(|number| u8::try_from(number).ok());
    let from_icmp = is(part(b"ee_origin"), &[b"SO_EE_ORIGIN_ICMP"], 2)
        || is(part(b"ee_origin"), &[b"SO_EE_ORIGIN_ICMP6"], 3);
    let offender = match sockaddr(part(b"offender")) {
        Some(Sockaddr::Inet(offender)) => Some(offender.ip().to_canonical()),
        _ => None,
    };
    Some(Queued {
        errno: errno_name(part(b"ee_errno"))?,
        icmp: byte(b"ee_type").zip(byte(b"ee_code")).filter(|_| from_icmp),
        offender,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pktinfo(control: &str) -> (Option<bool>, Option<String>) {
        let text = format!("{{msg_name(16)=NULL, msg_iov(1)=[{{\"x\", 1}}], {control}, msg_flags=0}}");
        let header = header(text.as_bytes(), b"ipi_spec_dst", false).unwrap();
        (header.pktinfo, header.local.map(|local| local.to_string()))
    }

    #[test]
    fn a_chosen_source_is_seen_in_every_spelling() {
        let one = Some("10.0.0.1".to_owned());
        let data = r#"{ipi_ifindex=if_nametoindex("lo"), ipi_spec_dst=inet_addr("10.0.0.1"), ipi_addr=inet_addr("0.0.0.0")}"#;
        for (control, expected) in [
            (
                format!(
                    "msg_control=[{{cmsg_len=28, cmsg_level=SOL_IP, cmsg_type=IP_PKTINFO, cmsg_data={data}}}]"
                ),
                one.clone(),
            ),
            (
                format!("msg_control=[{{cmsg_len=28, cmsg_level=0, cmsg_type=0x8, cmsg_data={data}}}]"),
                one.clone(),
            ),
            (
                format!(
                    "msg_controllen=32, {{cmsg_len=28, cmsg_level=SOL_IP, cmsg_type=IP_PKTINFO, {data}}}"
                ),
                one.clone(),
            ),
            ("msg_controllen=28, {cmsg_len=28, cmsg_level=SOL_IP, cmsg_type=, ...}".into(), None),
            ("msg_control=[{cmsg_len=36, cmsg_level=SOL_IPV6, cmsg_type=0x32}]".into(), None),
            (
                "msg_control=[{cmsg_len=20, cmsg_level=SOL_SOCKET, cmsg_type=SCM_RIGHTS, cmsg_data=[4]}, \
                 {cmsg_len=36, cmsg_level=SOL_IPV6, cmsg_type=IPV6_PKTINFO, cmsg_data={ipi6_ifindex=1, \
                 ipi6_addr=inet_pton(AF_INET6, \"::ffff:10.0.0.1\")}}]"
                    .into(),
                one,
            ),
        ] {
            assert_eq!(pktinfo(&control), (Some(true), expected), "{control}");
        }
    }

    #[test]
    fn no_source_and_one_that_is_not_shown_are_different() {
        assert_eq!(pktinfo("msg_controllen=0"), (Some(false), None));
        assert_eq!(pktinfo("msg_control=NULL, msg_controllen=0"), (Some(false), None));
        assert_eq!(pktinfo("msg_control=0x7ffd0, msg_controllen=32"), (None, None));
        assert_eq!(
            pktinfo("msg_control=[{cmsg_len=20, cmsg_level=SOL_IP, cmsg_type=IP_TTL, cmsg_data=[64]}]").0,
            Some(false)
        );
        assert_eq!(
            pktinfo("msg_control=[{cmsg_len=20, cmsg_level=SOL_IP, cmsg_type=IP_TTL, cmsg_data=[64]}, ...]")
                .0,
            None
        );
        let six = b"{msg_control=[{cmsg_len=36, cmsg_level=SOL_IPV6, cmsg_type=0x32}]}";
        assert_eq!(header(six, b"ipi_spec_dst", true).unwrap().pktinfo, Some(false));
    }

    #[test]
    fn a_queued_error_is_read() {
        let text = br#"{msg_control=[{cmsg_len=48, cmsg_level=SOL_IP, cmsg_type=IP_RECVERR, cmsg_data={ee_errno=111, ee_origin=2, ee_type=3, ee_code=3, ee_info=0, ee_data=0, offender={sa_family=AF_INET, sin_port=htons(0), sin_addr=inet_addr("127.0.0.1")}}}]}"#;
        let offender = Some("127.0.0.1".parse().unwrap());
        let error = Queued { errno: "ECONNREFUSED".into(), icmp: Some((3, 3)), offender };
        assert_eq!(header(text, b"ipi_addr", true).unwrap().error, Some(error));
    }
}
