/* Everything that store and images change on disk passes here: the order of these calls is what makes them durable,
 * and a test can fail each of them in turn (it defines store_io_fault: not 0 is the
 * errno that the call then gives; a negative one: after half of the bytes). */
#pragma once
#include "../base/base.h"

__attribute__((weak)) int store_io_fault(const char *operation);

MUST_CHECK int store_io_create(int dirfd, const char *name, int *fd, struct err *e); /* O_EXCL, 0600 */
MUST_CHECK int store_io_write(int fd, const void *data, size_t len, uint64_t offset, struct err *e);
MUST_CHECK int store_io_sync(int fd, const char *what, struct err *e);
MUST_CHECK int store_io_rename(int dirfd, const char *from, const char *to, struct err *e);
MUST_CHECK int store_io_unlink(int dirfd, const char *name, struct err *e); /* already gone is no error */
/* The modification time becomes the file server's present; E_NO_INPUT: there is no such file (any more). */
MUST_CHECK int store_io_touch(int dirfd, const char *name, struct err *e);
/* From one directory into another; E_NO_INPUT: it is not there (any more). */
MUST_CHECK int store_io_move(int fromfd, int tofd, const char *name, struct err *e);
/* Each directory that it makes is made durable by an fsync of its parent. */
MUST_CHECK int store_io_mkdirs(const char *path, struct err *e);
/* Temporary name, write, fsync, rename, fsync of dirfd. What was there before stays whole until the rename. */
MUST_CHECK int store_io_replace(int dirfd, const char *name, const void *data, size_t len, struct err *e);
