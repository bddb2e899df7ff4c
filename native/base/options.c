/* Long options of the verbs, from one table each. See base.h. */
#include "base.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static void print_help(const char *usage, const struct option_spec *specs, size_t count)
{
    printf("usage: %s\n", usage);
    for (size_t k = 0; k < count; k++) {
        const char *value = specs[k].type == 'b' ? "" : specs[k].type == 'u' ? " N" : specs[k].type == 'd' ? " PATH" : " TEXT";
        AUTO_FREE char *name = xasprintf("--%s%s", specs[k].name, value);
        printf("  %-28s %s%s\n", name, specs[k].help, specs[k].required ? " (needed)" : "");
    }
    printf("  %-28s %s\n", "--help", "this text");
    exit(0);
}

static int number_parse(const char *name, const char *text, uint64_t *out, struct err *e)
{
    char *end;
    errno = 0;
    unsigned long long n = strtoull(text, &end, 10);
    if (errno || end == text || text[0] == '-')
        return err_set(e, E_USAGE, "--%s wants a whole number, not '%s'", name, text);
    unsigned shift = *end == 'K' ? 10 : *end == 'M' ? 20 : *end == 'G' ? 30 : 0;
    if ((shift ? end[1] : *end) || (shift && n > UINT64_MAX >> shift))
        return err_set(e, E_USAGE, "--%s: '%s' is not a number (suffixes: K M G)", name, text);
    *out = (uint64_t)n << shift;
    return 0;
}

static int value_store(const struct option_spec *spec, const char *value, struct err *e)
{
    if (spec->type == 'u')
        return number_parse(spec->name, value, spec->target, e);
    *(const char **)spec->target = value;
    return 0;
}

static const struct option_spec *spec_find(const char *name, size_t len, const struct option_spec *specs, size_t count)
{
    for (size_t k = 0; k < count; k++)
        if (strlen(specs[k].name) == len && memcmp(specs[k].name, name, len) == 0)
            return &specs[k];
    return NULL;
}

static int option_take(int argc, char **argv, int *at, const struct option_spec *specs, size_t count, bool *seen, struct err *e)
{
    const char *name = argv[*at] + 2, *equals = strchr(name, '=');
    size_t len = equals ? (size_t)(equals - name) : strlen(name);
    const struct option_spec *spec = spec_find(name, len, specs, count);
    if (!spec)
        return err_set(e, E_USAGE, "there is no option %s (see --help)", argv[*at]);
    seen[spec - specs] = true;
    if (spec->type == 'b') {
        if (equals)
            return err_set(e, E_USAGE, "--%s takes no value", spec->name);
        *(bool *)spec->target = true;
        return 0;
    }
    if (equals)
        return value_store(spec, equals + 1, e);
    if (*at + 1 >= argc)
        return err_set(e, E_USAGE, "--%s wants a value", spec->name);
    return value_store(spec, argv[++*at], e);
}

int options_parse(int argc, char **argv, const char *usage, const struct option_spec *specs, size_t count, int *rest, struct err *e)
{
    AUTO_FREE bool *seen = xcalloc(count, sizeof *seen);
    int at = 1;
    for (; at < argc; at++) {
        if (strcmp(argv[at], "--") == 0) {
            at++;
            break;
        }
        if (strcmp(argv[at], "--help") == 0)
            print_help(usage, specs, count);
        if (strncmp(argv[at], "--", 2) != 0)
            break;
        if (option_take(argc, argv, &at, specs, count, seen, e) < 0)
            return -1;
    }
    for (size_t k = 0; k < count; k++)
        if (specs[k].required && !seen[k])
            return err_set(e, E_USAGE, "--%s is needed (see --help)", specs[k].name);
    *rest = at;
    return 0;
}
