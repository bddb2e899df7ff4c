/* `check`: what among the descriptors of a running job cannot be captured, by /proc and sock_diag alone. What passes by itself
 * (connections just being made) is not named; kinds whose trouble only shows in the pause are named then. */
#include <dirent.h>
#include <stdlib.h>
#include <string.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "files_facts.h"

static bool socket_known(const struct view *v, uint64_t ino)
{
    return diag_find_unix(&v->diag, ino) || diag_find_inet(&v->diag, ino) || diag_has_other(&v->diag, ino);
}

/* A TCP socket that is neither bound nor connected stands in no list. The link says
 * "socket:[N]" for every family, so the extended attribute of sockfs tells. */
static bool socket_family_known(pid_t pid, int number)
{
    char path[64], name[32] = "";
    snprintf(path, sizeof path, "/proc/%d/fd/%d", pid, number);
    ssize_t n = getxattr(path, "system.sockprotoname", name, sizeof name - 1);
    return n > 0 && (!strncmp(name, "TCP", 3) || !strncmp(name, "UDP", 3) || !strncmp(name, "UNIX", 4) || !strcmp(name, "NETLINK"));
}

static void one_check(const struct view *v, const struct facts *f, uint64_t inner, struct refusals *out)
{
    char words[256];
    uint64_t kind = facts_kind(v, f, words);
    if (!kind)
        refuse(out, inner, f->number, 0, "%s", words);
    else if (kind == FACTS_SOCKET && !socket_known(v, f->st.st_ino) && !socket_family_known(f->pid, f->number))
        refuse(out, inner, f->number, 0, "socket of a family that cannot be captured (or of another network namespace)");
}

static int process_check(const struct view *v, pid_t pid, struct refusals *out, struct err *e)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/fd", pid);
    AUTO_DIR DIR *dir = opendir(path);
    uint64_t inner = pid_inside(pid);
    for (const struct dirent *d; dir && (d = readdir(dir));) {
        struct facts f;
        if (d->d_name[0] == '.')
            continue;
        int gone = facts_read(pid, atoi(d->d_name), &f, e);
        if (gone < 0)
            return -1;
        if (gone)
            continue;
        one_check(v, &f, inner, out);
        facts_free(&f);
    }
    return 0;
}

int files_check(const struct pod *pod, const pid_t *pids, size_t count, struct refusals *out, struct err *e)
{
    struct view v;
    if (view_open(pod, &v, e) < 0)
        return -1;
    int result = 0;
    for (size_t i = 0; i < count && result == 0; i++)
        result = process_check(&v, pids[i], out, e);
    view_close(&v);
    return result;
}
