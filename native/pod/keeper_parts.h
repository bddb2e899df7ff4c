/* What the files of the keeper share: keeper.c (life, lease, loop), keeper_ask.c (clients), keeper_act.c (acts). */
#pragma once
#include "keeper.h"

#define KEEPER_CLIENTS_MAX 32
#define KEEPER_LINE_MAX (1u << 20)

struct client {
    int fd;
    struct buf in;
    bool attached;             /* to the act: its lines go to the engine */
    bool said_all;             /* it closed its half, and only listens */
};
struct act {
    pid_t pid;                 /* 0: none runs */
    int in_fd, out_fd;         /* engine's stdin, stdout */
    struct buf out;            /* a line that is not whole yet */
    struct buf end_line;       /* the held back done or failed */
    char id[96];
    struct buf args_json;
    char verb[32];
    bool then_kill, then_stop;
    struct err killed_because; /* set when the keeper itself ended it */
};
struct keeper {
    struct pod pod;
    struct act act;
    struct client clients[KEEPER_CLIENTS_MAX];
    int listen_fd, signal_fd, init_fd, lease_fd;
    int track[2];              /* a socket in whose queue engines leave what watches the job's memory (snapshot/track.h) */
    bool init_dead, over;
    pid_t filler_pid;          /* 0: none */
    unsigned fill_pause_ms;
    uint64_t fill_again_ms;    /* when another one is begun; 0: not */
    bool filled;               /* nothing is missing; podinit goes back into its groups as soon as they are not frozen */
};

/* ---- keeper.c */
/* Freeze or thaw so that the pod stands as owner and lease want it, unless an act works on it. */
MUST_CHECK int keeper_settle(struct keeper *k, struct err *e);
MUST_CHECK int keeper_lease(struct keeper *k, uint64_t epoch, uint64_t until_ns, struct err *e);
MUST_CHECK int keeper_end(struct keeper *k, const char *reason, struct err *e);
void keeper_log(const char *format, ...) PRINTF(1, 2);

/* ---- keeper_act.c */
MUST_CHECK int act_start(struct keeper *k, char **words, size_t count, struct err *e);
void act_readable(struct keeper *k);            /* lines of the engine */
void act_reaped(struct keeper *k, int status);  /* the engine ended */
void act_kill(struct keeper *k, enum code code, const char *why);
void act_input(struct keeper *k, const void *data, size_t len);
void act_input_close(struct keeper *k);
/* After the death of a keeper: end what it ran, undo what that did, keep a failed result. */
/* True: its snapshot is kept as done and was to be the last; the pod stands frozen and cut, call act_pod_end. */
bool act_recover(struct keeper *k);
MUST_CHECK int act_pod_end(struct keeper *k, struct err *e);

/* ---- keeper_fill.c */
/* Before anybody can be frozen: podinit, which puts the pages, is not to be frozen with the others. It takes the kernel some 10 ms, so it is done
 * when the job runs already: nobody but the keeper freezes. */
void fill_begin(struct keeper *k);
void fill_start(struct keeper *k);             /* when there is something to fill */
void fill_reaped(struct keeper *k, int status);
int fill_timeout_ms(struct keeper *k, int timeout_ms); /* each turn: how long the loop may wait, which else would so long; -1: for ever */
void fill_end(struct keeper *k);

/* ---- keeper_ask.c */
void clients_accept(struct keeper *k);
void client_readable(struct keeper *k, struct client *c);
void clients_tell_attached(struct keeper *k, const void *data, size_t len); /* drops a client that does not read */
void clients_release_attached(struct keeper *k, int exit_status);
void client_close(struct client *c);

/* ---- results.c: POD/results/ID, one JSON line each, until acknowledged */
MUST_CHECK int result_keep(int dirfd, const char *id, const char *verb, const char *args_json, int exit_status, const char *line, struct err *e);
