/* See files_facts.h. */
#include "files_facts.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <linux/openat2.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "spaces.h"

#define MQUEUE_MAGIC 0x19800202
#define FDINFO_MAX (64ul << 20)
#define DELETED " (deleted)"

/* ---- the pod */
static int compare_u64(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

static int mounts_read(struct view *v, struct err *e)
{
    AUTO_BUF struct buf text = {0};
    if (io_slurpf(&text, 16ul << 20, e, "/proc/%d/mountinfo", v->pod->init_pid) < 0)
        return err_wrap(e, "mounts of the pod");
    for (const char *line = (const char *)text.data; line && *line;) {
        *(uint64_t *)list_add((void **)&v->mounts, &v->mounts_count, sizeof(uint64_t)) = strtoul(line, NULL, 10);
        line = strchr(line, '\n');
        line = line ? line + 1 : NULL;
    }
    if (v->mounts_count)
        qsort(v->mounts, v->mounts_count, sizeof *v->mounts, compare_u64);
    return 0;
}

/* Sockets of the network namespaces that the job made. */
static int nets_read(struct view *v, struct err *e)
{
    for (size_t k = 0; v->spaces && k < v->spaces->others_count; k++) {
        pid_t pid = spaces_net_member(v->spaces, k + 1);
        if (pid && !v->spaces->others[k].trouble[0] && diag_add(pid, k + 1, &v->diag, e) < 0)
            return -1;
    }
    return 0;
}

int view_open(const struct pod *pod, const struct spaces *spaces, struct view *out, struct err *e)
{
    char path[64];
    struct err ignored;
    *out = (struct view){.pod = pod, .root = -1, .upper = -1, .spaces = spaces};
    snprintf(path, sizeof path, "/proc/%d/root", pod->init_pid);
    out->root = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (out->root < 0)
        return err_errno(e, "root of the pod");
    out->upper = pod_tree_open(pod, "root", &ignored);
    if (mounts_read(out, e) < 0 || diag_read(pod->init_pid, &out->diag, e) < 0 || nets_read(out, e) < 0) {
        view_close(out);
        return -1;
    }
    const char *logs[2] = {pod->facts.stdout_path, pod->facts.stderr_path};
    for (int i = 0; i < 2; i++)
        if (!logs[i] || !*logs[i] || stat(logs[i], &out->log[i]) < 0)
            out->log[i] = (struct stat){0};
    return 0;
}

void view_close(struct view *v)
{
    cleanup_close(&v->root);
    cleanup_close(&v->upper);
    free(v->mounts);
    diag_free(&v->diag);
}

static bool view_has_mount(const struct view *v, uint64_t id)
{
    return v->mounts_count && bsearch(&id, v->mounts, v->mounts_count, sizeof id, compare_u64);
}

static bool is_on_mount(const struct view *v, const struct facts *f)
{
    return f->space || view_has_mount(v, f->mount_id);
}

/* On a mount that shows something of the pod's. */
static bool is_on_pods(const struct view *v, const struct facts *f)
{
    return (f->space && !f->own) || view_has_mount(v, f->mount_id);
}

bool view_path_is(const struct view *v, const char *path, const struct stat *st)
{
    struct open_how how = {.flags = O_PATH | O_NOFOLLOW | O_CLOEXEC, .resolve = RESOLVE_IN_ROOT};
    AUTO_CLOSE int fd = (int)syscall(SYS_openat2, v->root, path, &how, sizeof how);
    struct stat found;
    if (fd >= 0 && fstat(fd, &found) == 0 && found.st_dev == st->st_dev && found.st_ino == st->st_ino)
        return true;
    for (size_t k = 0; v->spaces && k < v->spaces->mounts_count; k++)
        if (spaces_path_is(&v->spaces->mounts[k], path, 0, st))
            return true;
    return false;
}

bool view_in_host_part(const struct view *v, const struct facts *f)
{
    struct stat st;
    if (f->fs_type != OVERLAYFS_SUPER_MAGIC || v->upper < 0 || f->own)
        return false;
    return fstatat(v->upper, f->link + 1, &st, AT_SYMLINK_NOFOLLOW) < 0 || !S_ISREG(st.st_mode);
}

bool view_is_outside(const struct facts *f)
{
    static const char *const places[] = {"/tmp/", "/dev/", "/run/"};
    bool own = false;
    for (size_t i = 0; i < ARRAY_LENGTH(places) && f->fs_type == TMPFS_MAGIC; i++)
        own |= !strncmp(f->link, places[i], strlen(places[i]));
    return !own && !f->own && f->fs_type != OVERLAYFS_SUPER_MAGIC;
}

uint64_t pid_inside(pid_t pid)
{
    struct err e;
    AUTO_BUF struct buf text = {0};
    if (pid <= 0 || io_slurpf(&text, 1 << 16, &e, "/proc/%d/status", pid) < 0)
        return 0;
    const char *line = strstr((const char *)text.data, "\nNSpid:");
    if (!line)
        return 0;
    line += strlen("\nNSpid:");
    const char *end = strchr(line, '\n');
    uint64_t last = 0;
    for (char *next; line && *line && (!end || line < end); line = next) {
        uint64_t number = strtoul(line, &next, 10);
        if (next == line)
            break;
        last = number;
    }
    return last;
}

/* ---- one descriptor */
const char *facts_field(const struct facts *f, const char *key)
{
    size_t len = strlen(key);
    for (const char *line = f->fdinfo; line && *line;) {
        if (!strncmp(line, key, len) && line[len] == ':')
            return line + len + 1;
        line = strchr(line, '\n');
        line = line ? line + 1 : NULL;
    }
    return NULL;
}

static uint64_t field_number(const struct facts *f, const char *key, int base)
{
    const char *at = facts_field(f, key);
    return at ? strtoul(at, NULL, base) : 0;
}

static int facts_stat(struct facts *out)
{
    char path[64], link[PATH_BYTES];
    struct statfs fs;
    snprintf(path, sizeof path, "/proc/%d/fd/%d", out->pid, out->number);
    ssize_t n = readlink(path, link, sizeof link - 1);
    if (n < 0 || stat(path, &out->st) < 0)
        return -1;
    link[n] = 0;
    out->link = xstrdup(link);
    if (link[0] == '/') /* of what has no path it says nothing more */
        out->fs_type = statfs(path, &fs) == 0 ? (uint64_t)fs.f_type : 0;
    return 0;
}

int facts_read(pid_t pid, int number, struct facts *out, struct err *e)
{
    AUTO_BUF struct buf text = {0};
    *out = (struct facts){.pid = pid, .number = number};
    if (facts_stat(out) < 0)
        return errno == ENOENT || errno == ESRCH ? 1 : err_errno(e, "descriptor %d of process %d", number, pid);
    if (io_slurpf(&text, FDINFO_MAX, e, "/proc/%d/fdinfo/%d", pid, number) < 0) {
        facts_free(out);
        return errno == ENOENT || errno == ESRCH ? 1 : err_wrap(e, "descriptor %d of process %d", number, pid);
    }
    out->fdinfo = xstrdup((const char *)text.data);
    uint64_t flags = field_number(out, "flags", 8);
    out->cloexec = flags & O_CLOEXEC;
    out->flags = flags & ~(uint64_t)(O_CLOEXEC | 0100000 /* O_LARGEFILE as the kernel shows it */);
    out->offset = field_number(out, "pos", 10);
    out->mount_id = field_number(out, "mnt_id", 10);
    return 0;
}

void facts_locate(const struct view *v, struct facts *f)
{
    const struct seen_mounts *m = !v->spaces || f->link[0] != '/' || view_has_mount(v, f->mount_id) ? NULL : spaces_of_mount(v->spaces, f->mount_id);
    if (!m)
        return;
    bool leads = f->st.st_nlink && spaces_path_is(m, f->link, f->mount_id, &f->st);
    char *in_pod = leads ? spaces_pod_path(v->spaces, m, f->link) : NULL;
    f->space = m->image.id;
    f->own = !in_pod;
    f->place = in_pod ? f->link : xstrdup(f->link);
    f->link = in_pod ? in_pod : f->link;
}

void facts_free(struct facts *f)
{
    free(f->link);
    free(f->fdinfo);
    free(f->place);
    f->link = f->fdinfo = f->place = NULL;
}

char *facts_path(const struct facts *f)
{
    static const char deleted[] = DELETED;
    char *path = xstrdup(f->link);
    size_t len = strlen(path), tail = strlen(deleted);
    if (f->st.st_nlink == 0 && len > tail && !strcmp(path + len - tail, deleted))
        path[len - tail] = 0;
    return path;
}

/* ---- its kind */
static uint64_t refuse_words(char words[256], const char *what, const char *name)
{
    snprintf(words, 256, "%s%.180s", what, name);
    return 0;
}

static uint64_t anonymous_kind(const char *name, char words[256])
{
    static const struct {
        const char *name;
        uint64_t kind;
    } known[] = {
        {"[eventfd]", FILE_EVENTFD}, {"[eventpoll]", FILE_EPOLL}, {"[timerfd]", FILE_TIMERFD},
        {"[signalfd]", FILE_SIGNALFD}, {"[pidfd]", FILE_PIDFD}, {"inotify", FILE_INOTIFY}, {"[inotify]", FILE_INOTIFY},
    };
    for (size_t i = 0; i < ARRAY_LENGTH(known); i++)
        if (!strcmp(name, known[i].name))
            return known[i].kind;
    return refuse_words(words, "kernel object that cannot be captured: ", name);
}

/* A devpts of the pod, or one that the job has mounted. */
static bool is_terminal_known(const struct view *v, const struct facts *f)
{
    return is_on_pods(v, f) || (f->own && f->fs_type == DEVPTS_SUPER_MAGIC);
}

static uint64_t device_kind(const struct view *v, const struct facts *f, char words[256])
{
    unsigned major_number = major(f->st.st_rdev), minor_number = minor(f->st.st_rdev);
    if (major_number == 1 && (minor_number == 3 || minor_number == 5 || minor_number == 7 || minor_number == 8 || minor_number == 9))
        return FILE_DEVICE; /* null, zero, full, random, urandom: no state */
    if (major_number == 5 && minor_number == 0) /* /dev/tty: some terminal's slave */
        return is_on_pods(v, f) ? FILE_PTY_SLAVE : refuse_words(words, "terminal outside of the pod: ", f->link);
    if (major_number == 5 && minor_number == 2)
        return is_terminal_known(v, f) ? FILE_PTY_MASTER : refuse_words(words, "terminal outside of the pod: ", f->link);
    if (major_number >= 136 && major_number <= 143)
        return is_terminal_known(v, f) ? FILE_PTY_SLAVE : refuse_words(words, "terminal outside of the pod: ", f->link);
    return refuse_words(words, "device with a state of its own: ", f->link);
}

static uint64_t regular_kind(const struct view *v, const struct facts *f, char words[256])
{
    for (int i = 0; i < 2; i++)
        if (v->log[i].st_ino && v->log[i].st_dev == f->st.st_dev && v->log[i].st_ino == f->st.st_ino)
            return i ? FILE_STDERR : FILE_STDOUT;
    if (f->fs_type == MQUEUE_MAGIC)
        return FILE_MQUEUE;
    if (f->fs_type == HUGETLBFS_MAGIC && strncmp(f->link, "/memfd:", 7) != 0)
        return refuse_words(words, "file of huge pages ", f->link);
    if (f->fs_type == SECRETMEM_MAGIC)
        return refuse_words(words, "secret memory (memfd_secret)", "");
    if (!strncmp(f->link, "/memfd:", 7) || f->st.st_nlink == 0)
        return FILE_MEMOBJ;
    if (!is_on_mount(v, f))
        return refuse_words(words, "file outside of the pod: ", f->link);
    AUTO_FREE char *other = view_path_is(v, f->link, &f->st) ? NULL : view_find_name(v, &f->st);
    if (!other && !view_path_is(v, f->link, &f->st))
        return refuse_words(words, "file whose name is gone while it has others: ", f->link);
    return FILE_REGULAR;
}

static bool is_kernel_fs(const struct facts *f)
{
    return f->fs_type == PROC_SUPER_MAGIC || f->fs_type == SYSFS_MAGIC || f->fs_type == CGROUP_SUPER_MAGIC ||
           f->fs_type == CGROUP2_SUPER_MAGIC;
}

static uint64_t named_kind(const struct view *v, const struct facts *f, uint64_t kind, char words[256])
{
    if (!is_on_mount(v, f))
        return refuse_words(words, "file outside of the pod: ", f->link);
    if (!view_path_is(v, f->link, &f->st))
        return refuse_words(words, "file or directory that was removed: ", f->link);
    return kind;
}

/* Without a name, but of the pod's own file systems: it comes back without a name. */
static bool is_removed(const struct view *v, const struct facts *f)
{
    return f->st.st_nlink == 0 && view_has_mount(v, f->mount_id) && !is_kernel_fs(f);
}

uint64_t facts_kind(const struct view *v, const struct facts *f, char words[256])
{
    if (!strncmp(f->link, "anon_inode:", 11))
        return anonymous_kind(f->link + 11, words);
    if (S_ISSOCK(f->st.st_mode) && !(f->flags & O_PATH))
        return FACTS_SOCKET;
    if (!strncmp(f->link, "pipe:[", 6))
        return f->flags & O_PATH ? refuse_words(words, "O_PATH descriptor of a pipe", "") : FILE_PIPE;
    if (f->link[0] != '/')
        return refuse_words(words, "kernel object that cannot be captured: ", f->link);
    if (S_ISDIR(f->st.st_mode) && is_removed(v, f))
        return FILE_DIRECTORY;
    if (f->flags & O_PATH)
        return named_kind(v, f, FILE_PATH_ONLY, words);
    if (is_kernel_fs(f))
        return named_kind(v, f, FILE_PROC, words);
    switch (f->st.st_mode & S_IFMT) {
    case S_IFREG:
        return regular_kind(v, f, words);
    case S_IFDIR:
        return named_kind(v, f, FILE_DIRECTORY, words);
    case S_IFIFO:
        return is_removed(v, f) || (f->own && f->st.st_nlink == 0) ? FILE_FIFO : named_kind(v, f, FILE_FIFO, words);
    case S_IFCHR:
        return device_kind(v, f, words);
    default:
        return refuse_words(words, "block device ", f->link);
    }
}
