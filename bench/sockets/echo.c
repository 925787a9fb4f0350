/* The C side of the bench: what udpkit is measured against, and what measures it.
 *
 *   echo serve ADDRESS                 recvmmsg/sendmmsg echo server that answers from the address asked
 *   echo drive PORT SECONDS [ECHOES]   load: keeps a window of datagrams in flight to 127.0.0.1:PORT
 *   echo sink                          counts datagrams until SIGTERM
 *   echo send PORT SECONDS SIZE [gso]  sends to 127.0.0.1:PORT as fast as the kernel takes it
 *
 * `serve` and `sink` print their port first. The others print one line of figures.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103
#endif

enum {
    BATCH = 64,        /* datagrams per system call, for every role */
    WINDOW = 256,      /* datagrams in flight */
    SIZE = 64,         /* bytes of each of them */
    LARGEST = 65507,   /* bytes in one IPv4 datagram, and so in one GSO bundle */
    STALE = 2 * WINDOW /* so many datagrams later, an echo is not late but lost */
};
#define BUFFER (1 << 20) /* bytes of receive buffer: a full window must fit, whatever the kernel counts */
#define SILENCE 0.1      /* seconds without any echo after which all in flight are lost */
#define WARM_UP 0.1      /* seconds before counting starts */

static void die(const char *what) {
    fprintf(stderr, "echo: %s: %s\n", what, strerror(errno));
    exit(1);
}

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec * 1e-9;
}

static void grow(int fd) {
    int buffer = BUFFER;
    setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &buffer, sizeof buffer);
}

static int bound(const char *address) {
    struct sockaddr_in at = {.sin_family = AF_INET};
    socklen_t length = sizeof at;
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (inet_pton(AF_INET, address, &at.sin_addr) != 1) {
        errno = EINVAL;
        die(address);
    }
    if (fd < 0 || bind(fd, (struct sockaddr *)&at, sizeof at) || getsockname(fd, (struct sockaddr *)&at, &length))
        die("bind");
    grow(fd);
    printf("%d\n", ntohs(at.sin_port));
    fflush(stdout);
    return fd;
}

static int connected(const char *port) {
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(atoi(port))};
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (fd < 0 || connect(fd, (struct sockaddr *)&to, sizeof to))
        die("connect");
    return fd;
}

/* Sends all of them, in as many calls as it takes. */
static void send_all(int fd, struct mmsghdr *messages, int count) {
    for (int done = 0; done < count;) {
        int n = sendmmsg(fd, messages + done, count - done, 0);
        if (n < 0 && errno != EINTR && errno != ENOBUFS)
            die("sendmmsg");
        done += n > 0 ? n : 0;
    }
}

static void serve(const char *address) {
    static char data[BATCH][2048];
    static _Alignas(struct cmsghdr) char control[BATCH][CMSG_SPACE(sizeof(struct in_pktinfo))];
    struct sockaddr_in peers[BATCH];
    struct iovec parts[BATCH];
    struct mmsghdr messages[BATCH];
    int fd, on = 1;

    fd = bound(address);
    if (setsockopt(fd, IPPROTO_IP, IP_PKTINFO, &on, sizeof on))
        die("IP_PKTINFO");
    for (;;) {
        for (int i = 0; i < BATCH; i++) {
            parts[i] = (struct iovec){data[i], sizeof data[i]};
            messages[i].msg_hdr = (struct msghdr){.msg_name = &peers[i], .msg_namelen = sizeof peers[i],
                                                  .msg_iov = &parts[i], .msg_iovlen = 1,
                                                  .msg_control = control[i], .msg_controllen = sizeof control[i]};
        }
        int count = recvmmsg(fd, messages, BATCH, MSG_WAITFORONE, NULL);
        if (count < 0) {
            if (errno == EINTR)
                continue;
            die("recvmmsg");
        }
        for (int i = 0; i < count; i++) {
            /* What came says where to, what goes says where from: the same message, but for the interface,
             * which is the routing table's to choose. */
            struct cmsghdr *info = CMSG_FIRSTHDR(&messages[i].msg_hdr);
            if (info)
                ((struct in_pktinfo *)CMSG_DATA(info))->ipi_ifindex = 0;
            parts[i].iov_len = messages[i].msg_len;
            messages[i].msg_hdr.msg_flags = 0;
        }
        send_all(fd, messages, count);
    }
}

/* Each datagram in flight holds a slot of the window. An echo is counted once, for the datagram sent last from
 * its slot, so a late or repeated one is not counted; a slot whose echo does not come is freed and counted as
 * lost, so the window does not shrink.
 *
 * The server must be the one that cannot go faster. So the window is refilled a batch at a time with one GSO send
 * (the server's socket gets 64 separate datagrams all the same; with sendmmsg the driver would be as busy as the C
 * server), the socket is connected, and the driver spins instead of sleeping: waking it would be the server's work.
 * How long it found nothing to read is printed: near nothing means that the driver was the bottleneck. */
struct payload {
    uint64_t sequence;
    uint32_t slot;
    char rest[SIZE - 12];
} __attribute__((packed));

static uint64_t sent_as[WINDOW]; /* slot -> sequence number; 0: free */
static uint32_t available[WINDOW];
static int available_count;

static uint64_t free_older(uint64_t than) {
    uint64_t count = 0;
    for (uint32_t slot = 0; slot < WINDOW; slot++)
        if (sent_as[slot] && sent_as[slot] < than) {
            sent_as[slot] = 0;
            available[available_count++] = slot;
            count++;
        }
    return count;
}

static void drive(const char *port, double seconds, uint64_t enough) {
    static struct payload out[BATCH], in[BATCH];
    struct iovec parts[BATCH];
    struct mmsghdr messages[BATCH] = {0};
    uint64_t sequence = 0, echoes = 0, lost = 0, strays = 0, swept = 0;
    double waited = 0, waiting_since = 0, t = now(), began = t, started = t + WARM_UP, heard = t;
    int fd = connected(port), counting = 0, size = SIZE;

    grow(fd); /* so that what is lost is lost by the server */
    if (setsockopt(fd, IPPROTO_UDP, UDP_SEGMENT, &size, sizeof size))
        die("UDP_SEGMENT");
    for (uint32_t slot = 0; slot < WINDOW; slot++)
        available[available_count++] = slot;
    for (int i = 0; i < BATCH; i++) {
        parts[i] = (struct iovec){&in[i], SIZE};
        messages[i].msg_hdr = (struct msghdr){.msg_iov = &parts[i], .msg_iovlen = 1};
    }
    if (enough) {
        started = t;
        counting = 1;
    }
    while (t < started + seconds && !(enough && echoes >= enough)) {
        while (available_count >= BATCH) {
            for (int i = 0; i < BATCH; i++) {
                uint32_t slot = available[--available_count];
                sent_as[slot] = out[i].sequence = ++sequence;
                out[i].slot = slot;
            }
            if (send(fd, out, sizeof out, 0) < 0)
                die("send (is the server still there?)");
        }
        int count = recvmmsg(fd, messages, BATCH, MSG_DONTWAIT, NULL);
        if (count < 0 && errno != EAGAIN && errno != EINTR)
            die("recvmmsg (is the server still there?)");
        t = now();
        if (!counting && t >= started) {
            counting = 1;
            started = t;
            echoes = lost = strays = 0;
            waited = waiting_since = 0;
        }
        if (count <= 0) {
            if (!waiting_since)
                waiting_since = t;
            if (t - heard > SILENCE) {
                lost += free_older(UINT64_MAX);
                heard = t;
            }
            continue;
        }
        heard = t;
        if (waiting_since) {
            waited += t - waiting_since;
            waiting_since = 0;
        }
        for (int i = 0; i < count; i++) {
            uint32_t slot = in[i].slot;
            if (messages[i].msg_len == SIZE && slot < WINDOW && in[i].sequence &&
                sent_as[slot] == in[i].sequence) {
                sent_as[slot] = 0;
                available[available_count++] = slot;
                echoes++;
            } else
                strays++;
        }
        if (sequence > swept + STALE) {
            lost += free_older(swept);
            swept = sequence;
        }
    }
    if (waiting_since)
        waited += t - waiting_since;
    printf("echoes %llu seconds %.6f whole %.6f lost %llu strays %llu waited %.6f\n", (unsigned long long)echoes,
           t - started, t - began, (unsigned long long)lost, (unsigned long long)strays, waited);
}

static volatile sig_atomic_t stopped;

static void stop(int number) {
    (void)number;
    stopped = 1;
}

static void sink(void) {
    static char data[BATCH][2048];
    struct sigaction action = {.sa_handler = stop}; /* no SA_RESTART: it has to end recvmmsg */
    struct timeval wait = {.tv_usec = 50000};       /* or else a signal just before recvmmsg would not */
    struct iovec parts[BATCH];
    struct mmsghdr messages[BATCH] = {0};
    uint64_t got = 0;
    int fd;

    sigaction(SIGTERM, &action, NULL);
    fd = bound("127.0.0.1");
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof wait);
    for (int i = 0; i < BATCH; i++) {
        parts[i] = (struct iovec){data[i], sizeof data[i]};
        messages[i].msg_hdr = (struct msghdr){.msg_iov = &parts[i], .msg_iovlen = 1};
    }
    for (;;) {
        int count = recvmmsg(fd, messages, BATCH, MSG_WAITFORONE, NULL);
        if (count > 0)
            got += count;
        else if (stopped) /* and nothing is left in the queue */
            break;
    }
    printf("got %llu\n", (unsigned long long)got);
}

static void send_bulk(const char *port, double seconds, int size, int gso) {
    static char data[BATCH][2048], bundle[LARGEST];
    struct iovec parts[BATCH];
    struct mmsghdr messages[BATCH] = {0};
    int fd = connected(port), each;
    uint64_t sent = 0;
    double started = now(), t;

    if (size < 1 || size > (int)sizeof data[0]) {
        errno = EMSGSIZE;
        die("send");
    }
    each = LARGEST / size < BATCH ? LARGEST / size : BATCH;
    if (gso && setsockopt(fd, IPPROTO_UDP, UDP_SEGMENT, &size, sizeof size))
        die("UDP_SEGMENT");
    for (int i = 0; i < BATCH; i++) {
        parts[i] = (struct iovec){data[i], size};
        messages[i].msg_hdr = (struct msghdr){.msg_iov = &parts[i], .msg_iovlen = 1};
    }
    do {
        if (gso) {
            if (send(fd, bundle, (size_t)each * size, 0) < 0)
                die("send");
            sent += each;
        } else {
            send_all(fd, messages, BATCH);
            sent += BATCH;
        }
        t = now();
    } while (t < started + seconds);
    printf("sent %llu seconds %.6f\n", (unsigned long long)sent, t - started);
}

int main(int argc, char **argv) {
    const char *mode = argc > 1 ? argv[1] : "";
    if (!strcmp(mode, "serve") && argc == 3)
        serve(argv[2]);
    else if (!strcmp(mode, "drive") && (argc == 4 || argc == 5))
        drive(argv[2], atof(argv[3]), argc == 5 ? strtoull(argv[4], NULL, 10) : 0);
    else if (!strcmp(mode, "sink") && argc == 2)
        sink();
    else if (!strcmp(mode, "send") && (argc == 5 || argc == 6))
        send_bulk(argv[2], atof(argv[3]), atoi(argv[4]), argc == 6);
    else {
        fprintf(stderr, "usage: echo serve ADDRESS | drive PORT SECONDS [ECHOES] | sink | "
                        "send PORT SECONDS SIZE [gso]\n");
        return 2;
    }
    return 0;
}
