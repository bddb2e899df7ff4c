/* Can this machine run what the image holds? The processor must have every feature that programs may have found at their start, and the functions of
 * another kernel's vDSO must have their like in this one's (vdso.h). */
#include <stdlib.h>
#include <string.h>

#include "load.h"
#include "vdso.h"

/* Flags of /proc/cpuinfo that only describe (power, errata, virtual machines) and no instruction that a program can use. */
static bool is_instruction_set(const char *flag)
{
    static const char *const sets[] = {"sse", "sse2", "ssse3", "sse4_1", "sse4_2", "sse4a", "avx", "avx2", "fma", "fma4", "f16c", "bmi1", "bmi2",
                                       "abm", "adx", "aes", "vaes", "pclmulqdq", "vpclmulqdq", "gfni", "sha_ni", "popcnt", "movbe", "rdrand",
                                       "rdseed", "rtm", "xsave", "xsavec", "xgetbv1", "fsgsbase", "clflushopt", "clwb", "rdpid", "pku", "ospke",
                                       "rdtscp", "movdiri", "movdir64b", "serialize", "cx16", "lahf_lm", "3dnowprefetch", "erms", "fsrm", "invpcid"};
    if (strncmp(flag, "avx512", 6) == 0 || strncmp(flag, "amx", 3) == 0 || strncmp(flag, "avx_", 4) == 0)
        return true;
    for (size_t k = 0; k < ARRAY_LENGTH(sets); k++)
        if (strcmp(flag, sets[k]) == 0)
            return true;
    return false;
}

static bool has_word(const char *list, const char *word)
{
    size_t len = strlen(word);
    for (const char *at = list; (at = strstr(at, word)); at += len)
        if ((at == list || at[-1] == ' ') && (at[len] == ' ' || at[len] == '\n' || !at[len]))
            return true;
    return false;
}

static int features_check(const char *wanted, struct err *e)
{
    AUTO_BUF struct buf text = {0};
    AUTO_BUF struct buf lacking = {0};
    AUTO_FREE char *copy = xstrdup(wanted);
    if (io_slurpf(&text, 4 << 20, e, "/proc/cpuinfo") < 0)
        return -1;
    char *flags = strstr((char *)text.data, "\nflags"), *save = NULL;
    for (char *word = strtok_r(copy, " ", &save); word; word = strtok_r(NULL, " ", &save))
        if (is_instruction_set(word) && (!flags || !has_word(flags, word)))
            buf_addf(&lacking, "%s%s", lacking.len ? ", " : "", word);
    bool fits = lacking.len == 0;
    buf_add(&lacking, "", 1); /* a NUL ends the text */
    if (!fits)
        return err_set(e, E_UNSUPPORTED, "the processor of this machine lacks %s, which the image was made with", (char *)lacking.data);
    return 0;
}

int image_host_check(const struct image *image, struct err *e)
{
    if (strcmp(image->machine, "x86_64") != 0)
        return err_set(e, E_UNSUPPORTED, "the image is of another kind of machine (%s)", image->machine);
    if (features_check(image->cpu_features, e) < 0)
        return -1;
    for (size_t k = 0; k < image->tasks_count; k++)
        if (image->tasks[k].state != TASK_ZOMBIE && vdso_check(&image->tasks[k].mm, e) < 0)
            return -1;
    return 0;
}
