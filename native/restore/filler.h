/* The filler: brings a pod that runs already the content that is missing in its memory, chunk by chunk as podinit asks for it (pod/pager.h), each
 * checked against its digest. It knows nothing of what was brought before: it may die at any instant, and the next one goes on. */
#pragma once
#include "../base/base.h"

/* 0: nothing is missing any more. */
MUST_CHECK int filler_work(const char *pod, struct err *e);
