/* What an image says of the pod as a whole and of the machine it was taken on. */
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <time.h>

#include "save.h"

#define CPUINFO_MAX (4ul << 20)

static char *cpu_features(void)
{
    AUTO_BUF struct buf text = {0};
    struct err ignored;
    if (io_slurpf(&text, CPUINFO_MAX, &ignored, "/proc/cpuinfo") < 0)
        return xstrdup("");
    char *flags = strstr((char *)text.data, "\nflags");
    flags = flags ? strchr(flags, ':') : NULL;
    if (!flags)
        return xstrdup("");
    flags += flags[1] ? 2 : 1;
    flags[strcspn(flags, "\n")] = 0;
    return xstrdup(flags);
}

static char *copy(const char *s)
{
    return xstrdup(s ? s : "");
}

static void pod_facts_copy(const struct pod_facts *from, struct pod_facts *to)
{
    *to = *from;
    to->hostname = copy(from->hostname);
    to->cpus = copy(from->cpus);
    to->net = copy(from->net);
    to->machine_id = copy(from->machine_id);
    to->boot_id = copy(from->boot_id);
    to->stdout_path = copy(from->stdout_path);
    to->stderr_path = copy(from->stderr_path);
}

/* A clock as the pod sees it: the host's and the offset of the pod's time namespace. */
static int clock_save(const struct pod *pod, clockid_t clock, const char *name, uint64_t *out, struct err *e)
{
    AUTO_BUF struct buf text = {0};
    if (io_slurpf(&text, 4096, e, "/proc/%d/timens_offsets", pod->init_pid) < 0)
        return -1;
    const char *line = strstr((char *)text.data, name);
    long s = 0, ns = 0;
    if (line && sscanf(line + strlen(name), "%ld %ld", &s, &ns) != 2)
        return err_set(e, E_OS, "time namespace of the pod: %s", line);
    int64_t offset;
    if (__builtin_mul_overflow(s, 1000000000l, &offset) || __builtin_add_overflow(offset, ns, &offset))
        return err_set(e, E_OS, "time namespace of the pod: %s", line);
    *out = clock_ns(clock) + (uint64_t)offset;
    return 0;
}

static uint64_t log_mark(const char *path)
{
    struct stat at;
    return path && path[0] && stat(path, &at) == 0 ? (uint64_t)at.st_size : 0;
}

int facts_save(struct snapshot *s, struct err *e)
{
    struct utsname host;
    struct image *image = &s->image;
    uname(&host);
    image->format = IMAGE_FORMAT;
    image->taken_at_ns = clock_ns(CLOCK_REALTIME);
    image->kernel = xstrdup(host.release);
    image->machine = xstrdup(host.machine);
    image->cpu_features = cpu_features();
    image->engine = xstrdup("native");
    pod_facts_copy(&s->pod->facts, &image->pod);
    image->pod.command_status = -1;
    image->pod.stdout_bytes = log_mark(image->pod.stdout_path);
    image->pod.stderr_bytes = log_mark(image->pod.stderr_path);
    if (clock_save(s->pod, CLOCK_MONOTONIC, "monotonic", &image->pod.monotonic_ns, e) < 0)
        return -1;
    return clock_save(s->pod, CLOCK_BOOTTIME, "boottime", &image->pod.boottime_ns, e);
}
