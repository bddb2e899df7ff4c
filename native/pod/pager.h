/* Memory that comes when the pod runs already. podinit holds a userfaultfd of each such process and the list of what is missing in it (missing.h);
 * one thread of it reads every event and puts every page, so that both are in one order. When podinit dies the pod is over: nobody ever runs on
 * with pages that nobody brings. The content comes from a filler outside (restore/filler.c), who may die at any instant: what it was asked
 * for is asked of the next one. Both speak on POD/pager.sock, which is there as long as something is missing. */
#pragma once
#include "../store/store.h"
#include "pod.h"

#define PAGER_SOCKET "pager.sock"
#define PAGER_PROCESSES_MAX 512 /* of a pod; the others' memory is read before they run */
#define PAGER_SLOTS 16

struct pager_piece {           /* of content: one extent of the image */
    uint64_t at;
    uint32_t len, extent;      /* its index in the process's list */
};
struct pager_model {           /* a process of the image */
    struct pager_piece *pieces; /* what may be missing, ascending */
    size_t pieces_count;
};
struct pager {                 /* made before podinit is forked */
    struct pager_model *models; /* parallel to the image's processes */
    size_t models_count;
    int queue[2];              /* SOCK_SEQPACKET: [1] the restore leaves descriptors in it, [0] podinit takes them */
    int listening;             /* podinit's, by pager_listen */
};

/* ---- the restore's side */
/* Leave a process's descriptor for podinit: all its pieces are missing in it. */
MUST_CHECK int pager_give(const struct pager *p, const uint32_t *models, const int *fds, size_t count, struct err *e);

/* ---- in podinit */
MUST_CHECK int pager_listen(struct pager *p, int dirfd, struct err *e);
/* Take what was given and begin the thread; nothing was given: nothing begins. */
MUST_CHECK int pager_start(struct pager *p, int dirfd, struct err *e);

/* ---- what is said on the socket */
enum { PAGER_FILLER = 'f', PAGER_STATUS = 's' }; /* a client's first byte; a filler gets one byte with a memfd of PAGER_SLOTS times CHUNK_MAX */
struct pager_ask {
    uint32_t slot, model, extent;
};
struct pager_answer {
    uint32_t slot;
    int32_t code;              /* E_OK: the content lies in the slot */
    char why[256];
};
struct pager_status {
    uint64_t total_bytes, left_bytes;
    uint32_t processes;
    uint32_t lacking;          /* pieces that the store has not, or not whole */
    char why[256];
};

/* ---- from outside (pager_ask.c) */
/* -1 with E_NO_INPUT: nothing is missing (any more). */
int pager_connect(const struct pod *pod, struct err *e);
MUST_CHECK int pager_status_get(const struct pod *pod, struct pager_status *out, struct err *e);
/* Until nothing is missing; tells how it goes. E_BUSY after patience_ms. */
MUST_CHECK int pager_await(const struct pod *pod, uint64_t patience_ms, struct err *e);
