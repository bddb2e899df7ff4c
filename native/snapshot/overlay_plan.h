/* See overlay_plan.c. */
#pragma once
#include "spaces.h"

#define OVERLAY_WORDS 256
/* The options with which the overlay at `line` can be mounted again; -1 and words: it cannot. */
MUST_CHECK int overlay_plan(const struct spaces *s, const struct seen_mounts *m, const struct mount_line *line, char **options, char words[OVERLAY_WORDS]);
