/* What a job cannot get in its pod, before a restore and after it: so an image need not hold it. (In namespaces of its own it can: n_*.c and
 * t_files_refused.py.)
 * COVERAGE: raw, packet and ICMP sockets, tun devices, own network devices, mounts, host name, chroot, clocks in the pod itself | refused | it holds capabilities */
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/time.h>

#include "victim.h"

#define DENIED(x) MUST((x) < 0 && (errno == EPERM || errno == EACCES || errno == ENOENT || errno == EROFS))

static void try_all(void)
{
    struct ifreq request = {.ifr_name = "lo"};
    struct timeval now;
    int fd = socket(AF_INET, SOCK_DGRAM, 0);
    DENIED(socket(AF_PACKET, SOCK_RAW, 0));
    DENIED(socket(AF_INET, SOCK_RAW, IPPROTO_ICMP));
    DENIED(socket(AF_INET, SOCK_DGRAM, IPPROTO_ICMP));
    DENIED(socket(AF_INET6, SOCK_RAW, IPPROTO_RAW));
    DENIED(open("/dev/net/tun", O_RDWR));
    DENIED(ioctl(fd, SIOCSIFFLAGS, &request));
    DENIED(mount("none", "/tmp", "tmpfs", 0, NULL));
    DENIED(umount("/proc"));
    DENIED(sethostname("other", 5));
    DENIED(chroot("/tmp"));
    DENIED(unshare(CLONE_NEWNET));
    DENIED(open("/proc/sys/net/ipv4/ip_forward", O_WRONLY));
    DENIED(open("/proc/sys/kernel/hostname", O_WRONLY));
    DENIED(mknod("/tmp/zero", S_IFCHR | 0666, makedev(1, 5)));
    DENIED(bind(fd, (struct sockaddr *)&(struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons(80)}, sizeof(struct sockaddr_in)));
    MUST(gettimeofday(&now, NULL) == 0);
    DENIED(settimeofday(&now, NULL));
    close(fd);
}

int main(void)
{
    return victim_main(try_all, try_all);
}
