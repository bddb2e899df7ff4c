/* POD/state and POD/lease: what is remembered of a pod. Only the process that holds POD/keeper.lock writes them.
 * state: key=value lines (bytes below 0x20, 0x7f and % as %XX), replaced durably when the phase changes.
 * lease: one line of fixed length, rewritten in place: it matters only while the machine lives. */
#pragma once
#include "pod.h"

/* Whole, without asking whether the pod lives. E_NO_INPUT: there is no pod. */
MUST_CHECK int pod_state_load(const char *dir, struct pod *out, struct err *e);
MUST_CHECK int pod_lease_save(const struct pod *pod, struct err *e);
void pod_lease_load(struct pod *pod); /* no such file: no lease */

/* Start time of a process in clock ticks from /proc/PID/stat; 0 if there is none. */
uint64_t process_start(pid_t pid);
bool pod_init_alive(const struct pod *pod);
void machine_boot_id(char out[40]);
/* POD/exit, written by podinit: fills has_exit and exit_wait_status. */
void pod_exit_load(struct pod *pod);
