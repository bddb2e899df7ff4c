/* What `unshare -r -m` gives, with mounts: tmpfs with content, bind mounts of a directory and of a file, read-only and other options, one mount over
 * another, a mount on a tmpfs, a shared one; files open on them, a working directory, a child inside and one in a second user namespace in the first.
 * COVERAGE: user namespace that the job made: one user, capabilities, secure bits, several in one, one in another | captured | one level of process namespaces
 * COVERAGE: mount namespace that the job made: tmpfs with content, devpts, bind mounts, overmounts, options | captured | of other file systems: refused by name */
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "spaces.h"

/* The lines of mountinfo without numbers; their order is the kernel's. */
static unsigned long mounts_sum(int show)
{
    static char text[65536];
    unsigned long sum = 0;
    int fd = open("/proc/self/mountinfo", O_RDONLY);
    ssize_t len = 0, n;
    while ((n = read(fd, text + len, sizeof text - 1 - (size_t)len)) > 0)
        len += n;
    close(fd);
    text[len] = 0;
    for (char *save = NULL, *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
        char root[256], place[256], options[256], type[64], *dash = strstr(line, " - ");
        unsigned long one = 5381;
        MUST(dash && sscanf(line, "%*s %*s %*s %255s %255s %255s", root, place, options) == 3 && sscanf(dash, " - %63s", type) == 1);
        char whole[1024];
        snprintf(whole, sizeof whole, "%s %s %s %s%s", strstr(root, "/boot_id") || strstr(root, "/upper") ? "of the pod" : root, place, options, type, strstr(line, "shared:") ? " shared" : "");
        if (show)
            puts(whole);
        for (char *at = whole; *at; at++)
            one = one * 33 + (unsigned char)*at;
        sum += one;
    }
    return sum;
}

static unsigned long status_mask(const char *key)
{
    char line[256];
    unsigned long value = 0;
    FILE *f = fopen("/proc/self/status", "r");
    while (f && fgets(line, sizeof line, f))
        if (strncmp(line, key, strlen(key)) == 0)
            value = strtoul(line + strlen(key), NULL, 16);
    if (f)
        fclose(f);
    return value;
}

static void mounts_make(void)
{
    MUST(mkdir("/tmp/own", 0755) == 0 && mkdir("/tmp/shown", 0700) == 0 && mkdir("/tmp/place", 0755) == 0 && mkdir("/tmp/shared", 0755) == 0);
    put("/tmp/shown/file", "of the pod");
    put("/tmp/one", "one file");
    MUST(mount("own", "/tmp/own", "tmpfs", MS_NOSUID | MS_NOEXEC, "size=1m,mode=0711") == 0);
    put("/tmp/own/file", "content");
    MUST(chmod("/tmp/own/file", 0604) == 0 && mkdir("/tmp/own/dir", 01777) == 0 && symlink("file", "/tmp/own/link") == 0 && link("/tmp/own/file", "/tmp/own/dir/hard") == 0);
    MUST(mkdir("/tmp/own/bound", 0755) == 0 && mount("/tmp/shown", "/tmp/own/bound", NULL, MS_BIND, NULL) == 0);
    MUST(mount(NULL, "/tmp/own/bound", NULL, MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NODEV | MS_NOSUID, NULL) == 0);
    put("/tmp/own/point", "");
    MUST(mount("/tmp/one", "/tmp/own/point", NULL, MS_BIND, NULL) == 0);
    MUST(mount("/tmp/own/dir", "/tmp/place", NULL, MS_BIND, NULL) == 0);
    MUST(mount("over", "/tmp/place", "tmpfs", 0, NULL) == 0);
    put("/tmp/place/top", "the upper one");
    MUST(mount("s", "/tmp/shared", "tmpfs", MS_NOATIME, NULL) == 0 && mount(NULL, "/tmp/shared", NULL, MS_SHARED, NULL) == 0);
    MUST(mount("/tmp/shown", "/mnt", NULL, MS_BIND, NULL) == 0);
}

static void mounts_check(void)
{
    struct stat st, hard;
    struct statvfs fs;
    char link[64] = {0};
    MUST(has("/tmp/own/file", "content") && has("/tmp/own/bound/file", "of the pod") && has("/tmp/own/point", "one file") && has("/tmp/place/top", "the upper one"));
    MUST(has("/mnt/file", "of the pod") && stat("/tmp/own", &st) == 0 && (st.st_mode & 07777) == 0711);
    MUST(stat("/tmp/own/file", &st) == 0 && (st.st_mode & 07777) == 0604 && stat("/tmp/own/dir/hard", &hard) == 0 && hard.st_ino == st.st_ino && st.st_nlink == 2);
    MUST(readlink("/tmp/own/link", link, sizeof link - 1) == 4 && open("/tmp/own/bound/new", O_CREAT | O_WRONLY, 0600) < 0 && errno == EROFS);
    MUST(statvfs("/tmp/own", &fs) == 0 && fs.f_blocks * fs.f_frsize == 1 << 20 && fs.f_flag & ST_NOEXEC && fs.f_flag & ST_NOSUID);
}

/* Capabilities that are only partly there, and a bit that keeps them. */
static void rights_make(void)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct sets[2] = {{1u << CAP_CHOWN | 1u << CAP_KILL, 1u << CAP_CHOWN | 1u << CAP_KILL | 1u << CAP_NET_RAW, 1u << CAP_KILL}};
    MUST(prctl(PR_CAPBSET_DROP, CAP_SYS_TIME, 0, 0, 0) == 0 && prctl(PR_SET_SECUREBITS, 1 << 4 /* keep capabilities */, 0, 0, 0) == 0);
    MUST(syscall(SYS_capset, &header, sets) == 0 && prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_KILL, 0, 0) == 0);
}

static pid_t child_make(int second, int go, int told)
{
    pid_t child = fork();
    if (child)
        return child;
    if (second) {
        become(CLONE_NEWUSER, 7, 8); /* a namespace in the namespace */
        MUST(chdir("/mnt") == 0);
    } else {
        rights_make();
    }
    unsigned long permitted = status_mask("CapPrm:"), effective = status_mask("CapEff:"), bounding = status_mask("CapBnd:"), ambient = status_mask("CapAmb:");
    char byte;
    MUST(write(told, "r", 1) == 1);
    MUST(read(go, &byte, 1) == 1);
    MUST(permitted == status_mask("CapPrm:") && effective == status_mask("CapEff:") && bounding == status_mask("CapBnd:") && ambient == status_mask("CapAmb:"));
    MUST(prctl(PR_GET_SECUREBITS) == (second ? 0 : 1 << 4) && getuid() == (second ? 7u : 0u) && getgid() == (second ? 8u : 0u));
    MUST(!second || has("file", "of the pod"));
    _exit(second ? 21 : 20);
}

int main(void)
{
    int go[2], told[2], status;
    char byte, cwd[256];
    MUST(pipe(go) == 0 && pipe(told) == 0);
    pid_t parent = fork(); /* a process that stays in the pod's own is the parent of all */
    if (parent) {
        victim_listen();
        MUST(read(told[0], &byte, 1) == 1);
        victim_ready();
        while (!asked)
            usleep(1000);
        MUST(write(go[1], "xxx", 3) == 3 && waitpid(parent, &status, 0) == parent && WIFEXITED(status) && WEXITSTATUS(status) == 0);
        MUST(access("/tmp/own/file", F_OK) < 0 && has("/tmp/shown/file", "of the pod"));
        return victim_ok();
    }
    int inner[2];
    become(CLONE_NEWUSER | CLONE_NEWNS, 0, 0);
    mounts_make();
    MUST(pipe(inner) == 0 && chdir("/tmp/own/bound") == 0);
    int on_own = open("/tmp/own/file", O_RDWR | O_APPEND), dir = open("/tmp/own", O_RDONLY | O_DIRECTORY), on_bind = open("/mnt/file", O_RDONLY);
    MUST(on_own >= 0 && dir >= 0 && on_bind >= 0 && lseek(on_bind, 3, SEEK_SET) == 3);
    pid_t first = child_make(0, go[0], inner[1]), second = child_make(1, go[0], inner[1]);
    MUST(read(inner[0], &byte, 1) == 1 && read(inner[0], &byte, 1) == 1);
    unsigned long before = mounts_sum(0), permitted = status_mask("CapPrm:");
    MUST(write(told[1], "r", 1) == 1 && read(go[0], &byte, 1) == 1);
    mounts_check();
    MUST(mounts_sum(0) == before || mounts_sum(1) == before);
    MUST(permitted == status_mask("CapPrm:") && getcwd(cwd, sizeof cwd) && strcmp(cwd, "/tmp/own/bound") == 0);
    char data[16] = {0};
    MUST(read(on_bind, data, 2) == 2 && memcmp(data, "th", 2) == 0 && write(on_own, "!", 1) == 1 && has("/tmp/own/file", "content!"));
    MUST(openat(dir, "bound/file", O_RDONLY) >= 0 && umount("/tmp/place") == 0 && umount2("/tmp/own/point", 0) == 0 && has("/tmp/own/point", ""));
    MUST(waitpid(first, &status, 0) == first && WEXITSTATUS(status) == 20 && waitpid(second, &status, 0) == second && WEXITSTATUS(status) == 21);
    _exit(0);
}
