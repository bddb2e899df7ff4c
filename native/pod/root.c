/* See root.h. The files below /etc are written into the overlay, so they travel with the image like everything else there. */
#include "root.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../kernel/inside.h"
#include "../kernel/mounts.h"

#define ETC_FILE_MAX (16u << 20)

static int directory_make(const char *path, struct err *e)
{
    if (mkdir(path, 0755) < 0 && errno != EEXIST)
        return err_errno(e, "mkdir %s", path);
    return 0;
}

/* A place to mount at: a link there (a captured tree may hold one) would lead into the old root. */
static int place_make(const char *path, struct err *e)
{
    if (directory_make(path, e) < 0)
        return -1;
    return inside_is_linked(path) ? err_set(e, E_BAD_IMAGE, "/%s is a link in the pod's root", path + strlen("root/")) : 0;
}

/* ---- mounts (paths relative to POD: the old root is still there) */

static int kernel_mounts(struct err *e)
{
    if (mount_at("proc", "root/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL, e) < 0)
        return -1;
    if (mount("sysfs", "root/sys", "sysfs", MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL) == 0)
        return 0;
    return mount_bind_readonly("/sys", "root/sys", e);
}

static int mounts_make(const struct pod *pod, const char *lower, struct err *e)
{
    static const char *const places[] = {"root/proc", "root/sys", "root/dev", "root/tmp", "root/run"};
    if (mount_at(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL, e) < 0 || mount_overlay(lower, "root", e) < 0)
        return -1;
    if (strcmp(lower, "/") == 0 && mount_host_parts("root", e) < 0)
        return -1;
    for (size_t k = 0; k < ARRAY_LENGTH(places); k++)
        if (place_make(places[k], e) < 0)
            return -1;
    if (kernel_mounts(e) < 0 || mount_dev("root/dev", pod->tree_fds[1], e) < 0)
        return -1;
    if (mount_attach(pod->tree_fds[0], "root/tmp", e) < 0 || mount_attach(pod->tree_fds[2], "root/run", e) < 0)
        return -1;
    return mount_bind_readonly("boot_id", "root/proc/sys/kernel/random/boot_id", e);
}

/* ---- files below /etc (paths absolute: after the pivot) */

static int file_write(const char *path, const void *data, size_t len, mode_t mode, struct err *e)
{
    const char *name;
    AUTO_CLOSE int above = inside_parent(path, &name);
    if (above < 0)
        return err_errno(e, "create %s in the pod", path);
    unlinkat(above, name, 0); /* never through a link that the lower root has there */
    AUTO_CLOSE int fd = openat(above, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, mode);
    if (fd < 0)
        return err_errno(e, "create %s in the pod", path);
    if (fchmod(fd, mode) < 0)
        return err_errno(e, "chmod %s in the pod", path);
    return io_write_all(fd, data, len, e);
}

static int text_write(const char *path, const char *text, struct err *e)
{
    return file_write(path, text, strlen(text), 0644, e);
}

/* Of the pod's own changes. */
static bool is_in_upper_etc(const struct pod *pod, const char *name, struct stat *out)
{
    AUTO_CLOSE int upper = openat(pod->dirfd, "upper", O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    AUTO_CLOSE int above = upper < 0 ? -1 : openat(upper, "etc", O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    return above >= 0 && fstatat(above, name, out, AT_SYMLINK_NOFOLLOW) == 0;
}

static int hosts_write(const struct pod *pod, const char *hosts, struct err *e)
{
    char ip[64];
    struct stat there;
    if (hosts)
        return text_write("/etc/hosts", hosts, e);
    if (is_in_upper_etc(pod, "hosts", &there))
        return 0; /* it came back with the image */
    snprintf(ip, sizeof ip, "%s", pod->net.present ? pod->net.ip : "127.0.0.1");
    ip[strcspn(ip, "/")] = 0;
    AUTO_FREE char *text = xasprintf("127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n%s %s\n", ip, pod->facts.hostname);
    return text_write("/etc/hosts", text, e);
}

/* Does any line of the file have `id` as its third field (passwd and group alike)? */
static bool id_is_known(const char *text, uint64_t id)
{
    for (const char *line = text; line && *line; line = strchr(line, '\n'), line = line ? line + 1 : NULL) {
        const char *second = strchr(line, ':'), *third = second ? strchr(second + 1, ':') : NULL;
        char *end;
        if (third && strtoull(third + 1, &end, 10) == id && end != third + 1 && (*end == ':' || *end == '\n' || *end == 0))
            return true;
    }
    return false;
}

/* Not through a link at the end, which could make anything of the machine's part of the root readable. */
static int plain_read(const char *path, struct buf *text, struct err *e)
{
    struct stat st;
    char self[64];
    AUTO_CLOSE int fd = inside_open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY, 0);
    if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
        return err_set(e, E_NO_INPUT, "%s is no file that can be read", path);
    snprintf(self, sizeof self, "/proc/self/fd/%d", fd);
    return io_slurp(AT_FDCWD, self, text, ETC_FILE_MAX, e);
}

static int id_add(const char *path, uint64_t id, const char *line, struct err *e)
{
    AUTO_BUF struct buf text = {0};
    if (plain_read(path, &text, e) < 0) {
        buf_free(&text); /* a root without such a file gets one */
        buf_add(&text, "", 1);
        text.len = 0;
    }
    if (id_is_known((const char *)text.data, id))
        return 0;
    if (text.len && text.data[text.len - 1] != '\n')
        buf_add(&text, "\n", 1);
    buf_addf(&text, "%s\n", line);
    return file_write(path, text.data, text.len, 0644, e);
}

/* What came back with the image as it is to be stays: to take a file away may have to wait for the disk. */
static int name_write(const struct pod *pod, const char *name, const char *text, struct err *e)
{
    struct stat there;
    struct err ignored;
    AUTO_BUF struct buf now = {0};
    AUTO_FREE char *path = xasprintf("/etc/%s", name);
    bool own = is_in_upper_etc(pod, name, &there) && there.st_uid == geteuid() && (there.st_mode & 07777) == 0644;
    if (own && plain_read(path, &now, &ignored) == 0 && now.len == strlen(text) && memcmp(now.data, text, now.len) == 0)
        return 0;
    return text_write(path, text, e);
}

static int identity_write(const struct pod *pod, struct err *e)
{
    const struct pod_facts *f = &pod->facts;
    AUTO_FREE char *user = xasprintf("u%lu:x:%lu:%lu:job:/tmp:/bin/sh", f->uid, f->uid, f->gid);
    AUTO_FREE char *group = xasprintf("g%lu:x:%lu:", f->gid, f->gid);
    AUTO_FREE char *hostname = xasprintf("%s\n", f->hostname);
    AUTO_FREE char *machine = xasprintf("%s\n", f->machine_id);
    if (id_add("/etc/passwd", f->uid, user, e) < 0 || id_add("/etc/group", f->gid, group, e) < 0)
        return -1;
    return name_write(pod, "hostname", hostname, e) < 0 ? -1 : name_write(pod, "machine-id", machine, e);
}

static int resolver_write(const char *resolver, struct err *e)
{
    AUTO_CLOSE int there = inside_open("/etc/resolv.conf", O_RDONLY | O_NONBLOCK | O_NOCTTY, 0);
    if (there >= 0 || !resolver)
        return 0;
    return text_write("/etc/resolv.conf", resolver, e);
}

/* ---- the remote execution program: a copy in the overlay, so that an image has the one that it runs, whatever the engine's version */

static int rsh_install(int rsh_fd, struct err *e)
{
    static const char *const names[] = {"ssh", "rsh"};
    AUTO_BUF struct buf program = {0};
    char path[64];
    AUTO_CLOSE int there = inside_open("/opt/clusteros/bin/clusteros-rsh", O_PATH | O_NOFOLLOW, 0);
    if (rsh_fd < 0 || there >= 0)
        return 0;
    snprintf(path, sizeof path, "/proc/self/fd/%d", rsh_fd);
    if (io_slurp(AT_FDCWD, path, &program, 64u << 20, e) < 0)
        return -1;
    AUTO_CLOSE int shims = inside_mkdirs("/opt/clusteros/bin/shims", 0755, e);
    if (shims < 0)
        return -1;
    if (file_write("/opt/clusteros/bin/clusteros-rsh", program.data, program.len, 0755, e) < 0)
        return -1;
    for (size_t k = 0; k < ARRAY_LENGTH(names); k++)
        if (symlinkat("../clusteros-rsh", shims, names[k]) < 0 && errno != EEXIST)
            return err_errno(e, "link %s", names[k]);
    return 0;
}

static int workdir_make(const char *path, const struct pod_facts *f, struct err *e)
{
    AUTO_CLOSE int there = path ? inside_open(path, O_PATH, 0) : -1;
    if (!path || there >= 0)
        return 0;
    AUTO_CLOSE int made = inside_mkdirs(path, 0755, e);
    if (made < 0)
        return -1;
    if (fchownat(made, "", (uid_t)f->uid, (gid_t)f->gid, AT_EMPTY_PATH) < 0)
        return err_errno(e, "give %s to the pod's user", path);
    return 0;
}

int root_build(const struct pod *pod, const struct pod_root *plan, struct err *e)
{
    umask(022);
    if (mounts_make(pod, plan->lower, e) < 0 || mount_pivot("root", e) < 0)
        return -1;
    if (directory_make("/etc", e) < 0 || hosts_write(pod, plan->hosts, e) < 0 || identity_write(pod, e) < 0)
        return -1;
    if (resolver_write(plan->resolver, e) < 0 || rsh_install(plan->rsh_fd, e) < 0)
        return -1;
    return workdir_make(plan->workdir, &pod->facts, e);
}

int root_seal(struct err *e)
{
    static const char *const paths[] = {"/proc/sys", "/proc/sysrq-trigger", "/proc/irq", "/proc/bus", "/proc/fs"};
    static bool sealed;
    if (sealed)
        return 0;
    sealed = true;
    for (size_t k = 0; k < ARRAY_LENGTH(paths); k++)
        if (access(paths[k], F_OK) == 0 && mount_bind_readonly(paths[k], paths[k], e) < 0)
            return -1;
    return 0;
}
