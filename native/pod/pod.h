/* A pod as the engine sees it from outside, and its making. POD (a directory) holds: `state` (key=value lines,
 * replaced durably), `keeper.sock`, `journal` (see journal.h), `results/` (one file per finished request),
 * `exit` (wait(2) status of COMMAND, written by podinit), `upper/` `work/` (overlay), `log/`.
 * Processes: keeper (outside) -> podinit (pid 1 of the pod, engine code, not part of any image) -> the job. */
#pragma once
#include <linux/filter.h>

#include "../image/image.h"

struct pager;
struct pod_net {             /* --net SPEC: "hub=/path/of/netns,bridge=br0,ip=10.77.0.1/16,gw=10.77.255.254,mac=02:..,ifname=eth0,mtu=1450" */
    char hub[PATH_BYTES], bridge[16], ifname[16], ip[64], gateway[64], mac[18];
    uint32_t mtu;
    bool present;            /* false: loopback alone */
};
struct pod_spec {
    const char *dir, *net, *hostname, *cpus, *stdout_path, *stderr_path, *env_file;
    uint64_t uid, gid, mem_bytes;
    bool io_uring_allowed;
    const char *hosts_file;  /* becomes /etc/hosts of the pod when given */
    const char *lower;       /* the root that the pod's overlay lies on; "/" by default */
    int64_t monotonic_offset_ns, boottime_offset_ns; /* time namespace */
    bool network_locked;     /* start with the network cut (restore) */
    const char *workdir;     /* working directory of COMMAND inside the pod, made (owned by uid) when it is not there; "/" by default */
    const char *machine_id, *boot_id; /* of the pod; NULL: made at random (run). A restore passes the image's. */
};
struct pod {
    char dir[PATH_BYTES];
    int dirfd;
    pid_t keeper_pid, init_pid;   /* as the engine sees them */
    uint64_t init_start;          /* start time of init_pid from /proc/PID/stat: guards against reuse */
    char cgroup[PATH_BYTES];      /* relative name of the pod's cgroup in every hierarchy used, "" if none */
    char host_ifname[16];         /* hub side of the veth */
    struct pod_net net;
    struct pod_facts facts;       /* what the image says of the pod; pod_create fills in all but the times, command_pid and last_pid.
                                     in_pod sets command_pid (inner pid of COMMAND): podinit and the state file take it from there. */
    int stdout_fd, stderr_fd;     /* the log files, O_APPEND, open only while pod_create's program runs (in_pod, act); else -1 */
    int tree_fds[3];              /* private: tmpfs not yet in their places */
    pid_t caller_pid;             /* the process that called pod_create */
    char host_boot_id[40];        /* of the machine: a state of an earlier boot is dead */
    struct pod_cgroups *cgroups;  /* kernel/cgroup.h */
    uint64_t epoch, lease_until_ns; /* of CLOCK_BOOTTIME; 0: no lease was ever set */
    bool suspended, lease_frozen; /* frozen by the owner; frozen because the lease ran out */
    struct pager *pager;          /* pager.h; set by in_pod when memory comes later */
    char phase[16];               /* "making", "running", "ended" */
    char reason[256];             /* why it ended, when COMMAND did not end by itself */
    bool has_exit; int exit_wait_status;
};

MUST_CHECK int pod_open(const char *dir, struct pod *out, struct err *e);   /* E_NO_INPUT if there is none, E_CONFLICT if it ended */
void pod_close(struct pod *pod);
MUST_CHECK int pod_state_save(const struct pod *pod, struct err *e);
MUST_CHECK int pod_state_put(const struct pod *pod, struct err *e); /* without fsync: while it is made, and a machine that goes down takes all of it along */
/* Open a directory of the pod from outside: "root" (the overlay's upper), "tmp" (/tmp), "shm" (/dev/shm), "run" (/run). -1 with E_NO_INPUT if the pod has no such tree. */
MUST_CHECK int pod_tree_open(const struct pod *pod, const char *tree, struct err *e);
extern const char *const pod_tree_names[]; /* NULL-ended: every captured tree */

/* What runs in a new pod. All three get `ctx`. */
struct pod_program {
    /* in the keeper: mounts exist, nothing runs yet; trees may be filled through pod_tree_open */
    int (*fill)(struct pod *pod, void *ctx, struct err *e);
    /* in podinit (pid 1), mounts, network, cgroup in place, as root of the pod; when it returns 0 podinit becomes the plain reaper.
     * `channel` is a SOCK_SEQPACKET to `act` (or -1 when there is no act). */
    int (*in_pod)(struct pod *pod, void *ctx, int channel, struct err *e);
    /* in a child of the keeper, beside podinit: the tracer of a restore. NULL for run. stdin/output as for any verb. */
    int (*act)(struct pod *pod, void *ctx, int channel, struct err *e);
};
/* Make the pod and its keeper (a daemon that outlives the caller), run the program, return when it runs (in_pod and act
 * both succeeded). On failure nothing is left: no process, mount, cgroup, interface. Barrier lines of `act` are relayed. */
MUST_CHECK int pod_create(const struct pod_spec *spec, const struct pod_program *program, void *ctx, struct pod *out, struct err *e);

/* End a pod at once and take away all that belongs to it (processes, cgroup, network); POD stays. For callers without a keeper. */
MUST_CHECK int pod_destroy(struct pod *pod, const char *reason, struct err *e);

/* ---- the freezer of the whole pod (podinit too). Idempotent; waits until it is so. Kinds: cgroup v2 (a v2-frozen task can be seized and stopped by ptrace,
 * so: seize all, thaw, work, freeze again, detach) or cgroup v1 (it must be thawed before ptrace can stop it). E_UNSUPPORTED without a cgroup. */
enum freezer_kind { FREEZER_NONE, FREEZER_V1, FREEZER_V2 };
enum freezer_kind pod_freezer_kind(const struct pod *pod);
bool pod_is_frozen(const struct pod *pod);
MUST_CHECK int pod_freeze(const struct pod *pod, struct err *e);
MUST_CHECK int pod_thaw(const struct pod *pod, struct err *e);
/* What the owner and the lease want, by the state file: true if the pod should stand frozen when nobody works on it. Read fresh after an act. */
bool pod_wants_frozen(const struct pod *pod);

/* Every process (thread group) in the pod's pid namespace but podinit, pids as the engine sees them, ascending; free(*out). */
MUST_CHECK int pod_pids(const struct pod *pod, pid_t **out, size_t *count, struct err *e);

/* io_uring_setup, _enter and _register, and io_setup (AIO), answer ENOSYS in this thread and in all that it starts: POD_IO_URING_FILTER_LENGTH classic BPF instructions, always the same
 * (pod/seccomp.c), so that they can be recognised. Sets no_new_privs only without CAP_SYS_ADMIN. Call before capabilities are dropped, in each restored task too. */
extern const struct sock_filter pod_io_uring_filter[];
extern const size_t pod_io_uring_filter_length;
MUST_CHECK int pod_seccomp_io_uring(struct err *e);

/* ---- asking the keeper (pod/client.c) */
/* Let the keeper run `native VERB ARGS… --direct` on the pod; lines of our stdin go to it, its lines come to our stdout, as they are. The end of our stdin closes its
 * stdin. Returns the act's exit status; -1 if the keeper could not be asked (E_NO_INPUT no pod, E_CONFLICT ended, E_BUSY another act runs or no keeper: `native adopt`).
 * args: without argv[0], with every option that --direct needs (--pod too). */
MUST_CHECK int keeper_act(const char *dir, const char *verb, int argc, char **argv, struct err *e);
/* One line there, one line back ("ok ..." or an error as it was there): freeze, thaw, kill, lease, stat. `reply` gets what follows "ok". */
MUST_CHECK int keeper_ask(const char *dir, struct buf *reply, struct err *e, const char *format, ...) PRINTF(4, 5);
/* True while a keeper holds POD/keeper.lock. */
bool keeper_alive(int dirfd);

/* ---- kernel/netlock.c: the pod's network as one thing. Idempotent; both sides (hub port and inside, loopback too) by nftables over
 * netlink, no program run. Journalled by the caller. */
MUST_CHECK int netlock_set(const struct pod *pod, struct err *e);
MUST_CHECK int netlock_clear(const struct pod *pod, struct err *e);
void netlock_rest(void); /* after netlock_clear, when nobody waits any more: the rest of the work (some milliseconds) */
void netlock_rest_aside(void); /* the same in a thread of its own */
MUST_CHECK int netlock_forget(const struct pod *pod, struct err *e); /* of a pod that is dead: what is left at the hub */

/* ---- journal: what is about to be done to the victims, one line each, fsync not needed (it matters while the machine lives; page cache survives a killed engine).
 * `journal_replay_undo` is called by the keeper when the engine died, and by whoever adopts a pod with a journal left. */
MUST_CHECK int journal_begin(const struct pod *pod, const char *act, struct err *e);
MUST_CHECK int journal_note(const char *format, ...) PRINTF(1, 2); /* between begin and end */
MUST_CHECK int journal_end(const struct pod *pod, struct err *e);           /* all undone or done: the journal is removed */
MUST_CHECK int journal_replay_undo(const struct pod *pod, struct err *e);   /* snapshot/undo.c registers what each line means */
