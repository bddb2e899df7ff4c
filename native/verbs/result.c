/* native result: what the pod's acts came to, kept until it is acknowledged. Works after the pod's end. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../pod/state.h"
#include "simple.h"
#include "verbs.h"

#define RESULT_BYTES_MAX (4u << 20)

static bool is_result(const struct dirent *entry)
{
    return entry->d_name[0] != '.' && !strstr(entry->d_name, ".tmp");
}

static int results_print(int dirfd, struct err *e)
{
    AUTO_BUF struct buf all = {0};
    int fd = openat(dirfd, "results", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    AUTO_DIR DIR *results = fd < 0 ? NULL : fdopendir(fd);
    if (!results)
        return err_errno(e, "open the pod's results");
    for (struct dirent *entry; (entry = readdir(results));) {
        AUTO_BUF struct buf one = {0};
        if (!is_result(entry))
            continue;
        if (io_slurp(fd, entry->d_name, &one, RESULT_BYTES_MAX, e) < 0)
            return -1;
        one.data[strcspn((char *)one.data, "\n")] = 0;
        buf_addf(&all, "%s%s", all.len ? "," : "", (char *)one.data);
    }
    buf_add(&all, "", 1);
    output_event("done", "\"results\":[%s]", (char *)all.data);
    return 0;
}

static int result_forget(int dirfd, const char *id, struct err *e)
{
    if (strchr(id, '/') || id[0] == '.' || !*id)
        return err_set(e, E_USAGE, "'%s' is no result", id);
    AUTO_FREE char *name = xasprintf("results/%s", id);
    if (unlinkat(dirfd, name, 0) < 0 && errno != ENOENT)
        return err_errno(e, "forget result %s", id);
    output_event("done", NULL);
    return 0;
}

static int run(int argc, char **argv, struct err *e)
{
    const char *dir, *id = NULL;
    int rest;
    const struct option_spec options[] = {
        {"pod", 'd', &dir, true, "directory of the pod"},
        {"ack", 's', &id, false, "forget this result"},
    };
    if (options_parse(argc, argv, "native result --pod POD [--ack ID]", options, ARRAY_LENGTH(options), &rest, e) < 0)
        return -1;
    AUTO_CLOSE int dirfd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dirfd < 0)
        return err_set(e, E_NO_INPUT, "there is no pod in %s", dir);
    return id ? result_forget(dirfd, id, e) : results_print(dirfd, e);
}

int verb_result(int argc, char **argv)
{
    return verb_outcome(argc, argv, run);
}
