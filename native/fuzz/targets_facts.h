/* More readers of small texts: what user namespaces name (the job writes that), clocks, processor and memory of the machine, who traces whom; and the
 * frames of clusteros-rsh and the answers of netlink. See targets_proc.h for how they get the input. */
#pragma once
#include <sys/socket.h>

#include "kernel/hugepool.h"
#include "kernel/namespaces.h"
#include "kernel/netlink.h"
#include "kernel/trace.h"
#include "restore/load.h"
#include "rsh/frame.h"
#include "snapshot/copy_first.h"

/* ---- clusteros-rsh: whoever connects; frames come in pieces */
static inline void fuzz_frame(const uint8_t *data, size_t len)
{
    AUTO_BUF struct buf b = {0};
    enum frame_type type;
    const uint8_t *content;
    size_t content_len;
    for (size_t at = 0; at < len;) {
        size_t piece = len - at < 1 + (size_t)data[at] % 64 ? len - at : 1 + (size_t)data[at] % 64;
        buf_add(&b, data + at, piece);
        at += piece;
        int whole;
        while ((whole = frame_peek(&b, &type, &content, &content_len)) > 0) {
            CHECK(content >= b.data && content_len <= b.len - FRAME_HEAD_BYTES && content + content_len <= b.data + b.len);
            buf_drop(&b, FRAME_HEAD_BYTES + content_len);
        }
        if (whole < 0)
            return;
    }
}

/* ---- user namespaces: their maps are what somebody in the job has written */
static inline void fuzz_idmap(const uint8_t *data, size_t len)
{
    struct err e = {0};
    uint64_t has, id = 0;
    fuzz_begin(data, len);
    (void)ids_are_mapped(1000, 1000);
    (void)groups_are_settable(getpid());
    fuzz_text = NULL;
    AUTO_FREE char *text = strndup((const char *)data, len);
    if (user_map_take(text, 1000, &has, &id, &e) < 0)
        CHECK(e.code == E_UNSUPPORTED && e.message[0]);
    else
        CHECK(has || id == 0);
}

/* ---- this machine and the pod's clocks */
static inline void fuzz_facts(const uint8_t *data, size_t len)
{
    struct pod pod = {.init_pid = getpid(), .dirfd = -1};
    struct snapshot s = {.pod = &pod};
    struct err e = {0};
    fuzz_begin(data, len);
    int result = facts_save(&s, &e);
    if (result == 0 && image_host_check(&s.image, &e) < 0)
        CHECK(e.code == E_UNSUPPORTED && e.message[0]);
    (void)memory_available_bytes();
    struct hugepool pool;
    (void)hugepool_read(2ul << 20, &pool);
    fuzz_done(result, &e);
    image_free(&s.image);
}

/* ---- a process, by the short ways */
static inline void fuzz_inside(const uint8_t *data, size_t len)
{
    struct err e = {0};
    struct pod pod = {.init_pid = getpid(), .dirfd = -1};
    char boot[40];
    fuzz_begin(data, len);
    (void)inside_pid(getpid());
    (void)process_start(getpid());
    (void)trace_is_own(getpid());
    (void)pod_init_alive(&pod);
    machine_boot_id(boot);
    CHECK(strnlen(boot, sizeof boot) < sizeof boot);
    CHECK(trace_seize(getpid(), 0, &e) != 0); /* nobody traces itself: it asks who does */
    fuzz_text = NULL;
}

/* ---- what the kernel answers to a batch of netlink messages */
static inline void fuzz_netlink(const uint8_t *data, size_t len)
{
    static int ends[2];
    AUTO_BUF struct buf message = {0};
    struct err e = {0};
    int number;
    char sink[16];
    CHECK(ends[0] || socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends) == 0);
    buf_add(&message, "x", 1);
    fuzz_begin(data, len);
    fuzz_ends = 1;
    int result = netlink_send(ends[0], &message, &number, &e);
    fuzz_ends = 0;
    fuzz_done(result, &e);
    CHECK(read(ends[1], sink, sizeof sink) == 1 && (result < 0) == (number != 0));
}
