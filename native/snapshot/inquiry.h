/* Questions of several nouns to one stopped thread, asked at one stop: every stop costs two turns of a processor. Each adds its calls and takes the room
 * for their answers, the whole is run, and each takes what is its own. */
#pragma once
#include "../kernel/remote.h"

struct inquiry {
    struct victim *v;
    size_t thread, count, used;
    struct remote_call calls[REMOTE_BATCH_MAX];
    uint8_t *answers; /* after inquiry_run: `used` bytes */
};
/* Makes the victim's work area if there is none. */
MUST_CHECK int inquiry_begin(struct inquiry *q, struct victim *v, size_t thread, struct err *e);
/* An address in the victim for answers of that many bytes; what a failed call leaves there means nothing. */
uint64_t inquiry_room(struct inquiry *q, size_t len);
/* Adds a call; its number. */
size_t inquiry_add(struct inquiry *q, struct remote_call call);
MUST_CHECK int inquiry_run(struct inquiry *q, struct err *e);
/* What stands in that room after the run. */
const void *inquiry_answer(const struct inquiry *q, uint64_t room);
void inquiry_free(struct inquiry *q);
