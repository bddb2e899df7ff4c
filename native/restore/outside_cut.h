/* Files on storage that no image carries, which the job has open for writing and which have grown since the cut (--files restore): they are cut back to what
 * they were, and what was added is kept beside them. In steps, for a restore destroys last: chosen before anything is made; looked at in
 * podinit before `ready`; cut on `go`, when there is no way back; told by whoever has the output.
 * Several pods of a job may have the same file open, and each knows another length, for they do not stop at the same instant: the longest is what it was.
 * Each marks its own by a lock far beyond the end of the file before it is ready, and on `go` only the one without another mark behind its own cuts. */
#pragma once
#include "restore.h"

/* May this file be cut back? (Not where the job has locks: the marks would stand in their way.) */
bool outside_is_cut(const struct image *image, const struct file *f);
bool outside_prefix_is(int fd, const struct file *f); /* the first bytes are what they were */
bool outside_is_repeated(const struct image *image, size_t index); /* an earlier file of the image has the same path */
void outside_cuts_choose(struct restore *r);
void outside_cuts_mark(const struct restore *r);
void outside_cuts_make(const struct restore *r);
void outside_cuts_tell(const struct restore *r);
