/* See state.h. */
#include "state.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../kernel/cgroup.h"
#include "../kernel/netdev.h"
#include "spare.h"

#define STATE_BYTES_MAX (1u << 20)
#define LEASE_LINE_BYTES 96

/* ---- writing */

static void line_text(struct buf *b, const char *key, const char *value)
{
    buf_addf(b, "%s=", key);
    for (const char *c = value ? value : ""; *c; c++) {
        uint8_t byte = (uint8_t)*c;
        if (byte < 0x20 || byte == 0x7f || byte == '%')
            buf_addf(b, "%%%02x", byte);
        else
            buf_add(b, c, 1);
    }
    buf_add(b, "\n", 1);
}

static void line_number(struct buf *b, const char *key, uint64_t value)
{
    buf_addf(b, "%s=%lu\n", key, value);
}

static void facts_lines(struct buf *b, const struct pod_facts *f)
{
    line_text(b, "hostname", f->hostname);
    line_number(b, "uid", f->uid);
    line_number(b, "gid", f->gid);
    line_number(b, "mem_bytes", f->mem_bytes);
    line_text(b, "cpus", f->cpus);
    line_text(b, "net", f->net);
    line_number(b, "io_uring_allowed", f->io_uring_allowed);
    line_number(b, "command_pid", f->command_pid);
    line_text(b, "machine_id", f->machine_id);
    line_text(b, "boot_id", f->boot_id);
    line_text(b, "stdout_path", f->stdout_path);
    line_text(b, "stderr_path", f->stderr_path);
}

static void state_text(const struct pod *pod, struct buf *b)
{
    line_text(b, "phase", pod->phase);
    line_text(b, "reason", pod->reason);
    line_number(b, "keeper_pid", (uint64_t)pod->keeper_pid);
    line_number(b, "init_pid", (uint64_t)pod->init_pid);
    line_number(b, "init_start", pod->init_start);
    line_text(b, "host_boot_id", pod->host_boot_id);
    line_text(b, "host_ifname", pod->host_ifname);
    line_text(b, "cgroup", pod->cgroup);
    for (int k = 0; pod->cgroups && k < CGROUP_KINDS; k++) {
        AUTO_FREE char *key = xasprintf("cgroup.%s", cgroup_kind_names[k]);
        line_text(b, key, pod->cgroups->dir[k]);
    }
    facts_lines(b, &pod->facts);
}

int pod_state_save(const struct pod *pod, struct err *e)
{
    AUTO_BUF struct buf b = {0};
    state_text(pod, &b);
    if (spare_replace(pod->dirfd, "state", "state.spare", b.data, b.len, e) < 0)
        return err_wrap(e, "keep the state of pod %s", pod->dir);
    return 0;
}

int pod_state_put(const struct pod *pod, struct err *e)
{
    AUTO_BUF struct buf b = {0};
    state_text(pod, &b);
    return io_replace_soon(pod->dirfd, "state", b.data, b.len, 0600, e) == 0 ? 0 : pod_state_save(pod, e); /* which has room in reserve */
}

/* ---- reading */

static void text_decode(char *s)
{
    char *out = s;
    for (; *s; s++, out++) {
        char hex[3] = {0};
        if (*s == '%' && s[1] && s[2]) {
            memcpy(hex, s + 1, 2);
            *out = (char)strtoul(hex, NULL, 16);
            s += 2;
        } else {
            *out = *s;
        }
    }
    *out = 0;
}

static void fact_set(char **field, const char *value)
{
    free(*field);
    *field = xstrdup(value);
}

static bool fact_take(struct pod_facts *f, const char *key, const char *value)
{
    const struct {
        const char *key;
        char **text;
        uint64_t *number;
    } fields[] = {
        {"hostname", &f->hostname, NULL}, {"uid", NULL, &f->uid}, {"gid", NULL, &f->gid}, {"mem_bytes", NULL, &f->mem_bytes},
        {"cpus", &f->cpus, NULL}, {"net", &f->net, NULL}, {"io_uring_allowed", NULL, &f->io_uring_allowed},
        {"command_pid", NULL, &f->command_pid}, {"machine_id", &f->machine_id, NULL}, {"boot_id", &f->boot_id, NULL},
        {"stdout_path", &f->stdout_path, NULL}, {"stderr_path", &f->stderr_path, NULL},
    };
    for (size_t k = 0; k < ARRAY_LENGTH(fields); k++) {
        if (strcmp(fields[k].key, key))
            continue;
        if (fields[k].text)
            fact_set(fields[k].text, value);
        else
            *fields[k].number = strtoull(value, NULL, 10);
        return true;
    }
    return false;
}

static void cgroup_take(struct pod *pod, const char *kind, const char *value)
{
    for (int k = 0; k < CGROUP_KINDS; k++)
        if (strcmp(kind, cgroup_kind_names[k]) == 0 && *value) {
            free(pod->cgroups->dir[k]);
            pod->cgroups->dir[k] = xstrdup(value);
        }
}

static void line_take(struct pod *pod, const char *key, const char *value)
{
    if (fact_take(&pod->facts, key, value))
        return;
    if (strcmp(key, "phase") == 0)
        snprintf(pod->phase, sizeof pod->phase, "%s", value);
    else if (strcmp(key, "reason") == 0)
        snprintf(pod->reason, sizeof pod->reason, "%s", value);
    else if (strcmp(key, "keeper_pid") == 0)
        pod->keeper_pid = atoi(value);
    else if (strcmp(key, "init_pid") == 0)
        pod->init_pid = atoi(value);
    else if (strcmp(key, "init_start") == 0)
        pod->init_start = strtoull(value, NULL, 10);
    else if (strcmp(key, "host_boot_id") == 0)
        snprintf(pod->host_boot_id, sizeof pod->host_boot_id, "%s", value);
    else if (strcmp(key, "host_ifname") == 0)
        snprintf(pod->host_ifname, sizeof pod->host_ifname, "%s", value);
    else if (strcmp(key, "cgroup") == 0)
        snprintf(pod->cgroup, sizeof pod->cgroup, "%s", value);
    else if (strncmp(key, "cgroup.", 7) == 0)
        cgroup_take(pod, key + 7, value);
}

static void facts_blank(struct pod_facts *f)
{
    char **texts[] = {&f->hostname, &f->cpus, &f->net, &f->machine_id, &f->boot_id, &f->stdout_path, &f->stderr_path};
    for (size_t k = 0; k < ARRAY_LENGTH(texts); k++)
        *texts[k] = xstrdup("");
    f->command_status = -1;
}

static int state_read(struct pod *pod, struct err *e)
{
    AUTO_BUF struct buf text = {0};
    if (io_slurp(pod->dirfd, "state", &text, STATE_BYTES_MAX, e) < 0)
        return err_set(e, E_NO_INPUT, "there is no pod in %s", pod->dir);
    char *save = NULL;
    for (char *line = strtok_r((char *)text.data, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
        char *equals = strchr(line, '=');
        if (!equals)
            continue;
        *equals = 0;
        text_decode(equals + 1);
        line_take(pod, line, equals + 1);
    }
    return netdev_parse(pod->facts.net, &pod->net, e);
}

int pod_state_load(const char *dir, struct pod *out, struct err *e)
{
    *out = (struct pod){.dirfd = -1, .stdout_fd = -1, .stderr_fd = -1, .tree_fds = {-1, -1, -1}};
    facts_blank(&out->facts);
    out->cgroups = xcalloc(1, sizeof *out->cgroups);
    if (!realpath(dir, out->dir))
        snprintf(out->dir, sizeof out->dir, "%s", dir);
    out->dirfd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (out->dirfd < 0) {
        int number = errno;
        pod_close(out);
        errno = number;
        return number == ENOENT || number == ENOTDIR ? err_set(e, E_NO_INPUT, "there is no pod in %s", dir) : err_errno(e, "open %s", dir);
    }
    if (state_read(out, e) < 0) {
        pod_close(out);
        return -1;
    }
    pod_lease_load(out);
    pod_exit_load(out);
    return 0;
}

/* ---- the lease, and podinit's report */

int pod_lease_save(const struct pod *pod, struct err *e)
{
    char line[LEASE_LINE_BYTES + 1];
    int n = snprintf(line, sizeof line, "%lu %lu %d %d", pod->epoch, pod->lease_until_ns, pod->suspended, pod->lease_frozen);
    memset(line + n, ' ', LEASE_LINE_BYTES - (size_t)n);
    line[LEASE_LINE_BYTES - 1] = '\n';
    AUTO_CLOSE int fd = openat(pod->dirfd, "lease", O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0)
        return err_errno(e, "open the lease of pod %s", pod->dir);
    return io_pwrite_all(fd, line, LEASE_LINE_BYTES, 0, e);
}

void pod_lease_load(struct pod *pod)
{
    struct err ignored;
    AUTO_BUF struct buf text = {0};
    int suspended = 0, lease_frozen = 0;
    uint64_t epoch = 0, until_ns = 0;
    if (io_slurp(pod->dirfd, "lease", &text, 4096, &ignored) < 0 || !text.data ||
        sscanf((char *)text.data, "%lu %lu %d %d", &epoch, &until_ns, &suspended, &lease_frozen) != 4)
        return;
    pod->epoch = epoch;
    pod->lease_until_ns = until_ns;
    pod->suspended = suspended;
    pod->lease_frozen = lease_frozen;
}

void pod_exit_load(struct pod *pod)
{
    struct err ignored;
    AUTO_BUF struct buf text = {0};
    if (io_slurp(pod->dirfd, "exit", &text, 4096, &ignored) == 0 && text.data)
        pod->has_exit = sscanf((char *)text.data, "%d", &pod->exit_wait_status) == 1;
}

/* ---- who lives */

uint64_t process_start(pid_t pid)
{
    struct err ignored;
    uint64_t start = 0;
    AUTO_BUF struct buf text = {0};
    if (io_slurpf(&text, 1u << 16, &ignored, "/proc/%d/stat", pid) < 0 || !text.data)
        return 0;
    char *behind_name = strrchr((char *)text.data, ')'), state = 0;
    if (!behind_name || sscanf(behind_name, ") %c %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %lu", &state, &start) != 2)
        return 0;
    return state == 'Z' || state == 'X' ? 0 : start;
}

bool pod_init_alive(const struct pod *pod)
{
    char boot[40];
    machine_boot_id(boot);
    return pod->init_pid > 0 && strcmp(boot, pod->host_boot_id) == 0 && process_start(pod->init_pid) == pod->init_start && pod->init_start;
}

void machine_boot_id(char out[40])
{
    struct err ignored;
    AUTO_BUF struct buf text = {0};
    out[0] = 0;
    if (io_slurp(AT_FDCWD, "/proc/sys/kernel/random/boot_id", &text, 4096, &ignored) == 0 && text.data)
        snprintf(out, 40, "%.36s", (char *)text.data);
}
