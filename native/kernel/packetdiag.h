/* What no option tells of a packet socket: its memberships (also for whole devices), whether it has rings of its own, and whom it shares packets with. */
#pragma once
#include <linux/if_packet.h>

#include "../base/base.h"

struct packet_facts {
    bool found, has_ring, has_fanout;
    bool has_wide;               /* a membership of an address that no request holds */
    struct packet_mreq *memberships; /* each as often as it was asked for */
    size_t memberships_count;
};
/* Of the network namespace of that process, by its inode. free(memberships). */
MUST_CHECK int packet_look(pid_t pid, uint64_t ino, struct packet_facts *out, struct err *e);
