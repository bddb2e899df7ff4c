/* See prepare.h. */
#include "prepare.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../kernel/cgroup.h"
#include "../kernel/namespaces.h"
#include "../kernel/netdev.h"
#include "init.h"
#include "spare.h"
#include "state.h"

#define ID_MAX 0xfffffffeul
#define HOST_NAME_LENGTH_MAX 63
#define MEMORY_LEAST_BYTES (4ul << 20)

/* ---- the directory */

static int child_make(int dirfd, const char *name, mode_t mode, struct err *e)
{
    if (mkdirat(dirfd, name, mode) < 0 && errno != EEXIST)
        return err_errno(e, "mkdir %s", name);
    return 0;
}

static int directory_open(const char *dir, struct pod *out, struct err *e)
{
    if (!dir || !*dir)
        return err_set(e, E_USAGE, "a pod needs a directory (--pod)");
    if (geteuid() != 0)
        return err_set(e, E_DENIED, "pods need root, or a user namespace of your own: unshare --user --map-root-user --mount --net --ipc --pid --fork --mount-proc");
    if (io_mkdirs(dir, 0700, e) < 0)
        return -1;
    if (!realpath(dir, out->dir))
        return err_errno(e, "%s", dir);
    out->dirfd = open(out->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (out->dirfd < 0)
        return err_errno(e, "open %s", out->dir);
    if (faccessat(out->dirfd, "state", F_OK, 0) == 0)
        return err_set(e, E_CONFLICT, "%s holds a pod already: remove the directory first", out->dir);
    if (child_make(out->dirfd, "upper", 0755, e) < 0 || child_make(out->dirfd, "work", 0700, e) < 0 || child_make(out->dirfd, "root", 0755, e) < 0)
        return -1;
    return child_make(out->dirfd, "log", 0700, e) < 0 ? -1 : child_make(out->dirfd, "results", 0700, e);
}

/* ---- names */

static int random_bytes(void *out, size_t len, struct err *e)
{
    return getrandom(out, len, 0) == (ssize_t)len ? 0 : err_errno(e, "getrandom");
}

static int identity_make(const struct pod_spec *spec, struct pod *out, struct err *e)
{
    uint8_t r[36];
    if (random_bytes(r, sizeof r, e) < 0)
        return -1;
    struct pod_facts *f = &out->facts;
    f->machine_id = xcalloc(33, 1);
    for (int k = 0; k < 16; k++)
        snprintf(f->machine_id + 2 * k, 3, "%02x", r[k]);
    f->boot_id = xasprintf("%02x%02x%02x%02x-%02x%02x-4%x%02x-a%x%02x-%02x%02x%02x%02x%02x%02x", r[16], r[17], r[18], r[19], r[20], r[21],
                           r[22] & 15, r[23], r[24] & 15, r[25], r[26], r[27], r[28], r[29], r[30], r[31]);
    if (spec->machine_id)
        memcpy(f->machine_id, spec->machine_id, 32);
    if (spec->boot_id)
        memcpy(f->boot_id, spec->boot_id, 36);
    snprintf(out->host_ifname, sizeof out->host_ifname, "pod%02x%02x%02x%02x", r[32], r[33], r[34], r[35]);
    snprintf(out->cgroup, sizeof out->cgroup, "clusteros-%02x%02x%02x%02x", r[32], r[33], r[34], r[35]);
    machine_boot_id(out->host_boot_id);
    if (spare_make(out->dirfd, "exit.spare", e) < 0 || spare_make(out->dirfd, "state.spare", e) < 0 || spare_make(out->dirfd, "result.spare", e) < 0)
        return -1;
    AUTO_FREE char *line = xasprintf("%s\n", f->boot_id);
    return io_replace_soon(out->dirfd, "boot_id", line, strlen(line), 0644, e);
}

/* ---- checks */

static bool all_in(const char *s, const char *allowed)
{
    return s[strspn(s, allowed)] == 0;
}

static int ids_check(const struct pod_spec *spec, struct err *e)
{
    static const char *const hex = "0123456789abcdefABCDEF-";
    if (spec->machine_id && (strlen(spec->machine_id) != 32 || !all_in(spec->machine_id, hex)))
        return err_set(e, E_USAGE, "'%s' is no machine id", spec->machine_id);
    if (spec->boot_id && (strlen(spec->boot_id) != 36 || !all_in(spec->boot_id, hex)))
        return err_set(e, E_USAGE, "'%s' is no boot id", spec->boot_id);
    if (spec->uid > ID_MAX || spec->gid > ID_MAX)
        return err_set(e, E_USAGE, "uid and gid must be below %lu", ID_MAX + 1);
    if (spec->mem_bytes && spec->mem_bytes < MEMORY_LEAST_BYTES)
        return err_set(e, E_USAGE, "--mem %lu is less than the %lu bytes that a pod needs", spec->mem_bytes, MEMORY_LEAST_BYTES);
    return 0;
}

static int spec_check(const struct pod_spec *spec, struct pod_net *net, struct err *e)
{
    cpu_set_t cpus;
    const char *name = spec->hostname;
    if (name && (strlen(name) == 0 || strlen(name) > HOST_NAME_LENGTH_MAX || name[0] == '-' || name[0] == '.'))
        return err_set(e, E_USAGE, "'%s' is no host name", name);
    for (const char *c = name; c && *c; c++)
        if (!isalnum((unsigned char)*c) && *c != '-' && *c != '.')
            return err_set(e, E_USAGE, "'%s' is no host name", name);
    if (spec->cpus && *spec->cpus && cpu_list_parse(spec->cpus, &cpus, e) < 0)
        return -1;
    if (spec->workdir && spec->workdir[0] != '/')
        return err_set(e, E_USAGE, "the working directory must be an absolute path inside the pod, not '%s'", spec->workdir);
    return ids_check(spec, e) < 0 ? -1 : netdev_parse(spec->net, net, e);
}

/* ---- log files */

static int log_open(const struct pod *pod, const char *path, const char *name, char **path_out, struct err *e)
{
    AUTO_FREE char *own = xasprintf("%s/log/%s", pod->dir, name);
    int fd = open(path ? path : own, O_WRONLY | O_APPEND | O_CREAT | O_NOCTTY | O_CLOEXEC, 0640);
    struct stat st;
    if (fd < 0)
        return err_errno(e, "open %s", path ? path : own);
    *path_out = realpath(path ? path : own, NULL);
    bool ours = fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && geteuid() == 0 && ids_are_mapped(pod->facts.uid, pod->facts.gid); /* the job may open it anew by /dev/stdout */
    if (*path_out && (!ours || fchown(fd, (uid_t)pod->facts.uid, (gid_t)pod->facts.gid) == 0))
        return fd;
    err_errno(e, "give %s to the pod's user", path ? path : own);
    close(fd);
    return -1;
}

int pod_prepare(const struct pod_spec *spec, struct pod *out, struct err *e)
{
    *out = (struct pod){.dirfd = -1, .stdout_fd = -1, .stderr_fd = -1, .tree_fds = {-1, -1, -1}, .caller_pid = getpid(), .phase = "making"};
    if (spec_check(spec, &out->net, e) < 0 || directory_open(spec->dir, out, e) < 0)
        return -1;
    struct pod_facts *f = &out->facts;
    f->hostname = xstrdup(spec->hostname ? spec->hostname : "pod");
    f->cpus = xstrdup(spec->cpus ? spec->cpus : "");
    f->net = xstrdup(spec->net ? spec->net : "");
    f->uid = spec->uid;
    f->gid = spec->gid;
    f->mem_bytes = spec->mem_bytes;
    f->io_uring_allowed = spec->io_uring_allowed;
    f->command_status = -1;
    if (identity_make(spec, out, e) < 0)
        return -1;
    out->stdout_fd = log_open(out, spec->stdout_path, "stdout", &f->stdout_path, e);
    out->stderr_fd = out->stdout_fd < 0 ? -1 : log_open(out, spec->stderr_path, "stderr", &f->stderr_path, e);
    if (out->stderr_fd < 0)
        return -1;
    out->cgroups = xcalloc(1, sizeof *out->cgroups);
    cgroups_plan(out->cgroup, out->cgroups);
    return 0;
}

/* ---- for root_build */

static char *text_of(const char *path)
{
    struct err ignored;
    struct buf text = {0};
    if (io_slurp(AT_FDCWD, path, &text, 1u << 20, &ignored) == 0)
        return (char *)text.data;
    buf_free(&text);
    return NULL;
}

static int rsh_open(void)
{
    char self[PATH_BYTES];
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 32);
    if (n <= 0)
        return -1;
    self[n] = 0;
    char *slash = strrchr(self, '/');
    snprintf(slash + 1, 32, "clusteros-rsh");
    return open(self, O_RDONLY | O_CLOEXEC);
}

int root_plan(const struct pod_spec *spec, struct pod_root *out, struct err *e)
{
    *out = (struct pod_root){.lower = spec->lower ? spec->lower : "/", .workdir = spec->workdir, .rsh_fd = -1};
    if (spec->hosts_file && !(out->hosts = text_of(spec->hosts_file)))
        return err_set(e, E_NO_INPUT, "the hosts file %s cannot be read", spec->hosts_file);
    out->resolver = text_of("/etc/resolv.conf");
    out->rsh_fd = rsh_open();
    return 0;
}

void root_plan_free(struct pod_root *plan)
{
    free((void *)(uintptr_t)plan->hosts);
    free((void *)(uintptr_t)plan->resolver);
    if (plan->rsh_fd >= 0)
        close(plan->rsh_fd);
}
