/* Open files that no image carries: they lie on a file system that the machine has mounted (a home directory, storage that all nodes share) and may have
 * changed since the cut. Before anything is made they are compared with what the image says of them (size and a hash of the
 * first bytes): a change is told (--files keep), refuses the restore (--files refuse) or,
 * where a file that is written has only grown, is taken back (--files restore: outside_cut.h). Mirrors snapshot/file_save.c. */
#include <fcntl.h>
#include <string.h>
#include <sys/fsuid.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../kernel/inside.h"
#include "../store/sha256.h"
#include "load.h"
#include "outside_cut.h"

#define GROWN "has grown"
#define PREFIX_MAX (1ul << 20)

bool outside_prefix_is(int fd, const struct file *f)
{
    struct err ignored;
    struct digest digest;
    AUTO_FREE uint8_t *data = xcalloc(1, f->prefix_len + 1);
    if (io_pread_all(fd, data, f->prefix_len, 0, &ignored) < 0)
        return false;
    sha256_of(data, f->prefix_len, &digest);
    return memcmp(&digest, &f->prefix_digest, sizeof digest) == 0;
}

/* With the rights of the pod's owner: an image is anybody's, and what is said here must tell nobody of files that are not the owner's. */
static int owner_open(const struct image *image, const char *path)
{
    setfsgid((gid_t)image->pod.gid);
    setfsuid((uid_t)image->pod.uid);
    int fd = inside_open(path, O_RDONLY | O_NONBLOCK | O_NOFOLLOW, 0);
    setfsuid(geteuid());
    setfsgid(getegid());
    return fd;
}

/* NULL: it is as it was. */
static const char *change_of(const struct image *image, const struct file *f)
{
    struct stat st;
    AUTO_CLOSE int fd = owner_open(image, f->path);
    if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
        return "cannot be read any more";
    if ((uint64_t)st.st_size < f->size)
        return "has become shorter";
    if (!outside_prefix_is(fd, f))
        return "has another content";
    return (uint64_t)st.st_size > f->size ? GROWN : NULL;
}

bool outside_is_repeated(const struct image *image, size_t index)
{
    for (size_t k = 0; k < index; k++)
        if (image->files[k].outside && strcmp(image->files[k].path, image->files[index].path) == 0)
            return true;
    return false;
}

int image_outside_check(const struct image *image, enum files_policy policy, struct err *e)
{
    for (size_t k = 0; k < image->files_count; k++) {
        const struct file *f = &image->files[k];
        if (!f->outside || outside_is_repeated(image, k))
            continue;
        if (f->prefix_len > PREFIX_MAX || f->prefix_len > f->size)
            return err_set(e, E_BAD_IMAGE, "the identity of %s", f->path);
        const char *change = change_of(image, f);
        if (change && policy == FILES_RESTORE && strcmp(change, GROWN) == 0 && outside_is_cut(image, f))
            continue; /* outside_cut.c */
        if (change && policy == FILES_REFUSE)
            return err_set(e, E_UNSUPPORTED, "the file %s %s since the snapshot (--files refuse)", f->path, change);
        if (change) {
            AUTO_FREE char *words = xasprintf("the open file %s, which no image carries, %s since the snapshot", f->path, change);
            AUTO_FREE char *quoted = json_quote(words);
            output_event("warn", "\"message\":%s", quoted);
        }
    }
    return 0;
}
