/* See mounts.h. */
#include "mounts.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "inside.h"

bool namespace_is_first(void)
{
    struct err ignored;
    AUTO_BUF struct buf map = {0};
    unsigned long inside, outside, count;
    return io_slurp(AT_FDCWD, "/proc/self/uid_map", &map, 4096, &ignored) == 0 && map.data &&
           sscanf((char *)map.data, "%lu %lu %lu", &inside, &outside, &count) == 3 && inside == 0 && outside == 0 && count == 4294967295ul;
}

int mount_tmpfs_detached(const char *mode, struct err *e)
{
    AUTO_CLOSE int fs = fsopen("tmpfs", FSOPEN_CLOEXEC);
    if (fs < 0 || fsconfig(fs, FSCONFIG_SET_STRING, "source", "tmpfs", 0) < 0 || fsconfig(fs, FSCONFIG_SET_STRING, "mode", mode, 0) < 0 ||
        fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0)
        return err_errno(e, "make a tmpfs");
    int fd = fsmount(fs, FSMOUNT_CLOEXEC, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV);
    return fd < 0 ? err_errno(e, "make a tmpfs") : fd;
}

int mount_attach(int mount_fd, const char *at, struct err *e)
{
    if (move_mount(mount_fd, "", AT_FDCWD, at, MOVE_MOUNT_F_EMPTY_PATH) < 0)
        return err_errno(e, "mount a tmpfs at %s", at);
    return 0;
}

int mount_at(const char *source, const char *at, const char *type, unsigned long flags, const char *options, struct err *e)
{
    if (mount(source, at, type, flags, options) < 0)
        return err_errno(e, "mount %s at %s", type ? type : source, at);
    return 0;
}

int mount_bind_readonly(const char *source, const char *at, struct err *e)
{
    if (mount(source, at, NULL, MS_BIND | MS_REC, NULL) < 0)
        return err_errno(e, "bind %s to %s", source, at);
    struct mount_attr attributes = {.attr_set = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID};
    if (mount_setattr(AT_FDCWD, at, AT_RECURSIVE, &attributes, sizeof attributes) < 0)
        return err_errno(e, "make %s read-only", at);
    return 0;
}

static int overlay_try(const char *lower, const char *at, const char *upper, const char *work, const char *how)
{
    AUTO_FREE char *options = xasprintf("lowerdir=%s,upperdir=%s,workdir=%s,index=off,%s", lower, upper, work, how);
    return mount("clusteros", at, "overlay", MS_NOSUID, options);
}

/* Without redirects, metacopy and index every change stands whole in upper: an image of it needs nothing else. An ordinary user's
 * overlay keeps its marks in user.* attributes, and has neither of the two anyway. */
static int overlay_mount(const char *lower, const char *at, const char *upper, const char *work)
{
    if (overlay_try(lower, at, upper, work, "metacopy=off,redirect_dir=off") == 0)
        return 0;
    int number = errno;
    if ((number == EPERM || number == EINVAL) && overlay_try(lower, at, upper, work, "userxattr") == 0)
        return 0;
    errno = number;
    return -1;
}

/* ---- a root of which the parts are overlays: for a user namespace whose / has mounts that it may not take apart */

static bool is_made_by_us(const char *name)
{
    static const char *const names[] = {".", "..", "proc", "sys", "dev", "tmp", "run"};
    for (size_t k = 0; k < ARRAY_LENGTH(names); k++)
        if (strcmp(name, names[k]) == 0)
            return true;
    return false;
}

static int link_copy(const char *from, const char *to, struct err *e)
{
    char target[PATH_BYTES];
    ssize_t n = readlink(from, target, sizeof target - 1);
    if (n < 0)
        return err_errno(e, "read the link %s", from);
    target[n] = 0;
    return symlink(target, to) < 0 && errno != EEXIST ? err_errno(e, "link %s", to) : 0;
}

static int part_overlay(const char *lower, const char *at, const char *name, struct err *e)
{
    struct stat st;
    AUTO_FREE char *from = xasprintf("%s/%s", strcmp(lower, "/") == 0 ? "" : lower, name), *to = xasprintf("%s/%s", at, name);
    AUTO_FREE char *upper = xasprintf("upper/%s", name), *work = xasprintf("work/%s", name);
    if (lstat(from, &st) < 0)
        return err_errno(e, "look at %s", from);
    if (S_ISLNK(st.st_mode))
        return link_copy(from, to, e);
    if (!S_ISDIR(st.st_mode))
        return 0;
    if ((mkdir(upper, 0755) < 0 && errno != EEXIST) || (mkdir(work, 0700) < 0 && errno != EEXIST))
        return err_errno(e, "mkdir %s", upper);
    if (overlay_mount(from, to, upper, work) == 0)
        return 0;
    return mount_bind_readonly(from, to, e); /* it has mounts below that may not be taken apart either */
}

static int parts_mount(const char *lower, const char *at, struct err *e)
{
    if (mount("upper", at, NULL, MS_BIND, NULL) < 0)
        return err_errno(e, "bind the pod's own files");
    AUTO_DIR DIR *entries = opendir(lower);
    if (!entries)
        return err_errno(e, "open %s", lower);
    for (struct dirent *entry; (entry = readdir(entries));)
        if (!is_made_by_us(entry->d_name) && part_overlay(lower, at, entry->d_name, e) < 0)
            return -1;
    return 0;
}

int mount_overlay(const char *lower, const char *at, struct err *e)
{
    if (lower[0] != '/' || strpbrk(lower, ",:\\"))
        return err_set(e, E_USAGE, "the lower root '%s' must be an absolute path without , : \\", lower);
    if (overlay_mount(lower, at, "upper", "work") == 0)
        return 0;
    err_errno(e, "mount the pod's overlay on %s (the pod's directory must not lie on an overlay itself)", lower);
    return namespace_is_first() ? -1 : parts_mount(lower, at, e);
}

/* ---- the machine's own mounts below / */

static bool is_below(const char *path, const char *top)
{
    size_t len = strlen(top);
    return strncmp(path, top, len) == 0 && (path[len] == 0 || path[len] == '/');
}

static bool is_network(const char *type)
{
    static const char *const types[] = {"nfs", "nfs4", "cifs", "smb3", "ceph", "lustre", "gpfs", "beegfs", "glusterfs", "fuse.glusterfs", "9p", "virtiofs", "orangefs", "afs"};
    for (size_t k = 0; k < ARRAY_LENGTH(types); k++)
        if (strcmp(type, types[k]) == 0)
            return true;
    return false;
}

static int part_bind(const char *root, const char *place, bool readonly, struct err *e)
{
    struct stat st;
    AUTO_FREE char *at = xasprintf("%s%s", root, place);
    if (stat(place, &st) < 0 || !S_ISDIR(st.st_mode))
        return 0; /* a mounted file, or one that we may not see */
    if (inside_is_linked(at))
        return err_set(e, E_BAD_IMAGE, "a part of %s is a link in the pod's root", place);
    if (io_mkdirs(at, 0755, e) < 0)
        return -1;
    if (readonly)
        return mount_bind_readonly(place, at, e);
    return mount_at(place, at, NULL, MS_BIND, NULL, e);
}

/* /opt itself stays ours (/opt/clusteros is made there): what is in the machine's is bound piece by piece. */
static int opt_bind(const char *root, struct err *e)
{
    AUTO_DIR DIR *opt = opendir("/opt");
    for (struct dirent *entry; opt && (entry = readdir(opt));) {
        AUTO_FREE char *place = xasprintf("/opt/%s", entry->d_name);
        if (entry->d_name[0] != '.' && strcmp(entry->d_name, "clusteros") != 0 && part_bind(root, place, true, e) < 0)
            return -1;
    }
    return 0;
}

/* One line of /proc/self/mountinfo: ID PARENT DEV ROOT PLACE OPTIONS ... - TYPE SOURCE SUPER */
static int part_take(const char *root, char *line, struct err *e)
{
    char place[PATH_BYTES], type[64];
    const char *dash = strstr(line, " - ");
    if (!dash || sscanf(line, "%*s %*s %*s %*s %4095s", place) != 1 || sscanf(dash, " - %63s", type) != 1 || strchr(place, '\\'))
        return 0;
    if (strcmp(place, "/opt") == 0)
        return opt_bind(root, e);
    bool system = is_below(place, "/usr") || is_below(place, "/opt");
    return system || is_below(place, "/home") || is_network(type) ? part_bind(root, place, system, e) : 0;
}

int mount_host_parts(const char *root, struct err *e)
{
    AUTO_BUF struct buf mounts = {0};
    if (io_slurp(AT_FDCWD, "/proc/self/mountinfo", &mounts, 8u << 20, e) < 0)
        return -1;
    char *save = NULL;
    for (char *line = strtok_r((char *)mounts.data, "\n", &save); line; line = strtok_r(NULL, "\n", &save))
        if (part_take(root, line, e) < 0)
            return -1;
    return 0;
}

/* ---- /dev */

static int device_make(const char *dev, const char *name, unsigned minor_of, unsigned major_of, struct err *e)
{
    AUTO_FREE char *path = xasprintf("%s/%s", dev, name);
    AUTO_FREE char *outside = xasprintf("/dev/%s", name);
    if (mknod(path, S_IFCHR | 0666, makedev(major_of, minor_of)) == 0)
        return chmod(path, 0666) < 0 ? err_errno(e, "chmod %s", path) : 0;
    AUTO_CLOSE int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0666); /* without the right to make nodes: the host's, bound */
    if (fd < 0 || mount(outside, path, NULL, MS_BIND, NULL) < 0)
        return err_errno(e, "make the device %s", path);
    return 0;
}

static int link_make(const char *dev, const char *name, const char *target, struct err *e)
{
    AUTO_FREE char *path = xasprintf("%s/%s", dev, name);
    return symlink(target, path) < 0 ? err_errno(e, "link %s", path) : 0;
}

static int pts_mount(const char *dev, struct err *e)
{
    AUTO_FREE char *pts = xasprintf("%s/pts", dev);
    if (mkdir(pts, 0755) < 0)
        return err_errno(e, "mkdir %s", pts);
    if (mount("devpts", pts, "devpts", MS_NOSUID | MS_NOEXEC, "newinstance,ptmxmode=0666,mode=620,gid=5") == 0)
        return 0;
    return mount_at("devpts", pts, "devpts", MS_NOSUID | MS_NOEXEC, "newinstance,ptmxmode=0666,mode=620", e); /* group 5 may not be mapped */
}

int mount_dev(const char *at, int shm_fd, struct err *e)
{
    static const struct {
        const char *name;
        unsigned major, minor;
    } devices[] = {{"null", 1, 3}, {"zero", 1, 5}, {"full", 1, 7}, {"random", 1, 8}, {"urandom", 1, 9}, {"tty", 5, 0}};
    static const char *const links[][2] = {{"fd", "/proc/self/fd"}, {"stdin", "/proc/self/fd/0"}, {"stdout", "/proc/self/fd/1"},
                                           {"stderr", "/proc/self/fd/2"}, {"ptmx", "pts/ptmx"}};
    AUTO_FREE char *shm = xasprintf("%s/shm", at);
    if (mount_at("tmpfs", at, "tmpfs", MS_NOSUID, "mode=755,size=256k", e) < 0)
        return -1;
    for (size_t k = 0; k < ARRAY_LENGTH(devices); k++)
        if (device_make(at, devices[k].name, devices[k].minor, devices[k].major, e) < 0)
            return -1;
    for (size_t k = 0; k < ARRAY_LENGTH(links); k++)
        if (link_make(at, links[k][0], links[k][1], e) < 0)
            return -1;
    if (mkdir(shm, 0755) < 0)
        return err_errno(e, "mkdir %s", shm);
    return pts_mount(at, e) < 0 ? -1 : mount_attach(shm_fd, shm, e);
}

int mount_pivot(const char *root, struct err *e)
{
    if (chdir(root) < 0)
        return err_errno(e, "enter %s", root);
    if (syscall(SYS_pivot_root, ".", ".") < 0)
        return err_errno(e, "pivot_root");
    if (umount2(".", MNT_DETACH) < 0 || chdir("/") < 0)
        return err_errno(e, "leave the old root");
    return 0;
}
