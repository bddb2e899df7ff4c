/* native restore: a new pod from an image; returns when it runs. */
#include <signal.h>
#include <string.h>

#include "../restore/restore.h"
#include "verbs.h"

int verb_restore(int argc, char **argv)
{
    struct err e = {0};
    struct restore_options o = {.uid = UINT64_MAX, .gid = UINT64_MAX, .mem_bytes = UINT64_MAX};
    const char *files = "keep";
    int rest;
    const struct option_spec specs[] = {
        {"image", 'd', &o.image, true, "directory of the image"},
        {"digest", 's', &o.digest, false, "refuse an image whose manifest has another SHA-256"},
        {"store", 'd', &o.store, false, "directory of the chunks (IMAGE/store by default)"},
        {"pod", 'd', &o.pod, true, "directory of the new pod"},
        {"net", 's', &o.net, false, "network of the pod, as for native run"},
        {"hostname", 's', &o.hostname, false, "instead of the image's"},
        {"hosts", 'd', &o.hosts, false, "file that becomes /etc/hosts of the pod"},
        {"lower", 'd', &o.lower, false, "root that the pod's overlay lies on (/)"},
        {"stdout", 'd', &o.stdout_path, false, "where the output of the job is appended"},
        {"stderr", 'd', &o.stderr_path, false, "where its errors are appended"},
        {"cpus", 's', &o.cpus, false, "processors, instead of the image's"},
        {"mem", 'u', &o.mem_bytes, false, "memory limit, instead of the image's"},
        {"uid", 'u', &o.uid, false, "refuse an image of another user"},
        {"gid", 'u', &o.gid, false, "refuse an image of another group"},
        {"files", 's', &files, false, "keep (the default), refuse or restore: open files that no image carries and that have changed"},
        {"lazy", 'b', &o.lazy, false, "it runs before its memory is there, where kernel and rights allow it (see lazy_bytes)"},
        {"barrier", 'b', &o.barrier, false, "print ready and wait for go (or abort)"},
    };
    output_open(1);
    signal(SIGPIPE, SIG_IGN);
    int result = options_parse(argc, argv, "native restore --image DIR --pod POD [OPTIONS]", specs, ARRAY_LENGTH(specs), &rest, &e);
    if (result == 0 && rest != argc)
        result = err_set(&e, E_USAGE, "'%s' is not an option (see --help)", argv[rest]);
    if (result == 0 && strcmp(files, "keep") != 0 && strcmp(files, "refuse") != 0 && strcmp(files, "restore") != 0)
        result = err_set(&e, E_USAGE, "--files is keep, refuse or restore, not '%s'", files);
    o.files = strcmp(files, "refuse") == 0 ? FILES_REFUSE : strcmp(files, "restore") == 0 ? FILES_RESTORE : FILES_KEEP;
    if (result == 0) {
        output_event("hello", "\"verb\":\"restore\"");
        result = restore_image(&o, &e);
    }
    if (result == 0)
        return E_OK;
    output_failed(&e);
    return (int)e.code;
}
