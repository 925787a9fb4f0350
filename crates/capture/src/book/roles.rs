//! Who asks and who answers, as far as two ports tell.

use super::compact::End;

/// Not even rresvport(3) and bindresvport(3) give a client a lower port.
pub(super) const FIRST_CLIENT_PORT: u16 = 512;

/// Ports above 1023 on which services wait (IANA, and by habit): of an ephemeral port asked from one of these,
/// it is the service that answers.
const REGISTERED: [u16; 17] =
    [1194, 1645, 1646, 1701, 1812, 1813, 2049, 3478, 3479, 4500, 5060, 5061, 5351, 5683, 11211, 27015, 51820];
/// The first port that an operating system of today hands out by itself (`ip_local_port_range`).
const FIRST_EPHEMERAL: u16 = 32_768;

/// Services that answer to a port which is reserved, too: DHCP and `DHCPv6`.
const RESERVED_PAIRS: [(u16, u16); 2] = [(67, 68), (547, 546)];

/// Is a datagram from `source` to `destination`, the first that is known of the two, an answer? Only where there
/// is hardly another way to read the ports: a service's on one side, on the other one that no service has.
pub(super) fn is_answer(source: End, destination: End) -> bool {
    let (from, to) = (source.port, destination.port);
    let by_ports = match from {
        0 => false,
        1..FIRST_CLIENT_PORT => to >= 1024 && REGISTERED.binary_search(&to).is_err(),
        _ => to >= FIRST_EPHEMERAL && REGISTERED.contains(&from) && !REGISTERED.contains(&to),
    };
    (by_ports || RESERVED_PAIRS.contains(&(from, to))) && !destination.is_group()
}

/// May a datagram from `source` to `client` be an answer to what the client asked of `server`?
///
/// It has the port that was asked, or the address, but not both. Nobody knows who asks where both sides use one
/// port (NTP, SIP), or where the client's is a service's. Nobody is a stranger to itself.
pub(super) fn may_answer_for(source: End, client: End, server: End) -> bool {
    client.port >= FIRST_CLIENT_PORT
        && server.port != client.port
        && source != client
        && (server.port == source.port) != (server.address == source.address)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(source: &str, destination: &str) -> bool {
        let end = |text: &str| End::from(text.parse::<std::net::SocketAddr>().unwrap());
        is_answer(end(source), end(destination))
    }

    #[test]
    fn a_service_answers_a_port_that_no_service_has() {
        assert!(answer("10.0.0.1:53", "10.0.0.2:1025"));
        assert!(answer("10.0.0.1:5060", "10.0.0.2:40000"));
        assert!(answer("10.0.0.1:67", "10.0.0.2:68"));
        assert!(REGISTERED.is_sorted());
    }

    #[test]
    fn where_the_ports_do_not_tell_the_first_to_speak_asks() {
        for (source, destination) in [
            ("10.0.0.1:123", "10.0.0.2:123"),
            ("10.0.0.1:40000", "10.0.0.2:53"),
            ("10.0.0.1:40000", "10.0.0.2:50000"),
            ("10.0.0.1:700", "10.0.0.2:40000"),
            ("10.0.0.1:5060", "10.0.0.2:1030"),
            ("10.0.0.1:500", "10.0.0.2:4500"),
            ("10.0.0.1:68", "10.0.0.2:67"),
            ("10.0.0.1:138", "10.0.0.255:40000"),
            ("10.0.0.1:0", "10.0.0.2:40000"),
        ] {
            assert!(!answer(source, destination), "{source} > {destination}");
        }
    }
}
