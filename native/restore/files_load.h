/* Inside of files_load_*: every open file description of the image is made once, in podinit, at a number that no task uses, and
 * inherited by fork. Exceptions are made in their owner (files_load_late.c): files of /proc/PID, and epoll watches of
 * signalfds, which remember who added them. What an image says is checked before it is used; files are opened with
 * the rights of the pod's owner. */
#pragma once
#include "../image/image.h"
#include "restore.h"

/* Settable after opening, and allowed when opening. */
#define FILE_FLAGS_SETTABLE (O_APPEND | O_NONBLOCK | O_ASYNC | O_DIRECT | O_NOATIME)

/* ---- files_load.c */
/* Index of the file with that id; every reference of an image was checked when it was decoded, those of kinds are checked here. */
MUST_CHECK int file_index(const struct restore *r, uint64_t id, size_t *index, struct err *e);
/* Move a descriptor to a number that no task uses; the old one is closed. -1: closed too. */
MUST_CHECK int high_place(const struct restore *r, int fd, struct err *e);
/* high_place, and it is the description of file `index` from now on. */
MUST_CHECK int file_place(struct restore *r, size_t index, int fd, struct err *e);
MUST_CHECK int file_flags_set(const struct restore *r, size_t index, struct err *e);
/* An own description of the same file as fd. */
MUST_CHECK int file_reopen(int fd, uint64_t flags, struct err *e);
/* Made in its owner, not in podinit. */
bool file_is_late(const struct file *f);
/* Between the two, this thread opens files with the rights of the pod's owner only. */
void owner_rights_begin(const struct restore *r);
void owner_rights_end(const struct restore *r);

/* ---- one loader for each kind, for all of its kind */
MUST_CHECK int file_load(struct restore *r, size_t index, struct err *e);      /* what has a path, memory objects, logs, devices */
MUST_CHECK int file_open(const struct restore *r, const struct file *f, struct err *e);
MUST_CHECK int owners_load_threads(const struct restore *r, struct err *e); /* when all threads are there */
MUST_CHECK int directories_load_half(struct restore *r, struct err *e); /* when all names are made */
MUST_CHECK int removed_directory_open(struct restore *r, const struct file *f, struct err *e);
MUST_CHECK int memobjs_load(struct restore *r, struct err *e);
MUST_CHECK int memobjs_seal(struct restore *r, struct err *e);
MUST_CHECK int memobj_fd(const struct restore *r, uint64_t id, struct err *e);
MUST_CHECK int pipes_load(struct restore *r, struct err *e);
MUST_CHECK int unix_load(struct restore *r, struct err *e);
MUST_CHECK int tcp_load(struct restore *r, struct err *e);
MUST_CHECK int tcp_load_finish(struct restore *r, struct err *e);
MUST_CHECK int udp_load(struct restore *r, struct err *e);
MUST_CHECK int raw_load(struct restore *r, struct err *e);
MUST_CHECK int raw_validate(const struct raw_socket *s, struct err *e);
MUST_CHECK int netlink_load(struct restore *r, struct err *e);
MUST_CHECK int mqueues_load(struct restore *r, struct err *e);
MUST_CHECK int eventfd_load(struct restore *r, struct err *e);
MUST_CHECK int timerfd_load(struct restore *r, struct err *e);
MUST_CHECK int signalfd_load(struct restore *r, struct err *e);
MUST_CHECK int inotify_load(struct restore *r, struct err *e);
MUST_CHECK int pidfd_load(const struct restore *r, const struct file *f, struct err *e); /* late: the descriptor */
MUST_CHECK int ptys_load(struct restore *r, struct err *e);
/* In a process that is being made: it takes its session's terminal before it has children of that session; later it says which group is in
 * the foreground; a process of the session that has no terminal gives up what it inherited. Nothing for all others. */
MUST_CHECK int tty_take(const struct restore *r, const struct task *t, struct err *e);
MUST_CHECK int tty_foreground(const struct restore *r, const struct task *t, struct err *e);
MUST_CHECK int tty_drop(const struct task *t, struct err *e);
MUST_CHECK int epoll_load(struct restore *r, struct err *e);                   /* all but watches of late targets */
MUST_CHECK int epoll_watch_add(int epoll_fd, int target_fd, const struct epoll_watch *w, struct err *e);
bool epoll_watch_is_late(const struct restore *r, const struct epoll_watch *w);
MUST_CHECK int locks_load_shared(struct restore *r, struct err *e);            /* flock, open file description locks */
MUST_CHECK int locks_load_task(struct restore *r, const struct task *task, struct err *e); /* POSIX locks, leases */
