/* native image-fit: could this machine bring an image back? Reads the manifest alone, changes nothing: what a restore would refuse
 * (processor features, the kernel's vDSO, too few huge pages) and what has changed since in open files that no image carries. */
#include "../restore/huge.h"
#include "store-common.h"
#include "verbs.h"

static int fit_run(int argc, char **argv, struct err *e)
{
    const char *dir = NULL, *files = "keep";
    const struct option_spec specs[] = {
        {"image", 'd', &dir, true, "the image; its manifest is enough"},
        {"files", 's', &files, false, "keep, refuse or restore: what a restore would be asked to do with changed files that no image carries"},
    };
    struct image image;
    if (plain_parse(argc, argv, "native image-fit --image DIR [--files keep|refuse|restore]", specs, ARRAY_LENGTH(specs), e))
        return -1;
    if (strcmp(files, "keep") != 0 && strcmp(files, "refuse") != 0 && strcmp(files, "restore") != 0)
        return err_set(e, E_USAGE, "--files is keep, refuse or restore, not '%s'", files);
    if (image_read(dir, &image, NULL, e))
        return -1;
    enum files_policy policy = strcmp(files, "refuse") == 0 ? FILES_REFUSE : strcmp(files, "restore") == 0 ? FILES_RESTORE : FILES_KEEP;
    int result = image_validate(&image, e) || image_host_check(&image, e) || huge_fit(&image, HUGE_IN_ALL, e) || image_outside_check(&image, policy, e) ? -1 : 0;
    image_free(&image);
    if (!result)
        output_event("done", "\"fits\":true");
    return result;
}

int verb_image_fit(int argc, char **argv)
{
    struct err e = {0};
    output_open(1);
    return verb_end(fit_run(argc, argv, &e), &e);
}
