/* Leading one kernel's vDSO on to another's: a copy of this kernel's, whose functions are destroyed behind their entries, still tells the time; symbols without
 * a hash table; a function that this kernel has not; one that is too short; random bytes. */
#include <elf.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include "restore/vdso.h"
#include "tests/tap.h"

enum { ROOM = 1 << 16, ENTRY = 12, ROUNDS = 30000 };
static const uint8_t *own;
static size_t own_len;

static void own_find(void)
{
    PROC_MAPS struct proc_maps maps = {0};
    struct err e;
    CHECK(proc_maps_read(getpid(), false, &maps, &e) == 0);
    for (size_t k = 0; k < maps.count; k++)
        if (vdso_kind(maps.items[k].path) == VMA_VDSO) {
            own = (const void *)(uintptr_t)maps.items[k].start;
            own_len = maps.items[k].end - maps.items[k].start;
        }
    CHECK(own && own_len && own_len <= ROOM);
}

/* By the section headers: another way than the one that is tested. */
static const Elf64_Sym *symbol(const uint8_t *elf, const char *name)
{
    const Elf64_Ehdr *h = (const void *)elf;
    const Elf64_Shdr *sections = (const void *)(elf + h->e_shoff);
    for (size_t s = 0; s < h->e_shnum; s++)
        for (uint64_t at = 0; sections[s].sh_type == SHT_DYNSYM && at < sections[s].sh_size; at += sizeof(Elf64_Sym)) {
            const Elf64_Sym *one = (const void *)(elf + sections[s].sh_offset + at);
            if (strcmp((const char *)elf + sections[sections[s].sh_link].sh_offset + one->st_name, name) == 0)
                return one;
        }
    return NULL;
}

static uint8_t *copy_make(void)
{
    uint8_t *copy = mmap(NULL, ROOM, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(copy != MAP_FAILED);
    memcpy(copy, own, own_len);
    return copy;
}

static void destroy(uint8_t *copy, const char *name)
{
    const Elf64_Sym *s = symbol(own, name);
    CHECK(s);
    memset(copy + s->st_value + ENTRY, 0xcc, s->st_size - ENTRY);
}

static int64_t now_ns(uint8_t *copy, clockid_t clock)
{
    union {
        const uint8_t *at;
        int (*call)(clockid_t, struct timespec *);
    } function = {.at = copy + symbol(own, "__vdso_clock_gettime")->st_value};
    struct timespec t;
    return function.call(clock, &t) == 0 ? t.tv_sec * 1000000000 + t.tv_nsec : -1;
}

static int64_t really_ns(clockid_t clock)
{
    struct timespec t;
    CHECK(syscall(SYS_clock_gettime, clock, &t) == 0);
    return t.tv_sec * 1000000000 + t.tv_nsec;
}

static bool tells_time(uint8_t *copy)
{
    static const clockid_t clocks[] = {CLOCK_REALTIME, CLOCK_MONOTONIC, CLOCK_MONOTONIC_COARSE};
    union {
        const uint8_t *at;
        time_t (*call)(time_t *);
    } seconds = {.at = copy + symbol(own, "__vdso_time")->st_value};
    bool right = true;
    for (size_t k = 0; k < ARRAY_LENGTH(clocks); k++) {
        int64_t before = really_ns(clocks[k]), told = now_ns(copy, clocks[k]), after = really_ns(clocks[k]);
        right = right && told >= before && told <= after;
    }
    time_t before = time(NULL), told = seconds.call(NULL), after = time(NULL);
    return right && told >= before - 1 && told <= after + 1;
}

static int64_t dynamic_set(uint8_t *elf, int64_t tag, int64_t instead)
{
    const Elf64_Ehdr *h = (const void *)elf;
    const Elf64_Phdr *parts = (const void *)(elf + h->e_phoff);
    for (size_t k = 0; k < h->e_phnum; k++)
        for (uint64_t at = 0; parts[k].p_type == PT_DYNAMIC && at < parts[k].p_filesz; at += sizeof(Elf64_Dyn)) {
            Elf64_Dyn *d = (void *)(elf + parts[k].p_offset + at);
            if (d->d_tag == tag)
                return d->d_tag = instead;
        }
    return 0;
}

static void led_on(void)
{
    static const char *const names[] = {"__vdso_clock_gettime", "__vdso_gettimeofday", "__vdso_time", "__vdso_clock_getres", "__vdso_getcpu"};
    struct err e = {0};
    uint8_t *copy = copy_make(), *bare = copy_make();
    int result = vdso_redirect(copy, own_len, own, own_len, (uint64_t)(uintptr_t)own, &e);
    for (size_t k = 0; k < ARRAY_LENGTH(names); k++)
        destroy(copy, names[k]);
    ok(result == 0 && tells_time(copy), "functions that are destroyed behind their entries are led on: %s", e.message);
    dynamic_set(bare, DT_HASH, DT_DEBUG);
    result = vdso_redirect(bare, own_len, own, own_len, (uint64_t)(uintptr_t)own, &e);
    destroy(bare, names[0]);
    destroy(bare, names[2]);
    ok(result == 0 && tells_time(bare), "symbols are counted without a hash table: %s", e.message);
}

static void lacking(void)
{
    struct err e = {0};
    uint8_t *copy = copy_make(), *now = copy_make();
    char *name = memmem(now, own_len, "__vdso_clock_gettime", 20);
    CHECK(name);
    name[2] = 'V';
    int result = vdso_redirect(copy, own_len, now, own_len, (uint64_t)(uintptr_t)own, &e);
    destroy(copy, "__vdso_clock_gettime");
    ok(result == 0 && tells_time(copy), "a function that this kernel has not becomes a system call: %s", e.message);
    Elf64_Sym *s = (void *)(copy + ((const uint8_t *)symbol(own, "__vdso_time") - own));
    s->st_size = 11;
    result = vdso_redirect(copy, own_len, own, own_len, (uint64_t)(uintptr_t)own, &e);
    ok(result < 0 && e.code == E_UNSUPPORTED && strstr(e.message, "__vdso_time is too short"), "a function without room is refused by name: %s", e.message);
    result = vdso_redirect(copy, 100, own, own_len, 0, &e);
    ok(result < 0 && e.code == E_UNSUPPORTED, "what is no ELF image is refused: %s", e.message);
}

/* In an allocation of its own size, where the sanitizer sees every byte beyond. */
static void hostile(void)
{
    size_t led = 0;
    static uint8_t whole[ROOM];
    for (uint64_t k = 0; k < ROUNDS; k++) {
        size_t len = random_below(8) ? own_len : random_below(own_len);
        struct err e;
        AUTO_FREE uint8_t *bytes = xcalloc(1, len + 1);
        memcpy(bytes, own, len);
        for (uint64_t changes = 1 + random_below(6); changes-- > 0 && len;)
            bytes[random_below(random_below(2) ? len : len < 0x7f0 ? len : 0x7f0)] = (uint8_t)(random_below(3) ? random_next() : 0xff);
        memcpy(whole, own, own_len);
        led += (random_below(2) ? vdso_redirect(bytes, len, own, own_len, 0, &e) : vdso_redirect(whole, own_len, bytes, len, 0, &e)) == 0;
    }
    ok(led > 0 && led < ROUNDS, "changed images are led on or refused, and nothing beyond them is touched (%zu led on)", led);
}

int main(void)
{
    seed_begin();
    own_find();
    led_on();
    lacking();
    hostile();
    return done_testing();
}
