/* The pages that the kernel gives every process: code of its own ([vdso], by which programs read clocks without a call) and the data that this code reads
 * ([vvar]). Programs remember where the functions are. Under another build of the kernel the code that they remember stays at its place as ordinary
 * memory, each function of it jumps to this kernel's, and this kernel's pages stand elsewhere. A reading that a signal handler had interrupted goes on in
 * the old code: where its data was it finds zeros, which for every kernel mean "no clock to read here", and makes the call. */
#pragma once
#include "../image/image.h"
#include "../kernel/procfs.h"
#include "../kernel/remote.h"

struct call_list;

/* The image's process was under this build of the kernel (or has no such pages): its pages go where they were. */
MUST_CHECK int vdso_is_own(const struct mm *mm, bool *out, struct err *e);
/* Another kernel's can be led on to this one's. E_UNSUPPORTED, by name, when not. */
MUST_CHECK int vdso_check(const struct mm *mm, struct err *e);

/* enum vma_kind of a line of /proc/PID/maps; 0: none of these pages. */
uint64_t vdso_kind(const char *path);
/* Where all of this kernel's pages shall stand together; 0: where the image has them. None of the image's mappings is there, nor `taken`. */
MUST_CHECK int vdso_aside(const struct mm *mm, const struct proc_maps *now, uint64_t taken, uint64_t taken_end, uint64_t *aside, struct err *e);
/* From where they wait, one behind the other in the order of `now`, to their places. */
MUST_CHECK int vdso_back(struct call_list *l, const struct proc_maps *now, const struct mm *mm, uint64_t waiting, uint64_t aside, struct err *e);
/* The other kernel's code, each function led on, into its mapping; the process's own pages stand already. */
MUST_CHECK int vdso_fill(const struct victim *v, const struct mm *mm, struct err *e);

/* ---- vdso_code.c
 * `old` with each function that reads the kernel's data jumping to the one of `now`, which will stand at `at`; both are whole ELF images and are not
 * trusted. E_UNSUPPORTED when that cannot be done; then `old` may be half changed. */
MUST_CHECK int vdso_redirect(uint8_t *old, size_t old_len, const uint8_t *now, size_t now_len, uint64_t at, struct err *e);
