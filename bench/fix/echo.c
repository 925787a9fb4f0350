/* Both sides of the bench.
 *
 *   echo serve PORT ADDRESS                      a plain server: recvfrom and sendto; `::` is dual-stack
 *   echo drive SERVER PORT NETWORK PEERS SECONDS keeps a window of datagrams in flight, from that many addresses
 *   echo accept PORT                             the same over one TCP connection
 *   echo stream SERVER PORT SECONDS
 *
 * All of NETWORK's addresses are the driver's host's own; it uses the first PEERS of them, in turn, on one socket:
 * ten thousand sockets would be the driver's work, and it is the server that must be the slower one. `drive` and
 * `stream` print how many echoes came in how many seconds.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { OWN_PORT = 5301, SIZE = 64, WINDOW = 128, BATCH = 32, BUFFER = 4 << 20 };
#define WARM_UP 0.2 /* seconds before counting starts, and every peer is known by then */

static void die(const char *what) {
    fprintf(stderr, "echo: %s: %s\n", what, strerror(errno));
    exit(1);
}

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec * 1e-9;
}

static struct sockaddr_in6 address(const char *text, int port) {
    struct sockaddr_in6 at6 = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
    struct sockaddr_in *at4 = (void *)&at6;

    if (strchr(text, ':') ? inet_pton(AF_INET6, text, &at6.sin6_addr) != 1
                          : (at6.sin6_family = AF_INET, inet_pton(AF_INET, text, &at4->sin_addr)) != 1)
        die("address");
    return at6;
}

static int bound(int kind, const char *text, int port) {
    struct sockaddr_in6 at = address(text, port);
    int fd = socket(at.sin6_family, kind, 0), off = 0, on = 1, buffer = BUFFER;
    struct timeval patience = {.tv_usec = 20000};

    setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off);
    if (kind == SOCK_STREAM)
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    else
        setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &buffer, sizeof buffer);
    if (port == OWN_PORT)
        setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    if (bind(fd, (void *)&at, sizeof at))
        die("bind");
    return fd;
}

static void serve(int port, const char *at) {
    int fd = bound(SOCK_DGRAM, at, port);
    struct sockaddr_in6 peer;
    char data[2048];

    for (;;) {
        socklen_t length = sizeof peer;
        ssize_t size = recvfrom(fd, data, sizeof data, 0, (struct sockaddr *)&peer, &length);
        if (size >= 0)
            sendto(fd, data, size, 0, (struct sockaddr *)&peer, length);
    }
}

static void back_and_forth(int fd, long *bytes, double until) {
    static char data[WINDOW * SIZE];
    int on = 1;
    ssize_t size;

    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    while ((!until || now() < until) && (size = recv(fd, data, sizeof data, 0)) > 0) {
        *bytes += size;
        if (send(fd, data, size, MSG_NOSIGNAL) != size)
            break;
    }
}

static void accept_each(int port) {
    int listener = bound(SOCK_STREAM, "::", port);
    long bytes = 0;

    if (listen(listener, 1))
        die("listen");
    for (;;) {
        int fd = accept(listener, NULL, NULL);
        back_and_forth(fd, &bytes, 0);
        close(fd);
    }
}

static void stream(const char *server, int port, double seconds) {
    struct sockaddr_in6 to = address(server, port);
    int fd = socket(to.sin6_family, SOCK_STREAM, 0);
    static const char window[WINDOW * SIZE];
    long bytes = 0, warm_up = 0;
    double began;

    if (connect(fd, (void *)&to, sizeof to) || send(fd, window, sizeof window, 0) != sizeof window)
        die("connect");
    back_and_forth(fd, &warm_up, now() + WARM_UP);
    began = now();
    back_and_forth(fd, &bytes, began + seconds);
    printf("%ld %.6f\n", bytes / SIZE, now() - began);
}

struct outgoing {
    char control[CMSG_SPACE(sizeof(struct in6_pktinfo))] __attribute__((aligned(8)));
    char data[SIZE];
    struct iovec part;
};

static void drive(const char *server, int port, const char *network, int peers, double seconds) {
    int six = strchr(server, ':') != NULL, fd = bound(SOCK_DGRAM, six ? "::" : "0.0.0.0", OWN_PORT), next = 0;
    static struct outgoing out[BATCH];
    static char in[WINDOW][SIZE];
    struct mmsghdr sends[BATCH] = {0}, receives[WINDOW] = {0};
    struct iovec parts[WINDOW];
    struct sockaddr_in6 to = address(server, port);
    unsigned char first[16];
    long echoes = 0;
    int free_slots = WINDOW;
    double began = now(), started = 0, t;

    if (inet_pton(six ? AF_INET6 : AF_INET, network, first) != 1)
        die("address");
    for (int i = 0; i < WINDOW; i++) {
        parts[i] = (struct iovec){in[i], SIZE};
        receives[i].msg_hdr = (struct msghdr){.msg_iov = &parts[i], .msg_iovlen = 1};
    }
    for (int i = 0; i < BATCH; i++) {
        out[i].part = (struct iovec){out[i].data, SIZE};
        sends[i].msg_hdr = (struct msghdr){.msg_name = &to,
                                           .msg_namelen = sizeof to,
                                           .msg_iov = &out[i].part,
                                           .msg_iovlen = 1,
                                           .msg_control = out[i].control,
                                           .msg_controllen = six ? CMSG_SPACE(sizeof(struct in6_pktinfo))
                                                                 : CMSG_SPACE(sizeof(struct in_pktinfo))};
        struct cmsghdr *header = CMSG_FIRSTHDR(&sends[i].msg_hdr);
        header->cmsg_level = six ? IPPROTO_IPV6 : IPPROTO_IP;
        header->cmsg_type = six ? IPV6_PKTINFO : IP_PKTINFO;
        header->cmsg_len = six ? CMSG_LEN(sizeof(struct in6_pktinfo)) : CMSG_LEN(sizeof(struct in_pktinfo));
    }
    while (!started || now() < started + seconds) {
        while (free_slots >= BATCH) {
            for (int i = 0; i < BATCH; i++) {
                unsigned char *source = CMSG_DATA(CMSG_FIRSTHDR(&sends[i].msg_hdr));
                uint16_t peer = htons(next++ % peers + 1);
                if (!six)
                    source += offsetof(struct in_pktinfo, ipi_spec_dst);
                memcpy(source, first, six ? 16 : 4);
                memcpy(source + (six ? 14 : 2), &peer, 2);
            }
            int sent = sendmmsg(fd, sends, BATCH, 0);
            if (sent < 0)
                die("sendmmsg");
            free_slots -= sent;
        }
        int count = recvmmsg(fd, receives, WINDOW, MSG_WAITFORONE, NULL);
        if (count < 0)
            free_slots = WINDOW; /* nothing for a while: all in flight are lost */
        else
            free_slots += count, echoes += started ? count : 0;
        if (free_slots > WINDOW)
            free_slots = WINDOW;
        if (!started && (t = now()) > began + WARM_UP && next > peers)
            started = t;
    }
    printf("%ld %.6f\n", echoes, now() - started);
}

int main(int argc, char **argv) {
    if (argc == 4 && !strcmp(argv[1], "serve"))
        serve(atoi(argv[2]), argv[3]);
    else if (argc == 7 && !strcmp(argv[1], "drive"))
        drive(argv[2], atoi(argv[3]), argv[4], atoi(argv[5]), atof(argv[6]));
    else if (argc == 3 && !strcmp(argv[1], "accept"))
        accept_each(atoi(argv[2]));
    else if (argc == 5 && !strcmp(argv[1], "stream"))
        stream(argv[2], atoi(argv[3]), atof(argv[4]));
    else
        return 2;
    return 0;
}
