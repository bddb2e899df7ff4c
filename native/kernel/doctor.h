/* What this kernel and these privileges allow: probes that really do the thing, each in a child of its own. */
#pragma once
#include "../base/base.h"

enum doctor_weight { DOCTOR_NEEDED, DOCTOR_WANTED };
struct doctor_probe {
    const char *name, *words;     /* what it is for, in plain words */
    const char *without;          /* what does not work when it fails */
    enum doctor_weight weight;
    int (*probe)(struct err *e);
};
extern const struct doctor_probe doctor_probes[], doctor_net_probes[], doctor_rights_probes[];
extern const size_t doctor_probe_count, doctor_net_probe_count, doctor_rights_probe_count;

/* Run a probe in a child; 0, or -1 with its reason. */
MUST_CHECK int doctor_try(const struct doctor_probe *probe, struct err *e);
