/* Mounts: what a pod's root is made of. Everything is done in the pod's own mount namespace; nothing propagates. */
#pragma once
#include "../base/base.h"

/* Whether this is the machine's own user namespace (else: an ordinary user's, with less allowed). */
bool namespace_is_first(void);
/* A tmpfs that is mounted nowhere yet; the descriptor works as its root directory. */
MUST_CHECK int mount_tmpfs_detached(const char *mode, struct err *e);
MUST_CHECK int mount_attach(int mount_fd, const char *at, struct err *e);
MUST_CHECK int mount_at(const char *source, const char *at, const char *type, unsigned long flags, const char *options, struct err *e);
MUST_CHECK int mount_bind_readonly(const char *source, const char *at, struct err *e);
/* overlayfs of lower with ./upper and ./work (relative to the working directory) at `at`; where / cannot be taken as a whole (user namespaces), one overlay per
 * top directory with ./upper/NAME: what the job changes stands in ./upper all the same. */
MUST_CHECK int mount_overlay(const char *lower, const char *at, struct err *e);
/* File systems that the machine has mounted below its root and that jobs need: /usr, /opt, /home and what lies below them, and whatever lies on a network file
 * system. Bound at the same place below `root` (the overlay shows them as empty directories), /usr and /opt read-only. Call before the old root goes. */
MUST_CHECK int mount_host_parts(const char *root, struct err *e);
MUST_CHECK int mount_dev(const char *at, int shm_fd, struct err *e);
/* Make `root` the root of this mount namespace, and let go of the old one. */
MUST_CHECK int mount_pivot(const char *root, struct err *e);
