/* Leading the functions of one kernel's vDSO on to another's (vdso.h). Symbols as elf(5) and the System V ABI give them; names as vdso(7). */
#include <elf.h>
#include <string.h>
#include <sys/syscall.h>

#include "vdso.h"

#ifndef SYS_getrandom
#define SYS_getrandom 318
#endif
#define SYMBOLS_MAX 64
#define JUMP_BYTES 12ul
#define CALL_BYTES 8ul
#define CODE_MAX_BYTES (1ul << 20)

static const struct {
    const char *name;
    uint32_t call;
} functions[] = {
    {"__vdso_clock_gettime", SYS_clock_gettime}, {"__vdso_gettimeofday", SYS_gettimeofday}, {"__vdso_time", SYS_time},
    {"__vdso_clock_getres", SYS_clock_getres},   {"__vdso_getcpu", SYS_getcpu},             {"__vdso_getrandom", SYS_getrandom},
};

/* ---- symbols */
struct elf {
    const uint8_t *data;
    uint64_t len, base;                       /* base: the address that the first byte was linked to */
    uint64_t symbols, symbol_count, names, names_len; /* places in data */
};

static bool within(uint64_t at, uint64_t size, uint64_t len)
{
    return at <= len && size <= len - at;
}

/* DT_HASH tells how many symbols there are; without it the names follow the symbols, as every linker lays them out. */
static void symbols_count(struct elf *elf, uint64_t hash)
{
    uint32_t count;
    if (hash && within(hash - elf->base, 8, elf->len)) {
        memcpy(&count, elf->data + (hash - elf->base) + 4, sizeof count);
        elf->symbol_count = count;
    } else if (elf->names > elf->symbols) {
        elf->symbol_count = (elf->names - elf->symbols) / sizeof(Elf64_Sym);
    }
    uint64_t fit = elf->symbols <= elf->len ? (elf->len - elf->symbols) / sizeof(Elf64_Sym) : 0;
    elf->symbol_count = elf->symbol_count < fit ? elf->symbol_count : fit;
    elf->symbol_count = elf->symbol_count < SYMBOLS_MAX ? elf->symbol_count : SYMBOLS_MAX;
}

static void dynamic_read(struct elf *elf, const Elf64_Phdr *part)
{
    uint64_t hash = 0;
    for (uint64_t at = 0; at < part->p_filesz && within(part->p_offset + at, sizeof(Elf64_Dyn), elf->len); at += sizeof(Elf64_Dyn)) {
        Elf64_Dyn d;
        memcpy(&d, elf->data + part->p_offset + at, sizeof d);
        if (d.d_tag == DT_SYMTAB)
            elf->symbols = d.d_un.d_ptr - elf->base;
        else if (d.d_tag == DT_STRTAB)
            elf->names = d.d_un.d_ptr - elf->base;
        else if (d.d_tag == DT_STRSZ)
            elf->names_len = d.d_un.d_val;
        else if (d.d_tag == DT_HASH)
            hash = d.d_un.d_ptr;
        else if (d.d_tag == DT_NULL)
            break;
    }
    if (!within(elf->names, elf->names_len, elf->len))
        elf->names_len = 0;
    symbols_count(elf, hash);
}

static bool elf_open(struct elf *elf, const uint8_t *data, uint64_t len)
{
    Elf64_Ehdr h;
    *elf = (struct elf){.data = data, .len = len};
    if (len < sizeof h || len > CODE_MAX_BYTES)
        return false;
    memcpy(&h, data, sizeof h);
    if (memcmp(h.e_ident, ELFMAG, SELFMAG) != 0 || h.e_ident[EI_CLASS] != ELFCLASS64 || h.e_machine != EM_X86_64 || h.e_phentsize != sizeof(Elf64_Phdr))
        return false;
    for (int round = 0; round < 2; round++) /* the address first */
        for (uint64_t k = 0; k < h.e_phnum; k++) {
            Elf64_Phdr part;
            if (!within(h.e_phoff, (k + 1) * sizeof part, len))
                return false;
            memcpy(&part, data + h.e_phoff + k * sizeof part, sizeof part);
            if (round == 0 && part.p_type == PT_LOAD)
                elf->base = part.p_vaddr - part.p_offset;
            if (round == 1 && part.p_type == PT_DYNAMIC && within(part.p_offset, part.p_filesz, len))
                dynamic_read(elf, &part);
        }
    return elf->symbol_count > 0;
}

/* Where a function stands in the data, and its size; false: there is none of that name. */
static bool function_find(const struct elf *elf, const char *name, uint64_t *at, uint64_t *size)
{
    size_t name_len = strlen(name) + 1;
    for (uint64_t k = 0; k < elf->symbol_count; k++) {
        Elf64_Sym s;
        memcpy(&s, elf->data + elf->symbols + k * sizeof s, sizeof s);
        if (s.st_shndx == SHN_UNDEF || !within(s.st_name, name_len, elf->names_len) || memcmp(elf->data + elf->names + s.st_name, name, name_len) != 0)
            continue;
        *at = s.st_value - elf->base;
        *size = s.st_size;
        return within(*at, *size, elf->len);
    }
    return false;
}

/* ---- code */
static size_t jump_put(uint8_t out[JUMP_BYTES], uint64_t to)
{
    static const uint8_t load[] = {0x48, 0xb8}, jump[] = {0xff, 0xe0}; /* movabs $to, %rax; jmp *%rax */
    memcpy(out, load, 2);
    memcpy(out + 2, &to, 8);
    memcpy(out + 10, jump, 2);
    return JUMP_BYTES;
}

static size_t call_put(uint8_t out[JUMP_BYTES], uint32_t number)
{
    static const uint8_t call[] = {0x0f, 0x05, 0xc3}; /* mov $number, %eax; syscall; ret */
    out[0] = 0xb8;
    memcpy(out + 1, &number, 4);
    memcpy(out + 5, call, 3);
    return CALL_BYTES;
}

int vdso_redirect(uint8_t *old, size_t old_len, const uint8_t *now, size_t now_len, uint64_t at, struct err *e)
{
    struct elf from, to;
    if (!elf_open(&from, old, old_len) || !elf_open(&to, now, now_len))
        return err_set(e, E_UNSUPPORTED, "the image was made under another kernel, and the functions of its vDSO are not found");
    for (size_t k = 0; k < ARRAY_LENGTH(functions); k++) {
        uint8_t code[JUMP_BYTES];
        uint64_t place, room, target, target_size;
        if (!function_find(&from, functions[k].name, &place, &room))
            continue;
        bool known = function_find(&to, functions[k].name, &target, &target_size);
        size_t len = known ? jump_put(code, at + target) : call_put(code, functions[k].call);
        if (room < len)
            return err_set(e, E_UNSUPPORTED, "the image was made under another kernel, whose %s is too short to be led on (%lu bytes)", functions[k].name, room);
        memcpy(old + place, code, len);
    }
    return 0;
}
