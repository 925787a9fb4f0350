//! Logs of strace: recorded ones, and what strace may make of them.

use std::fmt::Write as _;
use std::io::{BufReader, Cursor};

use udpkit_text::strace::{CallKind, Trace, TracedSocket, is_strace, read};

fn trace(text: &[u8]) -> Trace {
    read(Cursor::new(text))
}

fn one(text: &str) -> TracedSocket {
    let [socket] = trace(text.as_bytes()).sockets.try_into().expect("one socket");
    socket
}

fn recorded() -> Vec<(String, Vec<u8>)> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/evidence/strace");
    let files = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path());
    files.map(|path| (path.display().to_string(), std::fs::read(path).unwrap())).collect()
}

/// What a trace tells, but for where.
fn told(trace: &Trace) -> Vec<String> {
    let mut told = Vec::new();
    for socket in &trace.sockets {
        let calls: Vec<_> = socket.calls.iter().map(|calls| (&calls.key, calls.count)).collect();
        told.push(format!("{:?} {:?} {:?} {calls:?}", socket.family, socket.bound, socket.options));
    }
    told
}

/// Numbers without a pattern, the same in each run.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % limit.max(1)
    }
}

#[test]
fn recorded_logs_are_known_and_understood() {
    let files = recorded();
    assert!(files.len() > 10);
    for (path, text) in files {
        let trace = trace(&text);
        let lines = text.split(|&byte| byte == b'\n').filter(|line| !line.is_empty()).count();
        assert!(is_strace(&text), "{path}");
        assert_eq!(trace.tally.packets, lines as u64, "{path}");
        assert!(!trace.sockets.is_empty(), "{path}");
    }
}

#[test]
fn other_text_is_no_log() {
    for text in [
        "",
        "\n",
        "12:00:00.1 IP 10.0.0.1.1 > 10.0.0.2.53: UDP, length 3",
        "Proto Recv-Q Send-Q Local Address",
        "int fd = socket(AF_INET, SOCK_DGRAM, 0);",
        "read(fd, buffer, 9);",
        "\u{0}\u{1}",
    ] {
        assert!(!is_strace(text.as_bytes()), "{text}");
    }
}

#[test]
fn any_beginning_and_any_damage_is_read() {
    let mut numbers = Numbers(1);
    for (_, text) in recorded() {
        for line in text.split(|&byte| byte == b'\n') {
            for end in 0..line.len() {
                trace(&line[..end]);
            }
        }
        for _ in 0..200 {
            let mut damaged = text.clone();
            for _ in 0..10 {
                let at = numbers.below(damaged.len());
                let end = damaged.len().min(at + numbers.below(40));
                match numbers.below(3) {
                    0 => damaged[at] = b"<>(){}[]\"\\,=0 \n\xff/*"[numbers.below(18)],
                    1 => damaged.truncate(end.max(1)),
                    _ => damaged.extend_from_within(at..end),
                }
            }
            trace(&damaged);
        }
    }
    let noise: Vec<u8> = (0..200_000).map(|_| u8::try_from(numbers.below(256)).unwrap()).collect();
    assert_eq!(trace(&noise).sockets, []);
}

#[test]
fn a_call_that_is_shown_in_two_parts_is_the_same_call() {
    let mut numbers = Numbers(7);
    for (path, text) in recorded() {
        let mut split = Vec::new();
        for line in text.split_inclusive(|&byte| byte == b'\n') {
            let open = line.iter().position(|&byte| byte == b'(');
            let end = line.windows(4).rposition(|window| window == b") = ");
            // Only between arguments, as strace does it; here behind the first.
            let comma = line.iter().position(|&byte| byte == b',');
            match (open, comma, end) {
                (Some(open), Some(comma), Some(end))
                    if open < comma
                        && comma < end
                        && !line[..open].contains(&b'<')
                        && numbers.below(2) == 0 =>
                {
                    let start = line[..open].iter().rposition(|&byte| byte == b' ').map_or(0, |at| at + 1);
                    split.extend_from_slice(&line[..=comma]);
                    split.extend_from_slice(b" <unfinished ...>\n");
                    split.extend_from_slice(&line[..start]);
                    split.extend_from_slice(b"<... ");
                    split.extend_from_slice(&line[start..open]);
                    split.extend_from_slice(b" resumed>");
                    split.extend_from_slice(&line[comma + 1..]);
                }
                _ => split.extend_from_slice(line),
            }
        }
        assert_eq!(told(&trace(&split)), told(&trace(&text)), "{path}");
    }
}

#[test]
fn chatter_and_the_size_of_the_reads_change_nothing() {
    for (path, text) in recorded() {
        let mut mixed = Vec::new();
        for line in text.split_inclusive(|&byte| byte == b'\n') {
            mixed.extend_from_slice(b"hello (world\n > /usr/lib/libc.so.6(recvfrom+0x14) [0x10]\n\n");
            mixed.extend_from_slice(line);
        }
        assert_eq!(told(&trace(&mixed)), told(&trace(&text)), "{path}");
        assert_eq!(read(BufReader::with_capacity(1, &text[..])), trace(&text), "{path}");
    }
}

#[test]
fn a_line_without_end_and_lines_without_number_stay_small() {
    let mut text = br#"recvfrom(3, ""#.to_vec();
    text.resize(3 << 20, b'a');
    text.extend_from_slice(b"\nsocket(AF_INET, SOCK_DGRAM, 0) = 3\n");
    let trace = trace(&text);
    assert_eq!((trace.sockets.len(), trace.sockets[0].first.line), (1, 2));
    assert_eq!(trace.tally.unread["line too long"], 1);

    let mut many = String::new();
    for number in 0..60_000_u32 {
        let pid = number + 1;
        writeln!(many, "{pid} socket(AF_INET, SOCK_DGRAM, IPPROTO_IP) = {number}").unwrap();
        writeln!(many, "{pid} clone(flags=CLONE_VM, {number} <unfinished ...>").unwrap();
        let peer = format!(
            "{{sa_family=AF_INET, sin_port=htons({}), sin_addr=inet_addr(\"10.0.0.1\")}}",
            number % 60_000
        );
        writeln!(many, "{pid} sendto({number}, \"\", 0, 0, {peer}, 16) = 0").unwrap();
        writeln!(many, "1 sendto(0, \"\", 0, 0, {peer}, 16) = 0").unwrap();
    }
    let trace = crate::trace(many.as_bytes());
    assert!(trace.sockets.len() <= 50_000 && !trace.tally.damage.is_empty());
    assert!(trace.sockets.iter().all(|socket| socket.calls.len() <= 128 * 6));
    assert!(trace.sockets[0].unlisted > 0);
}

const CLIENT: &str = r#"{sa_family=AF_INET, sin_port=htons(40000), sin_addr=inet_addr("10.0.0.3")}"#;

#[test]
fn threads_share_descriptors_and_children_copy_them() {
    let made = "1 socket(AF_INET, SOCK_DGRAM, IPPROTO_IP) = 3\n";
    let used = format!("2 recvfrom(3, \"x\", 9, 0, {CLIENT}, [16]) = 1\n");
    for clone in [
        "1 clone(child_stack=0x1, flags=CLONE_VM|CLONE_FILES|CLONE_THREAD) = 2\n",
        "1 clone3({flags=CLONE_VM|CLONE_FILES|CLONE_THREAD, stack=0x1} => {parent_tid=[2]}, 88) = 2\n",
        "1 clone(child_stack=0x1, flags=CLONE_FILES|CLONE_THREAD <unfinished ...>\n",
        "1 clone(child_stack=0x1, flags=0x10f00 <unfinished ...>\n",
    ] {
        let socket = one(&format!("{made}{clone}{used}2 close(3) = 0\n"));
        assert_eq!((socket.process, socket.calls.len()), (Some(1), 1), "{clone}");
        // What one closed and opened anew is another's, too.
        let again =
            format!("{made}{clone}2 close(3) = 0\n1 socket(AF_INET, SOCK_STREAM, IPPROTO_TCP) = 3\n{used}");
        assert_eq!(one(&again).calls, [], "{clone}");
    }
    for fork in [
        "1 fork() = 2\n",
        "1 vfork( <unfinished ...>\n",
        "1 clone(flags=SIGCHLD) = 9 /* 2 in strace's PID NS */\n",
    ] {
        let socket = one(&format!("{made}{fork}{used}1 close(3) = 0\n{used}"));
        assert_eq!((socket.process, socket.calls[0].count), (Some(2), 2), "{fork}");
    }
}

#[test]
fn a_thread_that_strace_named_late_is_the_one_that_began() {
    let log = format!(
        "socket(AF_INET, SOCK_DGRAM, IPPROTO_IP) = 3\n\
         clone3({{flags=CLONE_VM|CLONE_FILES|CLONE_THREADstrace: Process 12 attached\n => {{parent_tid=[12]}}, 88) = 12\n\
         [pid    12] recvfrom(3, \"x\", 9, 0, {CLIENT}, [16]) = 1\n\
         [pid    11] sendto(3, \"x\", 1, 0, {CLIENT}, 16) = 1\n\
         [pid    12] +++ exited with 0 +++\n\
         sendto(3, \"x\", 1, 0, {CLIENT}, 16) = 1\n"
    );
    let socket = one(&log);
    assert_eq!((socket.process, socket.calls.len(), socket.calls[1].count), (Some(11), 2, 2));
}

#[test]
fn duplicates_are_the_same_socket_until_the_last_is_closed() {
    for duplicate in [
        "dup(3) = 9",
        "dup2(3, 9) = 9",
        "dup3(3, 9, O_CLOEXEC) = 9",
        "fcntl(3, F_DUPFD, 9) = 9",
        "fcntl(3, F_DUPFD_CLOEXEC, 9) = 9",
        "fcntl(3, 0x406, 9) = 9",
    ] {
        let log = format!(
            "socket(PF_INET, SOCK_DGRAM, IPPROTO_UDP) = 3\n{duplicate}\nclose(3) = 0\n\
             recvfrom(9, \"x\", 9, 0, {CLIENT}, [16]) = 1\n"
        );
        assert_eq!(one(&log).calls.len(), 1, "{duplicate}");
        let executed = log.replace("recvfrom", "execve(\"/bin/x\", [\"x\"], 0x1) = 0\nrecvfrom");
        let closes = duplicate.contains("CLOEXEC") || duplicate.contains("0x406");
        assert_eq!(trace(executed.as_bytes()).sockets.len(), 1 + usize::from(closes), "{duplicate}");
    }
}

#[test]
fn streams_raw_sockets_and_files_are_never_udp() {
    let log = format!(
        "socket(AF_INET, SOCK_STREAM, IPPROTO_IP) = 3\nbind(3, {CLIENT}, 16) = 0\nlisten(3, 5) = 0\n\
         accept(3, {CLIENT}, [16]) = 4\nsendto(4, \"x\", 1, 0, NULL, 0) = 1\nread(4, \"x\", 9) = 1\n\
         bind(5, {CLIENT}, 16) = 0\nlisten(5, 5) = 0\nconnect(6, {CLIENT}, 16) = -1 EINPROGRESS (x)\n\
         sendto(7, \"x\", 1, MSG_FASTOPEN, {CLIENT}, 16) = 1\n\
         socket(AF_INET, SOCK_DGRAM, IPPROTO_ICMP) = 8\nsendto(8, \"x\", 1, 0, {CLIENT}, 16) = 1\n\
         recvfrom(9, \"x\", 1, 0, {{sa_family=AF_INET, sin_port=htons(0), sin_addr=inet_addr(\"1.1.1.1\")}}, [16]) = 1\n\
         socket(AF_UNIX, SOCK_DGRAM, 0) = 10\nread(10, \"x\", 1) = 1\nsendto(11<TCP:[1.1.1.1:1->2.2.2.2:2]>, \"\", 0, 0, {CLIENT}, 16) = 0\n"
    );
    let trace = trace(log.as_bytes());
    assert_eq!((trace.sockets, trace.tally.datagrams), (vec![], 0));
}

#[test]
fn what_several_messages_of_one_call_tell() {
    for vector in [
        "[{msg_hdr={msg_name=C, msg_namelen=16, msg_iovlen=1, msg_controllen=0, msg_flags=0}, msg_len=1}, {msg_hdr={msg_name=C, msg_controllen=0}, msg_len=1}], 8, 0, NULL",
        "{{{msg_name(16)=C, msg_iov(1)=[{\"x\", 1}], msg_controllen=0, msg_flags=0}, 1}, {{msg_name(16)=C}, 1}}, 8, MSG_DONTWAIT, NULL",
    ] {
        let log =
            format!("recvmmsg(3, {}) = 2 (left {{tv_sec=1}})\n", vector.replace("=C", &format!("={CLIENT}")));
        let trace = trace(log.as_bytes());
        assert_eq!((trace.tally.datagrams, trace.carrying), (2, 1), "{log}");
        let [calls] = &trace.sockets[0].calls[..] else { panic!("{log}") };
        assert_eq!((calls.count, calls.key.kind), (2, CallKind::Receive));
        assert_eq!(calls.key.peer, Some("10.0.0.3:40000".parse().unwrap()));
    }
}

#[test]
fn an_error_knows_the_datagrams_that_it_may_be_about() {
    let log = format!(
        "socket(AF_INET, SOCK_DGRAM, IPPROTO_IP) = 3\nconnect(3, {CLIENT}, 16) = 0\nsend(3, \"x\", 1, 0) = 1\n\
         write(3, \"x\", 1) = -1 ECONNREFUSED (Connection refused)\nwrite(3, \"x\", 1) = 1\nwrite(3, \"x\", 1) = 1\n\
         getsockopt(3, SOL_SOCKET, SO_ERROR, [111], [4]) = 0\npoll([{{fd=3, events=POLLIN}}], 1, 10) = 0 (Timeout)\n\
         poll([{{fd=3, events=POLLIN}}], 1, 1000) = 0 (Timeout)\n\
         select(4, [3], NULL, NULL, {{tv_sec=1}}) = 0 (Timeout)\n"
    );
    let socket = one(&log);
    let told: Vec<_> = socket
        .calls
        .iter()
        .map(|calls| (calls.key.name, calls.key.errno.as_deref(), calls.candidates))
        .collect();
    let refused = Some("ECONNREFUSED");
    assert_eq!(
        told[2..],
        [
            ("write", refused, 1),
            ("write", None, 0),
            ("getsockopt", refused, 2),
            ("poll", Some("ETIMEDOUT"), 0),
            ("select", Some("ETIMEDOUT"), 0),
        ]
    );
}

#[test]
fn options_and_addresses_are_known_by_number_and_from_descriptors() {
    let socket = one(
        "sendto(3<UDPv6:[[::]:53]>, \"\", 0, 0, NULL, 0) = 0\nsetsockopt(3, 0x29 /* SOL_?? */, 0x31, [1], 4) = 0\nsetsockopt(3, SOL_SOCKET, SO_BINDTODEVICE, \"eth0\\0\", 5) = 0\n",
    );
    assert_eq!(
        (socket.family, socket.whole, socket.bound),
        (Some(6), false, Some("[::]:53".parse().unwrap()))
    );
    assert_eq!(socket.options, [("IPV6_RECVPKTINFO".into(), 1), ("SO_BINDTODEVICE".into(), 1)].into());
    let connected = one("write(3<UDP:[10.0.0.1:5->10.0.0.2:53]>, \"x\", 1) = 1\n");
    assert_eq!((connected.bound, connected.calls[0].key.peer), (None, Some("10.0.0.2:53".parse().unwrap())));
    let chosen = one(
        "socket(AF_INET, SOCK_DGRAM, 17) = 3\nbind(3, {sa_family=AF_INET, sin_port=htons(0), sin_addr=inet_addr(\"0.0.0.0\")}, 16) = 0\ngetsockname(3, {sa_family=AF_INET, sin_port=htons(999), sin_addr=inet_addr(\"0.0.0.0\")}, [16]) = 0\n",
    );
    assert_eq!(chosen.bound, Some("0.0.0.0:999".parse().unwrap()));
}

#[test]
fn a_call_that_was_broken_is_put_together() {
    let log = format!(
        "> socket(AF_INET, SOCK_DGRAM, IPPROTO_IP) = 3\n> recvfrom(3, \n> 0x1, 9, MSG_PEEK, 0x2, [16]) = ? ERESTARTSYS (x)\n\
         > recvfrom(3, Hello from the program itself\n> \"x\", 9, MSG_PEEK,\n>    {CLIENT}, [16]) = 1\n\
         > connect(3, {{sa_family=AF_INET6, sin6_port=htons(7),\n>  inet_pton(AF_INET6, \"fd00::1\", &sin6_addr)}}, 28)\n> = 0\n\
         > connect(3, {{sa_fam\n> close(3) = 0\n"
    );
    let trace = trace(log.as_bytes());
    let [socket] = &trace.sockets[..] else { panic!("{trace:?}") };
    let told: Vec<_> = socket.calls.iter().map(|calls| (calls.key.kind, calls.first.line)).collect();
    assert_eq!(told, [(CallKind::Peek, 4), (CallKind::Connect, 7)]);
    assert_eq!(trace.tally.unread, [("line cut off".to_owned(), 1)].into());
}

/// A datagram that is looked at and then taken is one; one that is only looked at is one, too.
#[test]
fn a_peek_and_the_read_behind_it_are_one_datagram() {
    let call = |flags: &str| {
        format!(
            "recvfrom(3, \"x\", 9, {flags}, {{sa_family=AF_INET, sin_port=htons(5), \
             sin_addr=inet_addr(\"10.0.0.9\")}}, [16]) = 1\n"
        )
    };
    let (peek, take) = (call("MSG_PEEK"), call("0"));
    for (text, datagrams) in [
        (peek.clone(), 1),
        (format!("{peek}{peek}{take}"), 1),
        (format!("{take}{peek}{take}{take}"), 3),
        (format!("{peek}recvfrom(3, 0x1, 9, 0, NULL, NULL) = -1 EAGAIN (x)\n{take}"), 1),
    ] {
        assert_eq!(trace(text.as_bytes()).tally.datagrams, datagrams, "{text}");
    }
}

/// A resolver's query tells a socket from before the log: on a stream its length would stand before it.
#[test]
fn a_query_without_its_length_is_a_datagram() {
    let log = |port: u16, query: &str| {
        format!(
            "connect(3, {{sa_family=AF_INET, sin_port=htons({port}), sin_addr=inet_addr(\"10.0.0.1\")}}, 16) = 0\n\
             sendto(3, \"{query}\", 28, ...) = 28\n"
        )
    };
    let query = r"\302\241\1\0\0\1\0\0\0\0\0\0\7example";
    assert_eq!(trace(log(53, query).as_bytes()).tally.datagrams, 1);
    for (port, other) in [(5300, query), (53, r"\0\32\1\0\0\1\0\0"), (53, "GET / HTTP")] {
        assert_eq!(trace(log(port, other).as_bytes()).sockets, [], "{port} {other}");
    }
}
