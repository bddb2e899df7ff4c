/* What is in a network namespace that the job made, into the image; and the proof that it can be made anew: it is tried, in a namespace that nobody sees. */
#pragma once
#include "spaces.h"

/* `space`, `owner`: descriptors of the namespace and of the user namespace that it belongs to. E_UNSUPPORTED names what does not come back. What was tried
 * once (before the pause) is not tried again as long as it is the same. */
MUST_CHECK int nets_read(int space, int owner, struct other_space *out, struct err *e);
