/* The parts of image_check (check.c). */
#pragma once
#include "image.h"

MUST_CHECK int paths_check(const struct image *in, struct err *e);
