/* A plain server: echo PORT ADDRESS..., a socket for each address, recvfrom and sendto. `::` takes IPv4 as well. */
#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <sys/socket.h>

enum { MOST = 64 };

int main(int argc, char **argv) {
    struct pollfd sockets[MOST];
    int count = 0;

    for (; count < argc - 2 && count < MOST; count++) {
        struct addrinfo wants = {.ai_socktype = SOCK_DGRAM, .ai_flags = AI_NUMERICHOST}, *at;
        if (getaddrinfo(argv[2 + count], argv[1], &wants, &at))
            return 2;
        int fd = socket(at->ai_family, SOCK_DGRAM, 0), off = 0;
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off);
        if (bind(fd, at->ai_addr, at->ai_addrlen)) {
            perror(argv[2 + count]);
            return 1;
        }
        sockets[count] = (struct pollfd){.fd = fd, .events = POLLIN};
    }
    while (poll(sockets, count, -1) > 0)
        for (int i = 0; i < count; i++) {
            struct sockaddr_storage peer;
            socklen_t length = sizeof peer;
            char data[2048];
            ssize_t size;
            if (sockets[i].revents &&
                (size = recvfrom(sockets[i].fd, data, sizeof data, 0, (struct sockaddr *)&peer, &length)) >= 0)
                sendto(sockets[i].fd, data, size, 0, (struct sockaddr *)&peer, length);
        }
    return 1;
}
