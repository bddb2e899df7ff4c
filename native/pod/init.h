/* podinit: pid 1 of a pod. It builds the root, runs the program's in_pod, and is from then on a reaper that keeps nothing but
 * a descriptor of POD: it writes COMMAND's wait status to POD/exit durably and ends the pod with it. Also what it and the
 * keeper say to each other while the pod is made. */
#pragma once
#include "pod.h"
#include "root.h"

enum pod_step { STEP_BUILD = 1, STEP_BUILT, STEP_RUN, STEP_RUNNING, STEP_ACT_DONE, STEP_FAILED };
struct pod_message {
    enum pod_step step;
    uint64_t command_pid;
    struct err error;
};
MUST_CHECK int message_send(int channel, enum pod_step step, uint64_t command_pid, const struct err *error, struct err *e);
/* E_PROTOCOL when the other side went away; a STEP_FAILED becomes its error. */
MUST_CHECK int message_expect(int channel, enum pod_step step, struct pod_message *out, struct err *e);

struct pod_init {
    struct pod *pod;
    const struct pod_root *root;
    const struct pod_program *program;
    void *ctx;
    int channel, act_channel;
    const int *close_fds; /* the keeper's, ended by -1 */
};
int init_main(void *init);

/* "0-3,7" as a mask; E_USAGE names what is wrong. */
#include <sched.h>
MUST_CHECK int cpu_list_parse(const char *list, cpu_set_t *out, struct err *e);
