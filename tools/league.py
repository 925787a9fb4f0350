"""The league table: real servers, tested as `udpkit test` does. `make league` writes docs/league.md with it.

Servers of Debian that wait for UDP requests of strangers, with their programs' default settings: set is only
what it takes to start them on a lab host, in the foreground, and to let them listen beyond loopback.
"""

from __future__ import annotations

import platform
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from itertools import groupby
from pathlib import Path

from udpkit.evidence.programs import output
from udpkit.facts.text import in_one_line
from udpkit.lab import Lab, LabError, ProgramMissing
from udpkit.lab.multihomed import Matrix, Plan, Port, build, on_stage, remedies
from udpkit.lab.servers import PRIVATE_RUN, SERVERS, Server, prepare
from udpkit.probe.payload import payload_for, payload_of
from udpkit.probe.protocols import PROTOCOLS


@dataclass(frozen=True)
class Entry:
    """One line of the table.

    title: the package, with what tells it from others of the same. protocol: of the requests; by the port
    without it. unpacked: its package conflicts with another's; its files stand in {dir}/package. why: it is
    not tried.
    """

    title: str
    server: Server
    protocol: str = ""
    client: Sequence[str] = ()
    typed: bytes = b""
    unpacked: bool = False
    why: str = ""


NSD = """
server:
  ip-address: 0.0.0.0
  ip-address: ::0
  username: ""
  chroot: ""
  database: ""
  zonesdir: "{dir}"
  pidfile: "{dir}/pid"
  xfrdfile: "{dir}/xfrd"
  zonelistfile: "{dir}/zones"
  logfile: "{dir}/log"
  xfrdir: "{dir}"
remote-control:
  control-enable: no
"""
KNOT = """
server:
    rundir: "{dir}"
    listen: [ 0.0.0.0@53, ::@53 ]
database:
    storage: "{dir}"
log:
  - target: stderr
    any: warning
"""
NAMED = """
options { directory "{dir}"; pid-file "{dir}/pid"; session-keyfile "{dir}/key"; listen-on-v6 { any; };
  managed-keys-directory "{dir}"; dnssec-validation no; recursion no; };
controls { };
"""
KAMAILIO = 'children=1\nloadmodule "sl.so"\nrequest_route { sl_send_reply("200", "OK"); }\n'

OPENVPN = (
    "openvpn --dev tun --proto udp --port 1194 --mode server --tls-server --keepalive 10 60 --dh none "
    "--ca {dir}/cert.pem --cert {dir}/cert.pem --key {dir}/key.pem"
)
# A client of its own for each handshake; it is content when that is done.
WIREGUARD = """
[ -n "$2" ] || exec unshare --mount sh "$0" "$1" mounted
mount -t tmpfs none /run
wireguard-go -f wg1 &
until [ -S /run/wireguard/wg1.sock ]; do sleep 0.02; done
wg set wg1 private-key {dir}/client peer "$(wg pubkey <{dir}/server)" allowed-ips 10.9.0.1/32 \\
  endpoint "$1" persistent-keepalive 1
ip link set wg1 up
for _ in $(seq 100); do
  wg show wg1 latest-handshakes | grep -q '[1-9]$' && done=yes && break
  sleep 0.02
done
kill $!
[ -n "$done" ]
"""
# Enter ends what the server runs, and with it server and client. Each server has a key of its own.
MOSH = """
until [ -s {dir}/said ]; do sleep 0.02; done
export LANG=C.UTF-8 TERM=xterm MOSH_KEY=$(sed -n 's/^MOSH CONNECT [0-9]* //p' {dir}/said)
timeout 2 script -qec "stty rows 24 cols 80; exec mosh-client $1 $2" /dev/null <{dir}/enter && rm {dir}/said
"""

ENTRIES = (
    Entry("dnsmasq", SERVERS["dnsmasq"]),
    Entry("unbound", SERVERS["unbound"]),
    Entry("bind9", Server("bind9", 53, "named -g -c {dir}/conf", files={"conf": NAMED})),
    Entry("nsd", Server("nsd", 53, "nsd -d -c {dir}/conf", files={"conf": NSD})),
    Entry("knot", Server("knot", 53, "knotd -c {dir}/conf", files={"conf": KNOT})),
    Entry(
        "pdns-server",
        Server(
            "pdns-server",
            53,
            "pdns_server --config-dir={dir} --socket-dir={dir} --daemon=no --guardian=no --launch=bind "
            "--bind-config={dir}/zones",
            files={"zones": ""},
        ),
    ),
    Entry(
        "pdns-recursor",
        Server(
            "pdns-recursor",
            53,
            "pdns_recursor --config-dir={dir} --socket-dir={dir} --daemon=no --local-address=0.0.0.0,:: "
            "--allow-from=0.0.0.0/0,::/0 --hint-file=no --dnssec=off",
        ),
        protocol="dns",
    ),
    Entry("avahi-daemon", SERVERS["avahi-daemon"]),
    Entry("samba (nmbd)", SERVERS["nmbd"]),
    Entry("chrony", SERVERS["chronyd"]),
    Entry(
        "ntpsec",
        Server(
            "ntpsec",
            123,
            "{dir}/package/usr/sbin/ntpd -n -N -c {dir}/conf -f {dir}/drift",
            files={"conf": "server 127.127.1.0\nrestrict default\ndisable ntp\n"},
        ),
        unpacked=True,
    ),
    Entry("snmpd", SERVERS["snmpd"]),
    Entry("tftpd-hpa", SERVERS["in.tftpd"]),
    Entry(
        "atftpd",
        Server(
            "atftpd",
            69,
            "{dir}/package/usr/sbin/atftpd --daemon --no-fork --user root.root --logfile - {dir}",
        ),
        unpacked=True,
    ),
    Entry("dnsmasq (TFTP)", SERVERS["dnsmasq-tftp"]),
    Entry("freeradius", SERVERS["freeradius"]),
    Entry("krb5-kdc", SERVERS["krb5kdc"]),
    Entry("rpcbind", SERVERS["rpcbind"]),
    Entry("coturn", SERVERS["turnserver"]),
    Entry("kamailio", replace(SERVERS["kamailio"], files={"conf": KAMAILIO})),
    Entry("kamailio, listen=udp:0.0.0.0", SERVERS["kamailio"]),
    Entry("asterisk", Server("asterisk", 5060, "asterisk -f")),
    Entry("opensips", Server("opensips", 5060, "opensips -F")),
    Entry("openvpn", replace(SERVERS["openvpn"], command=OPENVPN)),
    Entry("openvpn --multihome", replace(SERVERS["openvpn"], command=f"{OPENVPN} --multihome")),
    Entry("strongswan (charon)", SERVERS["charon"]),
    Entry("xl2tpd", SERVERS["xl2tpd"]),
    Entry(
        "wireguard-go",
        Server(
            "wireguard-go",
            51820,
            "wireguard-go -f wg0 & until [ -S /run/wireguard/wg0.sock ]; do sleep 0.02; done; "
            "wg set wg0 listen-port 51820 private-key {dir}/server "
            "peer $(wg pubkey <{dir}/client) allowed-ips 10.9.0.2/32; ip link set wg0 up; wait",
            files={"ask": WIREGUARD},
            prepare=("wg genkey >{dir}/server", "wg genkey >{dir}/client"),
            mounts=(PRIVATE_RUN,),
        ),
        client=("sh", "{dir}/ask", "{host}:{port}"),
    ),
    Entry("osmo-ggsn", SERVERS["osmo-ggsn"]),
    Entry("memcached -U", SERVERS["memcached"]),
    Entry("libcoap (coap-server)", SERVERS["coap-server"]),
    Entry("ngtcp2 (gtlsserver)", SERVERS["gtlsserver"]),
    Entry("openssl s_server -dtls", SERVERS["openssl"]),
    Entry("miniupnpd", SERVERS["miniupnpd"]),
    Entry("xinetd (echo)", SERVERS["xinetd"]),
    Entry(
        "rsyslog",
        Server(
            "rsyslog",
            514,
            "rsyslogd -n -f {dir}/conf -i {dir}/pid",
            files={"conf": 'module(load="imudp")\ninput(type="imudp" port="514")\n*.* /dev/null\n'},
        ),
    ),
    Entry(
        "mosh",
        Server(
            "mosh",
            60001,
            "env LANG=C.UTF-8 mosh-server new -p 60001 -- sh -c 'read end' >{dir}/said",
            files={"ask": MOSH, "enter": "\n"},
        ),
        client=("sh", "{dir}/ask", "{address}", "{port}"),
    ),
    Entry(
        "iperf3",
        Server("iperf3", 5201, "iperf3 -s"),
        client=("iperf3", "-u", "-c", "{address}", "-t", "1", "-l", "100"),
    ),
    Entry("socat UDP-RECVFROM,fork", Server("socat", 5000, "socat UDP6-RECVFROM:5000,fork EXEC:cat")),
    Entry("socat UDP-LISTEN,fork", Server("socat", 5000, "socat UDP6-LISTEN:5000,fork EXEC:cat")),
    Entry("ncat -ulk", Server("ncat", 5000, "ncat -ulk 5000 -e /bin/cat")),
    Entry("ncat -ul", Server("ncat", 5000, "ncat -ul 5000 -e /bin/cat")),
    Entry("nc -ul", Server("netcat-openbsd", 5000, "nc.openbsd -ul 5000"), typed=b"hello\n"),
)


def main() -> None:
    rows = []
    for number, entry in enumerate(ENTRIES, start=1):
        row = line(entry)
        print(f"{number}/{len(ENTRIES)} {row}", file=sys.stderr, flush=True)
        rows.append(row)
    now = datetime.now(timezone.utc)
    system = platform.freedesktop_os_release().get("PRETTY_NAME", "Linux")
    print(
        HEAD.format(date=f"{now:%Y-%m-%d}", system=system, kernel=".".join(platform.release().split(".")[:2]))
    )
    print("\n".join(rows))


COLUMNS = 7
HEAD = """\
# The league table

Does the server answer from the address that was asked? Each ran unchanged on a lab host with twelve
addresses, as under [`udpkit test`](test.md), on {date}: {system}, Linux {kernel}. Written by `make league`.

Each server has its default settings, except for what it takes to start it in the foreground and to let it
listen beyond loopback (`src/udpkit/lab/servers.py`, `tools/league.py`). `5 of 5`: of the five IPv4 addresses
where it listens it answered all as it was asked, connected clients and unconnected ones. The last column is
for one address, and after `or` for all, where the program has such a setting.

| server | version | verdict | IPv4 | IPv6 | its answers | a setting that helps |
|---|---|---|---|---|---|---|"""


def line(entry: Entry) -> str:
    package = entry.server.package
    version = output("dpkg-query", "-W", "-f", "${Version}", package) or ""
    if entry.why:
        return row(entry.title, version, f"not asked: {entry.why}")
    try:
        with tempfile.TemporaryDirectory() as directory:
            own = Path(directory, "own")
            own.mkdir()  # nmbd wants one that others may read
            if entry.unpacked:
                version = unpack(package, own / "package")
            matrix = tested(entry, own)
    except ProgramMissing:
        return row(entry.title, version, "not installed")
    except LabError as error:
        return row(entry.title, version, f"not asked: {in_one_line(str(error))}")
    except subprocess.CalledProcessError:
        return row(entry.title, version, "not installed")
    if matrix.process == "sh":  # it had no UDP socket before it was asked
        matrix.process = entry.server.command.split()[0]
    port = matrix.ports[0]
    hint = next((one.command for one in remedies(matrix) if one.id == "bind"), "")
    calls = "; ".join(f"{how} ({count})" for how, count in port.calls().most_common(3))
    return row(
        entry.title,
        version,
        f"{port.verdict}{few(port)}",
        *(score(port, six) for six in (4, 6)),
        calls,
        hint if port.verdict == "wrong" and not hint.startswith("bind the server") else "",
    )


def row(*cells: str) -> str:
    padded = [*cells, *([""] * (COLUMNS - len(cells)))]
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in padded)} |"


def score(port: Port, version: int) -> str:
    """Of the addresses where it listens, those that were answered as they should to every client."""
    right = asked = 0
    for place, trials in groupby(port.trials, lambda one: one.place):
        outcomes = {one.outcome for one in trials}
        if place.address.version == version and outcomes != {"absent"}:
            asked += 1
            right += outcomes == {"right"}
    return f"{right} of {asked}" if asked else "-"


def few(port: Port) -> str:
    """Where it is not right, if that is at one or two addresses."""
    places = list(dict.fromkeys(str(one.place.address) for one in port.faults()))
    return f" ({', '.join(places)})" if 0 < len(places) <= 2 else ""


def tested(entry: Entry, own: Path) -> Matrix:
    with Lab() as lab:
        stage = build(lab)
        protocol = PROTOCOLS.get(entry.protocol)
        plan = Plan(
            command=prepare(entry.server, stage.server, own),
            ports=[entry.server.port],
            payload=(lambda _: payload_of(protocol)) if protocol else payload_for,
            client=[word.replace("{dir}", str(own)) for word in entry.client],
            typed=entry.typed,
        )
        return on_stage(stage, plan)


def unpack(package: str, directory: Path) -> str:
    """The files of a package that cannot be installed beside others; answers its version."""
    directory.mkdir()
    subprocess.run(["apt-get", "download", "-qq", package], cwd=directory, check=True, capture_output=True)
    [file] = directory.glob("*.deb")
    subprocess.run(["dpkg", "-x", file, directory], check=True, capture_output=True)
    return (output("dpkg-deb", "-f", str(file), "Version") or "").strip()


if __name__ == "__main__":
    main()
