/* Inside of files_save: the descriptors of the stopped tree, grouped into open file descriptions, and what the savers of
 * the kinds (file_save.c, pipe_save.c, …) share. The engine holds one duplicate of every description while it saves;
 * whatever is changed in a description is journalled and put back before files_save returns. */
#pragma once
#include <sys/socket.h>

#include "files_facts.h"
#include "socket_check.h"

/* One descriptor number of one process. */
struct slot {
    size_t victim;           /* index into s->victims */
    int number;
    struct facts facts;
    size_t source;           /* index into sources */
};
/* One open file description. */
struct source {
    size_t victim;           /* where it was first found */
    int number;
    int fd;                  /* the engine's duplicate */
    bool passed;             /* no process holds it: it lies in the queue of the socket that `victim` and `number` name */
    uint64_t kind;
    struct facts facts;
    bool owns_facts;         /* what they point to; else its slot does */
    struct socket_facts socket; /* of a socket */
    uint64_t net;            /* the network namespace of the job that a socket is in, 0: the pod's */
    struct tcp_socket *tcp;  /* its entry in the image, of a TCP socket (does not move) */
    struct file *file;       /* its entry in the image (does not move) */
    struct unix_message *queue; /* of a Unix socket, until it is saved */
    size_t queue_count;
};
/* A multicast group that somebody in the pod's network, or one of the job's, is in. */
struct joined_group {
    uint64_t net;            /* as of a source */
    int family;
    uint32_t interface;
    struct sockaddr_storage address;
};
struct saving {
    struct snapshot *s;
    struct view view;
    struct slot *slots;      /* by victim, then number */
    size_t slots_count;
    size_t *sorted;          /* indices of slots, equal descriptions side by side */
    struct source *sources;
    size_t sources_count;
    struct joined_group *groups;
    size_t groups_count;
};

/* ---- files_scan.c */
MUST_CHECK int scan_slots(struct saving *v, struct err *e);
MUST_CHECK int scan_sources(struct saving *v, struct err *e);
/* What src->fd is; process `pid` has it at that number. */
MUST_CHECK int source_learn(const struct saving *v, struct source *src, pid_t pid, int number, struct err *e);
void scan_free(struct saving *v);
const struct slot *scan_find_slot(const struct saving *v, size_t victim, int number);
struct source *scan_find_inode(const struct saving *v, uint64_t ino, uint64_t first_kind, uint64_t last_kind);

/* ---- queues_save.c: before entries_make; adds the sources that only messages hold */
MUST_CHECK int queues_look(struct saving *v, struct err *e);

/* ---- one saver for each kind: fills src->file and the list of its kind */
MUST_CHECK int file_save(struct saving *v, struct source *src, struct err *e);
/* Working directories that were removed. After all sources. */
MUST_CHECK int directories_save(struct saving *v, struct err *e);
/* directory_save.c: of a directory that is read from its beginning no more. */
MUST_CHECK int directory_place_save(struct saving *v, struct source *src, struct err *e);
MUST_CHECK int memfile_save(struct saving *v, struct source *src, struct err *e);
MUST_CHECK int pipe_save(struct saving *v, struct source *src, struct err *e);
MUST_CHECK int pipes_finish(struct saving *v, struct err *e);
MUST_CHECK int unix_save(struct saving *v, struct source *src, struct err *e);
MUST_CHECK int tcps_save(struct saving *v, struct err *e); /* all of them, on all processors */
MUST_CHECK int tcp_check_orphans(struct saving *v, struct err *e);
MUST_CHECK int udp_save(struct saving *v, struct source *src, struct err *e);
MUST_CHECK int raw_save(struct saving *v, struct source *src, struct err *e);
MUST_CHECK int netlink_save(struct saving *v, struct source *src, struct err *e);
MUST_CHECK int epoll_save(struct saving *v, struct source *src, struct err *e);
MUST_CHECK int mqueue_save(struct saving *v, struct source *src, struct err *e);
MUST_CHECK int mqueues_messages_save(struct saving *v, struct err *e); /* of the queues that have names */
MUST_CHECK int eventfd_save(struct saving *v, struct source *src, struct err *e);
MUST_CHECK int timerfd_save(struct saving *v, struct source *src, struct err *e);
MUST_CHECK int signalfd_save(struct saving *v, struct source *src, struct err *e);
MUST_CHECK int inotify_save(struct saving *v, struct source *src, struct err *e);
MUST_CHECK int pidfd_save(struct saving *v, struct source *src, struct err *e);
MUST_CHECK int pty_save(struct saving *v, struct source *src, struct err *e);
MUST_CHECK int ptys_finish(struct saving *v, struct err *e); /* tasks' controlling terminals */
MUST_CHECK int locks_save(struct saving *v, struct err *e);

/* ---- groups_save.c */
MUST_CHECK int groups_read(struct saving *v, struct err *e);
MUST_CHECK int groups_save(const struct saving *v, const struct source *src, struct sockopt **options, size_t *count, struct err *e);

/* ---- files_sockopt.c: options are kept by (level, name, value); only those of its table are ever set again */
enum sockopt_family { OPT_UNIX = 1, OPT_TCP = 2, OPT_UDP = 4, OPT_NETLINK = 8, OPT_V4 = 16, OPT_V6 = 32, OPT_UDP4 = 64, OPT_UDP6 = 128,
                      OPT_RAW4 = 512, OPT_RAW6 = 1024, OPT_PACKET = 2048 };
/* All that holds for a TCP or UDP socket of that family. */
unsigned sockopts_internet(bool udp, uint64_t family);
unsigned sockopts_raw(uint64_t family); /* the same of a raw or packet socket */
void sockopts_save(int fd, unsigned families, struct sockopt **options, size_t *count);
/* The socket's filter, before its options. */
MUST_CHECK int sockfilter_save(int fd, struct sockopt **options, size_t *count, struct err *e);
/* Sets what differs from what the socket has. */
MUST_CHECK int sockopts_load(int fd, unsigned families, const struct sockopt *options, size_t count, struct err *e);
/* The same for a socket that was just made: what such a socket has is asked once for all that are made in the same way, until something is set. */
#define SOCKOPTS_KNOWN_MAX 128
struct sockopt_defaults {
    struct {
        bool asked;
        uint32_t len;
        uint8_t value[40];
    } of[SOCKOPTS_KNOWN_MAX]; /* parallel to the table */
};
MUST_CHECK int sockopts_load_new(int fd, unsigned families, struct sockopt_defaults *defaults, const struct sockopt *options, size_t count, struct err *e);
MUST_CHECK int sockbufs_save(int fd, uint64_t *sndbuf, uint64_t *rcvbuf, uint64_t *lock, struct err *e);
/* Room for at least what it had (queues go in before the final size is set). */
uint64_t sockbuf_wide(uint64_t bytes); /* how much that is */
MUST_CHECK int sockbufs_widen(int fd, uint64_t sndbuf, uint64_t rcvbuf, struct err *e);
MUST_CHECK int sockbufs_load(int fd, uint64_t sndbuf, uint64_t rcvbuf, uint64_t lock, struct err *e);

/* "cannot be captured": E_UNSUPPORTED with process, descriptor and words. */
MUST_CHECK int source_refuse(const struct saving *v, const struct source *src, struct err *e, const char *format, ...) PRINTF(4, 5);
/* The same for what passes by itself when the job runs on for a moment: E_BUSY. */
MUST_CHECK int source_busy(const struct saving *v, const struct source *src, struct err *e, const char *format, ...) PRINTF(4, 5);
/* Something that differs after a restore: kept in the image with process and descriptor. */
void source_warn(const struct saving *v, const struct source *src, const char *name, const char *words);
/* Inner pid of a process or thread, by its pid as the engine sees it; 0 if it is none of the pod's. */
uint64_t saving_inner_pid(const struct saving *v, pid_t pid);
/* Open the description's file anew for reading, so that nobody's offset moves. */
MUST_CHECK int source_reopen(int fd, int flags, struct err *e);
