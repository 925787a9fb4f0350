"""Real servers as Debian packages them, each with what it takes to run in the foreground on a lab host."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from udpkit.evidence.programs import find
from udpkit.lab.errors import ProgramMissing
from udpkit.lab.host import Host

CERTIFICATE = (
    "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=server "
    "-keyout {dir}/key.pem -out {dir}/cert.pem",
)

PRIVATE_RUN = "-t tmpfs none /run"
STAY = (
    "printf 'int %s() { return 0; }\n' setgroups initgroups setgid setuid setregid setreuid chown fchown "
    "| cc -w -shared -fPIC -x c -o {dir}/stay.so -",
)
"""A library in which these system calls succeed and do nothing."""


@dataclass(frozen=True)
class Server:
    """`{dir}` in any of its texts is the server's own directory.

    command: a shell line that stays in the foreground. files: written before it runs. prepare: shell lines
    run before it. mounts: arguments of mount(8) that show it other files than the machine's. drops: it
    insists on becoming another user, which cannot be in a user namespace with one user in it.
    """

    package: str
    port: int
    command: str
    files: Mapping[str, str] = field(default_factory=dict)
    prepare: tuple[str, ...] = ()
    mounts: tuple[str, ...] = ()
    drops: bool = False


SERVERS = {
    "dnsmasq": Server(
        "dnsmasq-base",
        53,
        # --no-daemon: it stays who it is
        "dnsmasq --no-daemon --conf-file={dir}/conf --no-resolv --no-hosts --address=/name.example/192.0.2.7",
        {"conf": ""},
    ),
    "dnsmasq-tftp": Server(
        "dnsmasq-base",
        69,
        "dnsmasq --no-daemon --conf-file={dir}/conf --port=0 --enable-tftp --tftp-root={dir}",
        {"conf": "", "hello": "hello\n"},
    ),
    "unbound": Server(
        "unbound",
        53,
        "unbound -d -c {dir}/conf",
        {
            "conf": """
server:
  username: ""
  chroot: ""
  directory: "{dir}"
  pidfile: "{dir}/pid"
  use-syslog: no
  logfile: ""
  interface: 0.0.0.0
  interface: ::0
  access-control: 0.0.0.0/0 allow
  access-control: ::/0 allow
  local-data: "name.example. A 192.0.2.7"
remote-control:
  control-enable: no
"""
        },
    ),
    "chronyd": Server(
        "chrony",
        123,
        "chronyd -d -x -u root -f {dir}/conf",  # -x: hands off the clock
        {"conf": "local stratum 10\nallow\ncmdport 0\nbindcmdaddress /\npidfile {dir}/pid\n"},
    ),
    "snmpd": Server(
        "snmpd",
        161,
        "env SNMP_PERSISTENT_DIR={dir} snmpd -f -Le -C -c {dir}/conf udp:161 udp6:161",
        {"conf": "rocommunity public\nrocommunity6 public\nsysDescr the lab's snmpd\n"},
    ),
    "turnserver": Server(
        "coturn",
        3478,
        "turnserver -c {dir}/conf",
        {
            "conf": "no-tls\nno-dtls\nno-cli\nlog-file=stdout\npidfile={dir}/pid\nuserdb={dir}/turndb\n"
            "listening-port=3478\n"
        },
    ),
    "freeradius": Server(
        "freeradius",
        1812,
        "freeradius -f -l stdout -n radiusd -d {dir}",
        {
            "radiusd.conf": """
name = radiusd
logdir = {dir}
run_dir = {dir}
libdir = /usr/lib/freeradius
pidfile = {dir}/pid
security { status_server = yes }
client anybody { ipaddr = 0.0.0.0/0
  secret = testing123 }
client anybody6 { ipv6addr = ::/0
  secret = testing123 }
server default {
  listen { type = auth
    ipaddr = *
    port = 1812 }
  listen { type = auth
    ipv6addr = ::
    port = 1812 }
}
"""
        },
    ),
    "in.tftpd": Server(
        "tftpd-hpa",
        69,
        "in.tftpd --foreground --listen --user root --permissive {dir}",
        {"hello": "hello\n"},
        drops=True,
    ),
    "memcached": Server("memcached", 11211, "memcached -u root -U 11211 -p 11211"),
    "kamailio": Server(
        "kamailio",
        5060,
        "kamailio -f {dir}/conf -DD -E -w {dir} -Y {dir} -P {dir}/pid",
        {
            "conf": """
children=1
listen=udp:0.0.0.0:5060
listen=udp:[::]:5060
loadmodule "sl.so"
request_route { sl_send_reply("200", "OK"); }
"""
        },
    ),
    "rpcbind": Server("rpcbind", 111, "rpcbind -f", mounts=(PRIVATE_RUN,), drops=True),
    "krb5kdc": Server(
        "krb5-kdc",
        88,
        "env KRB5_CONFIG={dir}/conf KRB5_KDC_PROFILE={dir}/kdc.conf krb5kdc -n",
        {
            "conf": "[libdefaults]\ndefault_realm = EXAMPLE.COM\n",
            "kdc.conf": """
[realms]
EXAMPLE.COM = {
  database_name = {dir}/principal
  key_stash_file = {dir}/stash
}
[logging]
kdc = STDERR
""",
        },
        prepare=(
            "env KRB5_CONFIG={dir}/conf KRB5_KDC_PROFILE={dir}/kdc.conf "
            "kdb5_util create -s -r EXAMPLE.COM -P secret",
        ),
    ),
    "openvpn": Server(
        "openvpn",
        1194,
        "openvpn --dev null --proto udp --port 1194 --multihome --tls-server --dh none "
        "--ca {dir}/cert.pem --cert {dir}/cert.pem --key {dir}/key.pem",
        prepare=CERTIFICATE,
    ),
    "charon": Server(
        "strongswan-charon",
        500,
        "env STRONGSWAN_CONF={dir}/conf /usr/lib/ipsec/charon",
        {"conf": "charon { filelog { stderr { default = 1 } } }\n"},
        mounts=(PRIVATE_RUN,),
    ),
    "gtlsserver": Server(
        "ngtcp2-server", 443, "gtlsserver '*' 443 {dir}/key.pem {dir}/cert.pem", prepare=CERTIFICATE
    ),
    "openssl": Server(
        "openssl",
        5684,
        "openssl s_server -dtls -listen -accept 5684 -cert {dir}/cert.pem -key {dir}/key.pem",
        prepare=CERTIFICATE,
    ),
    "coap-server": Server("libcoap3-bin", 5683, "coap-server-openssl -v 4"),
    "avahi-daemon": Server(
        "avahi-daemon",
        5353,
        "avahi-daemon --file={dir}/conf --no-drop-root --no-chroot --no-rlimits",
        {
            "conf": "[server]\nenable-dbus=no\nhost-name=server\n[publish]\npublish-workstation=yes\n",
            "passwd": "avahi:x:0:0::/:/bin/sh\n",
            "group": "avahi:x:0:\n",
        },
        # it checks that its directory belongs to the user avahi
        mounts=(PRIVATE_RUN, "--bind {dir}/passwd /etc/passwd", "--bind {dir}/group /etc/group"),
    ),
    "nmbd": Server(
        "samba",
        137,
        "nmbd --foreground --no-process-group --debug-stdout --configfile={dir}/conf",
        {
            "conf": "[global]\nnetbios name = SERVER\nworkgroup = LAB\nlog file = {dir}/log\n"
            + "".join(
                f"{kind} = {{dir}}\n"
                for kind in (
                    "lock directory",
                    "state directory",
                    "cache directory",
                    "pid directory",
                    "private dir",
                    "ncalrpc dir",
                    "nmbd:socket dir",
                )
            )
        },
        mounts=(PRIVATE_RUN,),
    ),
    "xl2tpd": Server(
        "xl2tpd",
        1701,
        "xl2tpd -D -c {dir}/conf -p {dir}/pid -C {dir}/control",
        {"conf": "[global]\nport = 1701\n[lns default]\nip range = 10.0.0.2-10.0.0.9\nlocal ip = 10.0.0.1\n"},
    ),
    "osmo-ggsn": Server(
        "osmo-ggsn",
        2123,
        "osmo-ggsn -c {dir}/conf",
        {
            "conf": "ggsn ggsn0\n gtp state-dir {dir}\n gtp bind-ip 0.0.0.0\n no shutdown ggsn\n",
        },
    ),
    "miniupnpd": Server(
        "miniupnpd-nftables",
        1900,
        "miniupnpd -d -f {dir}/conf -P {dir}/pid",
        {
            "conf": "ext_ifname=up0\next_ip=1.1.1.1\nlistening_ip=eth0\nport=5000\n"
            "uuid=6a7c0b0e-0000-4000-8000-000000000001\nenable_upnp=yes\n"
        },
    ),
    "xinetd": Server(
        "xinetd",
        7,
        "xinetd -dontfork -f {dir}/conf -pidfile {dir}/pid",
        {
            "conf": "".join(
                f"service {name}\n{{\ntype = INTERNAL\nid = {name}-dgram\nsocket_type = dgram\n"
                "protocol = udp\nwait = yes\nuser = root\n}\n"
                for name in ("echo", "daytime", "chargen")
            )
        },
    ),
}
"""By name; the name is that of the program where nothing else is said."""


def prepare(server: Server, host: Host, own: Path) -> list[str]:
    """What to run on this host, with the server's files in its directory `own`. Raises ProgramMissing."""

    def fill(text: str) -> str:
        return text.replace("{dir}", str(own))

    words = fill(server.command).split()
    program = next(word for word in words if word != "env" and "=" not in word)
    if find(program) is None:
        raise ProgramMissing(program)
    for file, text in server.files.items():
        (own / file).write_text(fill(text))
    for line in (*server.prepare, *(STAY if server.drops else ())):
        host.shell(fill(line))
    mounts = "".join(f"mount {fill(arguments)} && " for arguments in server.mounts)
    preload = f"env LD_PRELOAD={own}/stay.so " if server.drops else ""
    shell = ["unshare", "--mount", "sh", "-c"] if mounts else ["sh", "-c"]
    return [*shell, f"{mounts}exec {preload}{fill(server.command)}"]
