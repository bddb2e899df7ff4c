/* An overlay over a folder of the pod's root, with changes on the pod's /tmp, as sandboxes make a folder of the system writable. The kernel allows two overlays
 * upon one another: of a pod whose root lies on one itself it is refused.
 * MATRIX: elsewhere refused an overlay of the job cannot be mounted here
 * COVERAGE: an overlay that the job mounted over a folder of the root | captured | not on a machine whose root is an overlay itself */
#include <sys/mount.h>
#include <sys/stat.h>

#include "spaces.h"

int main(void)
{
    struct stat st;
    char data[8] = {0};
    become(CLONE_NEWUSER | CLONE_NEWNS, 0, 0);
    MUST(mkdir("/tmp/u", 0755) == 0 && mkdir("/tmp/w", 0755) == 0);
    MUST(mount("overlay", "/etc", "overlay", 0, "lowerdir=/etc,upperdir=/tmp/u,workdir=/tmp/w,userxattr") == 0);
    put("/etc/mine", "mine");
    MUST(stat("/etc/passwd", &st) == 0 && unlink("/etc/passwd") == 0);
    int open_one = open("/etc/mine", O_RDONLY);
    MUST(open_one >= 0 && read(open_one, data, 2) == 2);
    victim_wait();
    MUST(read(open_one, data, 8) == 2 && memcmp(data, "ne", 2) == 0 && has("/etc/mine", "mine") && has("/tmp/u/mine", "mine"));
    MUST(stat("/etc/passwd", &st) < 0 && lstat("/tmp/u/passwd", &st) == 0 && S_ISCHR(st.st_mode) && stat("/etc/group", &st) == 0);
    put("/etc/more", "more");
    MUST(has("/tmp/u/more", "more"));
    return victim_ok();
}
