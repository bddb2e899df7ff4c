/* What victims share that make network namespaces of their own: the loopback device. */
#pragma once
#include <net/if.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "spaces.h"

/* Takes it up, when asked to; is it up then? */
static __attribute__((unused)) int lo_is_up(int set)
{
    struct ifreq lo = {.ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING};
    int fd = socket(AF_INET, SOCK_DGRAM, 0);
    MUST(fd >= 0 && (!set || ioctl(fd, SIOCSIFFLAGS, &lo) == 0) && ioctl(fd, SIOCGIFFLAGS, &lo) == 0);
    close(fd);
    return (lo.ifr_flags & IFF_UP) != 0;
}

static __attribute__((unused)) void become_networked(void)
{
    become(CLONE_NEWUSER | CLONE_NEWNET, 0, 0);
    MUST(lo_is_up(1));
}
