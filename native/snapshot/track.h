/* What the job's processes have written since which generation, from one snapshot to the next. Between snapshots the descriptors that
 * watch and the list of what was written rest in the queue of a socket of the keeper: an engine takes them out and puts them back at its
 * end, so that an engine (or keeper) that dies loses them, the kernel stops watching, and the next snapshot is a full one.
 *
 * An epoch is the time between two cuts; it is named by the image of the cut that began it, once that is written. Every look arms what it
 * finds, so what it found is kept in the epoch that it ends, whatever becomes of the image: failed generations lose nothing. */
#pragma once
#include "../kernel/uffd.h"
#include "snapshot.h"

#define TRACK_ENVIRONMENT "CLUSTEROS_TRACK" /* "IN,OUT": the socket's ends */

struct epoch {
    struct digest image;          /* zero: not known, or there is none */
    bool unknown;                 /* nobody looked at its end: all may have been written */
    struct page_ranges written;
};
struct track {                    /* of one process */
    pid_t pid;
    uint64_t start_time;
    int uffd;
    bool armed;                   /* what is written since then is known */
    struct page_ranges sample;    /* watched while the rest is not: to learn whether it writes most (sample.h) */
    unsigned idle;                /* generations for which nobody looks: it writes most of its memory from one to the next */
    struct epoch *epochs;
    size_t epoch_count;
    bool seen, lost;              /* at this cut */
    bool fresh;                   /* since this cut; nothing of it is armed */
};
struct tracks {
    bool on;
    int in, out;
    struct track *items;
    size_t count;
};

/* Before the stop: take what rests, and look at (and arm) what was written so far, so that little is left for the pause. Nothing here
 * fails a snapshot: without tracks it is a full one. */
void tracks_begin(struct tracks *t);
/* A cut begins; what is known of earlier ones counts only for processes that tracks_cut is called for. */
void tracks_cut_begin(struct tracks *t);
/* Before the stop: bytes written since that image, of processes of which so little was written that they are copied in the pause. */
uint64_t tracks_expected_bytes(const struct tracks *t, const struct digest *image);
/* At the cut, the victim stopped: one that is large enough is watched from now on. */
MUST_CHECK int tracks_join(struct tracks *t, struct victim *v, struct err *e);
/* What a cut saw of a process. */
struct cut_seen {
    bool *watched;                /* of each mapping */
    bool any, told;
    struct page_ranges unarmed;   /* if so: of watched mappings, what is not armed now, ascending */
};
/* Then what it wrote goes to the ending epoch, a new one begins, new memory is watched. Several threads may do this for several victims. */
void tracks_cut(const struct tracks *t, const struct victim *v, const struct mm *mm, struct cut_seen *out);
void tracks_cut_end(struct tracks *t);
/* The job runs on: of those that are watched since this cut a sample is armed; all of it before the next stop, if the sample says that this is worth it. */
void tracks_sample(struct tracks *t);
/* NULL: it is not watched. */
const struct track *tracks_of(const struct tracks *t, pid_t pid);
bool tracks_can_watch(const struct vma *m);
/* Pages written since that image, sorted. False when that cannot be told. */
bool tracks_written_since(const struct tracks *t, const struct victim *v, const struct digest *image, struct page_ranges *out);
/* The cut's image is written: its name. */
void tracks_name(struct tracks *t, const struct digest *image);
/* Put all back, and forget processes that were not there at the cut. */
void tracks_end(struct tracks *t);
/* Of one (track_cut.c). -1: nothing is known of it any more. */
MUST_CHECK int track_cut(struct track *t, const struct mm *mm, struct cut_seen *out, struct err *e);
