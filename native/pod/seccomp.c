/* io_uring and io_setup (AIO) answer ENOSYS, so that programs fall back to epoll or threads and can be captured (docs/decisions/0040). See pod.h. The numbers
 * of io_uring are the same on every architecture (and with the x32 bit), so that only for io_setup the architecture is looked at. */
#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "pod.h"

#define X32_BIT 0x40000000u
#define IO_URING_FIRST 425 /* io_uring_setup */
#define IO_URING_LAST 427  /* io_uring_register */
#if defined(__x86_64__)
#define ARCHITECTURE AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define ARCHITECTURE AUDIT_ARCH_AARCH64
#endif

const struct sock_filter pod_io_uring_filter[] = {
    BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
    BPF_STMT(BPF_ALU | BPF_AND | BPF_K, ~X32_BIT),
    BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, IO_URING_FIRST, 0, 1),
    BPF_JUMP(BPF_JMP | BPF_JGT | BPF_K, IO_URING_LAST, 0, 3),
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_io_setup, 0, 3),
    BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch)),
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, ARCHITECTURE, 0, 1),
    BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS),
    BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
};
const size_t pod_io_uring_filter_length = ARRAY_LENGTH(pod_io_uring_filter);

int pod_seccomp_io_uring(struct err *e)
{
    struct sock_fprog program = {.len = (unsigned short)pod_io_uring_filter_length};
    struct sock_filter copy[ARRAY_LENGTH(pod_io_uring_filter)];
    for (size_t k = 0; k < ARRAY_LENGTH(copy); k++)
        copy[k] = pod_io_uring_filter[k];
    program.filter = copy;
    if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program) == 0)
        return 0;
    if (errno != EACCES || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 || syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program) < 0)
        return err_errno(e, "set the filter of io_uring and AIO");
    return 0;
}
