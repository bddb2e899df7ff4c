/* How urgent this process is to the scheduler: while a job stands, the engine goes before everything else that runs. A nice value does not do: it counts within
 * one session only (autogroups), and whoever wakes waits for the end of another's turn; dozens of such turns were most of a pause on a busy node. */
#pragma once
#include <stdbool.h>
#include <stdint.h>

/* From the stop on. `copy_bytes`: what will be copied in the pause at least; where that is much, other programs of the node are not kept waiting for it. */
void urgent_begin(uint64_t copy_bytes);
/* Something long is to be done. */
void urgent_ease(void);
/* Between urgent_begin and urgent_ease or urgent_end, and it was allowed. */
bool urgent_is(void);
/* The job runs on. */
void urgent_end(void);
/* For those who only pass the words on by which a job is stopped and runs on; their children are as others. urgent_ease ends it. */
void urgent_relay(void);
/* What remains to be done is not urgent: where `room` (urgent_room, asked while the job still ran) the job's processors are its own, and the rest of the work gets
 * what nobody else uses. To be called once, by a process whose end is near: an ordinary user cannot take it back. */
void urgent_background(bool room);
/* Do fewer programs want to run than there are processors? With none to spare the work costs the job the same at any priority, and would only last longer. */
bool urgent_room(void);
