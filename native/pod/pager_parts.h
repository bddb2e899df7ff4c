/* What the files of the pager share: pager.c (events and pages), pager_slots.c (what is asked of the filler, and in which order), pager_talk.c
 * (the socket). All of it belongs to one thread of podinit. */
#pragma once
#include <poll.h>

#include "missing.h"
#include "pager.h"

struct space {                 /* a process, as it is now: one of the image, or a child of one */
    int fd;
    size_t model;
    bool gone;                 /* its memory is no more */
    struct missing missing;
    uint64_t *fresh;           /* pages that somebody waits for and of which nothing is in the image */
    size_t fresh_count;
};
enum slot_state { SLOT_FREE, SLOT_ASKED, SLOT_FULL };
struct slot {
    enum slot_state state;
    uint32_t model, piece;
};
enum wish { WISH_NONE, WISH_URGENT, WISH_ASKED, WISH_DONE, WISH_LACKING, WISH_STATES = 0x7f, WISH_FAILED = 0x80 /* a mark: once it was not there */ };
struct wish_of {
    uint32_t model, piece;
};
struct paging {
    struct pager *pager;
    int dirfd, listening, queue, filler; /* filler: its connection, -1: none */
    struct space *spaces;
    size_t space_count;
    uint8_t **wishes;          /* enum wish, of each model's pieces */
    struct wish_of *urgent;    /* somebody waits for them; first come, first served */
    size_t urgent_count;
    uint32_t next_model, next_piece; /* of the background */
    struct slot slots[PAGER_SLOTS];
    uint8_t *room;             /* the slots' memory, shared with the filler */
    int timeout_ms;
    struct pollfd *watched;
    uint64_t total_bytes;
    uint64_t looked_ns, trouble_ns, retry_ns, patience_ns; /* trouble: how long something was lacking; our own clock stands while we are frozen */
    uint32_t lacking;          /* pieces marked WISH_FAILED */
    bool stuck;                /* pages could not be put in this turn */
    char why[256];
};

/* ---- pager.c */
/* True: nobody misses anything of it any more. */
bool piece_put(struct paging *p, size_t model, const struct pager_piece *piece, const uint8_t *data);

/* ---- pager_slots.c */
void pieces_want(struct paging *p, size_t model, uint64_t source); /* somebody waits for the content of this address of the image */
void slots_ask(struct paging *p);
void slots_put(struct paging *p);
void slot_answer(struct paging *p, const struct pager_answer *a);
void slots_forget(struct paging *p); /* the filler is gone: what it was asked for will be asked of the next one */
void patience_begin(struct paging *p);
/* Ends podinit, and so the pod, when something was lacking for too long. */
void patience_check(struct paging *p);

/* ---- pager_talk.c */
void queue_take(struct paging *p, void (*take)(struct paging *p, uint32_t model, int fd));
void client_accept(struct paging *p);
void filler_hear(struct paging *p);
bool filler_say(struct paging *p, const struct pager_ask *ask); /* false: not now */
void filler_drop(struct paging *p);
