/* See procfs.h. A process may end at any moment: what cannot be read then is E_CONFLICT to the caller's caller. */
#include "procfs.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef PIDFD_THREAD
#define PIDFD_THREAD O_EXCL /* Linux 6.9 */
#endif

#define STATUS_MAX (256ul * 1024)
#define MAPS_MAX (512ul << 20)

void proc_status_free(struct proc_status *s)
{
    buf_free(&s->groups);
}

/* The last number of a line: the innermost namespace. */
static pid_t innermost(const char *value, unsigned *depth)
{
    pid_t last = 0;
    *depth = 0;
    for (char *end; *value && *value != '\n'; value = end) {
        long n = strtol(value, &end, 10);
        if (end == value)
            break;
        last = (pid_t)n;
        ++*depth;
    }
    return last;
}

static void four(const char *value, uint64_t out[4])
{
    char *at = (char *)(uintptr_t)value;
    for (int k = 0; k < 4; k++)
        out[k] = strtoul(at, &at, 10);
}

static void groups_parse(const char *value, struct buf *out)
{
    for (char *end; *value && *value != '\n'; value = end) {
        uint32_t id = (uint32_t)strtoul(value, &end, 10);
        if (end == value)
            return;
        buf_add(out, &id, sizeof id);
        while (*end == ' ')
            end++;
    }
}

static void number_line(const char *line, size_t key_len, const char *value, struct proc_status *s)
{
    static const struct {
        const char *key;
        size_t len, at;
        int base;
    } table[] = {
#define LINE(key, field, base) {key, sizeof key - 1, offsetof(struct proc_status, field), base}
        LINE("CapInh", cap_inheritable, 16), LINE("CapPrm", cap_permitted, 16), LINE("CapEff", cap_effective, 16),
        LINE("CapBnd", cap_bounding, 16),    LINE("CapAmb", cap_ambient, 16),   LINE("SigPnd", pending, 16),
        LINE("ShdPnd", shared_pending, 16),  LINE("SigBlk", blocked, 16),       LINE("SigIgn", ignored, 16),
        LINE("SigCgt", caught, 16),          LINE("Umask", umask, 8),           LINE("NoNewPrivs", no_new_privs, 10),
        LINE("Seccomp", seccomp, 10),        LINE("Seccomp_filters", seccomp_filters, 10), LINE("Threads", threads, 10),
        LINE("THP_enabled", thp_enabled, 10), LINE("RssAnon", rss_anon_kib, 10),  LINE("RssShmem", rss_shmem_kib, 10),
        LINE("HugetlbPages", hugetlb_kib, 10),
        LINE("voluntary_ctxt_switches", voluntary_switches, 10),
#undef LINE
    };
    for (size_t k = 0; k < ARRAY_LENGTH(table); k++)
        if (table[k].len == key_len && memcmp(line, table[k].key, key_len) == 0) {
            uint64_t number = strtoul(value, NULL, table[k].base);
            memcpy((char *)s + table[k].at, &number, sizeof number);
            return;
        }
}

/* A name shows a newline as \n and a backslash as two. */
static void name_line(const char *value, struct proc_status *s)
{
    size_t len = 0;
    for (const char *at = value; *at && *at != '\n' && len < sizeof s->comm - 1; at++) {
        bool escaped = *at == '\\' && at[1] && at[1] != '\n';
        at += escaped;
        s->comm[len++] = escaped && *at == 'n' ? '\n' : *at;
    }
    s->comm[len] = 0;
}

static void status_line(const char *line, struct proc_status *s)
{
    if (strncmp(line, "Name:\t", 6) == 0)
        name_line(line + 6, s);
    const char *colon = strchr(line, ':');
    if (!colon)
        return;
    size_t len = (size_t)(colon - line);
    const char *value = colon + 1 + strspn(colon + 1, "\t ");
    unsigned depth;
#define IS(key) (len == sizeof key - 1 && memcmp(line, key, sizeof key - 1) == 0)
    if (IS("State"))
        s->state = *value;
    else if (IS("Tgid"))
        s->tgid = atoi(value);
    else if (IS("PPid"))
        s->ppid = atoi(value);
    else if (IS("TracerPid"))
        s->tracer = atoi(value);
    else if (IS("NSpid"))
        s->inner_pid = innermost(value, &s->depth);
    else if (IS("NSpgid"))
        s->inner_pgid = innermost(value, &depth);
    else if (IS("NSsid"))
        s->inner_sid = innermost(value, &depth);
    else if (IS("Uid"))
        four(value, s->uid);
    else if (IS("Gid"))
        four(value, s->gid);
    else if (IS("Groups"))
        groups_parse(value, &s->groups);
    else
        number_line(line, len, value, s);
#undef IS
}

int proc_status_read(pid_t pid, pid_t tid, struct proc_status *out, struct err *e)
{
    AUTO_BUF struct buf text = {0};
    if (io_slurpf(&text, STATUS_MAX, e, "/proc/%d/task/%d/status", pid, tid) < 0)
        return -1;
    for (char *line = (char *)text.data; line && *line;) {
        char *next = strchr(line, '\n');
        status_line(line, out);
        line = next ? next + 1 : NULL;
    }
    return 0;
}

int proc_stat_read(pid_t pid, pid_t tid, struct proc_stat *out, struct err *e)
{
    AUTO_BUF struct buf text = {0};
    if (io_slurpf(&text, 8192, e, "/proc/%d/task/%d/stat", pid, tid) < 0)
        return -1;
    char *open = strchr((char *)text.data, '('), *close = strrchr((char *)text.data, ')');
    if (!open || !close || close[1] != ' ')
        return err_set(e, E_OS, "/proc/%d/stat is not as expected", pid);
    *close = 0;
    snprintf(out->comm, sizeof out->comm, "%s", open + 1);
    char *field[60] = {0}, *save = NULL;
    size_t n = 3;
    for (char *word = strtok_r(close + 2, " \n", &save); word && n < ARRAY_LENGTH(field); word = strtok_r(NULL, " \n", &save))
        field[n++] = word;
    if (n < 53)
        return err_set(e, E_OS, "/proc/%d/stat is too short", pid);
    const struct {
        int field;
        uint64_t *to;
    } table[] = {
        {7, &out->tty},         {9, &out->flags},       {22, &out->start_time}, {26, &out->start_code}, {27, &out->end_code},
        {28, &out->start_stack}, {40, &out->rt_priority}, {41, &out->policy},     {45, &out->start_data}, {46, &out->end_data},
        {47, &out->start_brk},  {48, &out->arg_start},  {49, &out->arg_end},    {50, &out->env_start},  {51, &out->env_end},
        {52, &out->exit_code},  {39, &out->processor},
    };
    for (size_t k = 0; k < ARRAY_LENGTH(table); k++)
        *table[k].to = strtoul(field[table[k].field], NULL, 10);
    out->state = *field[3];
    out->nice = atol(field[19]);
    out->exit_signal = atol(field[38]);
    return 0;
}

void proc_maps_free(struct proc_maps *m)
{
    for (size_t k = 0; k < m->count; k++)
        free(m->items[k].path);
    free(m->items);
    *m = (struct proc_maps){0};
}

bool proc_map_has(const struct proc_map *m, const char *flag)
{
    char word[5] = {' ', flag[0], flag[1], ' ', 0};
    return strstr(m->vmflags, word) != NULL;
}

/* maps prints \012 for a newline in a path, and nothing else is escaped. */
static char *path_unescape(const char *text)
{
    char *out = xstrdup(text), *to = out;
    for (const char *at = text; *at;) {
        if (strncmp(at, "\\012", 4) == 0) {
            *to++ = '\n';
            at += 4;
        } else {
            *to++ = *at++;
        }
    }
    *to = 0;
    return out;
}

static bool map_parse(char *line, struct proc_map *m)
{
    char *at, *perms;
    m->start = strtoul(line, &at, 16);
    if (*at != '-')
        return false;
    m->end = strtoul(at + 1, &at, 16);
    if (*at != ' ' || strlen(at) < 6 || at[5] != ' ')
        return false;
    perms = at + 1;
    m->offset = strtoul(at + 6, &at, 16);
    m->dev_major = (unsigned)strtoul(at, &at, 16);
    if (*at != ':')
        return false;
    m->dev_minor = (unsigned)strtoul(at + 1, &at, 16);
    m->ino = strtoul(at, &at, 10);
    at += strspn(at, " ");
    m->prot = (perms[0] == 'r' ? PROT_READ : 0u) | (perms[1] == 'w' ? PROT_WRITE : 0u) | (perms[2] == 'x' ? PROT_EXEC : 0u);
    m->shared = perms[3] == 's';
    m->path = path_unescape(at);
    static const char gone[] = " (deleted)";
    size_t len = strlen(m->path);
    if (len > sizeof gone - 1 && strcmp(m->path + len - (sizeof gone - 1), gone) == 0 && m->path[0] == '/') {
        m->path[len - (sizeof gone - 1)] = 0;
        m->deleted = true;
    }
    return true;
}

static void maps_add(struct proc_maps *out, const struct proc_map *m)
{
    if ((out->count & (out->count - 1)) == 0)
        out->items = xrealloc(out->items, out->count ? out->count * 2 : 1, sizeof *out->items);
    out->items[out->count++] = *m;
}

int proc_maps_read(pid_t pid, bool with_flags, struct proc_maps *out, struct err *e)
{
    AUTO_BUF struct buf text = {0};
    if (io_slurpf(&text, MAPS_MAX, e, "/proc/%d/%s", pid, with_flags ? "smaps" : "maps") < 0)
        return -1;
    char *save = NULL;
    for (char *line = strtok_r((char *)text.data, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
        if (strncmp(line, "VmFlags: ", 9) == 0 && out->count) {
            snprintf(out->items[out->count - 1].vmflags, sizeof out->items[0].vmflags, " %s ", line + 9);
            continue;
        }
        if (strncmp(line, "ProtectionKey:", 14) == 0 && out->count) {
            out->items[out->count - 1].protection_key = strtoul(line + 14, NULL, 10);
            continue;
        }
        if (strncmp(line, "KernelPageSize:", 15) == 0 && out->count) {
            out->items[out->count - 1].page_bytes = strtoul(line + 15, NULL, 10) * 1024;
            continue;
        }
        if (strncmp(line, "AnonHugePages:", 14) == 0 && out->count) {
            out->items[out->count - 1].huge_kib = strtoul(line + 14, NULL, 10);
            continue;
        }
        struct proc_map m = {0};
        bool is_head = (*line >= '0' && *line <= '9') || (*line >= 'a' && *line <= 'f');
        if (is_head && map_parse(line, &m))
            maps_add(out, &m);
    }
    return 0;
}

void pid_list_add(struct pid_list *l, pid_t pid)
{
    if ((l->count & (l->count - 1)) == 0)
        l->items = xrealloc(l->items, l->count ? l->count * 2 : 1, sizeof *l->items);
    l->items[l->count++] = pid;
}

bool pid_list_has(const struct pid_list *l, pid_t pid)
{
    for (size_t k = 0; k < l->count; k++)
        if (l->items[k] == pid)
            return true;
    return false;
}

void pid_list_free(struct pid_list *l)
{
    free(l->items);
    *l = (struct pid_list){0};
}

int proc_threads(pid_t pid, struct pid_list *out, struct err *e)
{
    AUTO_FREE char *path = xasprintf("/proc/%d/task", pid);
    AUTO_DIR DIR *dir = opendir(path);
    if (!dir)
        return errno == ENOENT || errno == ESRCH ? 0 : err_errno(e, "list %s", path);
    struct pid_list others = {0};
    for (struct dirent *d; (d = readdir(dir));) {
        pid_t tid = atoi(d->d_name);
        if (tid == pid)
            pid_list_add(out, tid);
        else if (tid > 0)
            pid_list_add(&others, tid);
    }
    for (size_t k = 0; k < others.count; k++)
        pid_list_add(out, others.items[k]);
    pid_list_free(&others);
    return 0;
}

static bool is_dead(pid_t pid, pid_t tid)
{
    struct proc_stat stat;
    struct err gone;
    return proc_stat_read(pid, tid, &stat, &gone) < 0 || stat.state == 'Z' || stat.state == 'X';
}

pid_t proc_living(pid_t pid)
{
    PID_LIST struct pid_list tids = {0};
    struct err gone;
    if (!is_dead(pid, pid) || proc_threads(pid, &tids, &gone) < 0)
        return pid;
    for (size_t k = 0; k < tids.count; k++)
        if (tids.items[k] != pid && !is_dead(pid, tids.items[k]))
            return tids.items[k];
    return pid;
}

int proc_pidfd(pid_t pid)
{
    int fd = (int)syscall(SYS_pidfd_open, pid, 0);
    return fd >= 0 ? fd : (int)syscall(SYS_pidfd_open, pid, PIDFD_THREAD);
}

static int children_of_thread(pid_t pid, pid_t tid, struct pid_list *out)
{
    AUTO_BUF struct buf text = {0};
    struct err gone;
    if (io_slurpf(&text, 16ul << 20, &gone, "/proc/%d/task/%d/children", pid, tid) < 0)
        return 0; /* it ended: its children are podinit's now and are found in the next look */
    for (char *at = (char *)text.data, *end; *at; at = end) {
        pid_t child = (pid_t)strtol(at, &end, 10);
        if (end == at)
            break;
        if (!pid_list_has(out, child))
            pid_list_add(out, child);
        while (*end == ' ')
            end++;
    }
    return 0;
}

int proc_tree(pid_t root, struct pid_list *out, struct err *e)
{
    for (size_t k = 0; k <= out->count; k++) {
        pid_t pid = k == 0 ? root : out->items[k - 1];
        PID_LIST struct pid_list tids = {0};
        if (proc_threads(pid, &tids, e) < 0)
            return -1;
        for (size_t t = 0; t < tids.count; t++)
            if (children_of_thread(pid, tids.items[t], out) < 0)
                return -1;
    }
    return 0;
}

int proc_link(pid_t pid, const char *name, char **out, struct err *e)
{
    AUTO_FREE char *path = xasprintf("/proc/%d/%s", pid, name);
    char target[PATH_BYTES];
    ssize_t n = readlink(path, target, sizeof target - 1);
    if (n < 0)
        return err_errno(e, "read %s", path);
    target[n] = 0;
    *out = xstrdup(target);
    return 0;
}
