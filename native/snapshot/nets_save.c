/* See nets_save.h. All in a child, which enters the namespace and reads it; then the user namespace, where it makes a new one with the rights of the job. */
#include "nets_save.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../kernel/nettables.h"

#define TOLD_MAX (64ul << 20)

/* What was made anew once and was the same then. */
static struct buf *proven;
static size_t proven_count;

static bool is_proven(const struct buf *image)
{
    for (size_t k = 0; k < proven_count; k++)
        if (proven[k].len == image->len && memcmp(proven[k].data, image->data, image->len) == 0)
            return true;
    return false;
}

/* ---- in the child */
static void image_fill(const struct net_conf *c, struct other_space *out)
{
    for (size_t k = 0; k < c->count; k++) {
        struct net_message *m = LIST_ADD(out, messages);
        *m = (struct net_message){.protocol = c->items[k].message.protocol, .type = c->items[k].message.type};
        bytes_set(&m->body, c->items[k].message.body.data, c->items[k].message.body.len);
    }
}

/* Everything that is compared, too: what may not be in the image must not have changed since it was tried. */
static void proof_fill(const struct net_conf *c, struct buf *out)
{
    for (size_t k = 0; k < c->count; k++) {
        const struct net_item *i = &c->items[k];
        buf_add(out, &i->compared.len, sizeof i->compared.len);
        buf_add(out, i->compared.data, i->compared.len);
    }
    buf_add(out, c->counts.data, c->counts.len);
}

static int try_out(const struct net_conf *c, const struct other_space *image, int owner, struct err *e)
{
    struct net_conf again = {0};
    char words[128] = "";
    if (setns(owner, CLONE_NEWUSER) < 0 || unshare(CLONE_NEWNET) < 0)
        return err_set(e, E_UNSUPPORTED, "no network namespace can be made to compare it with");
    if (netconf_apply(image->messages, image->messages_count, e) < 0 || nettables_apply(image->messages, image->messages_count, e) < 0 || netconf_read(&again, e) < 0)
        return err_set(e, E_UNSUPPORTED, "it cannot be made anew: %s", xstrdup(e->message));
    return netconf_same(c, &again, words) ? 0 : err_set(e, E_UNSUPPORTED, "%s in it that cannot be made anew", words);
}

struct told {
    struct err error;
    size_t image_bytes, proof_bytes;
};

static int child_look(int space, int owner, struct buf *image, struct buf *proof, struct err *e)
{
    struct net_conf c;
    struct other_space out = {.kind = CLONE_NEWNET, .hostname = xstrdup(""), .domain = xstrdup("")};
    if (setns(space, CLONE_NEWNET) < 0)
        return err_set(e, E_UNSUPPORTED, "it cannot be entered");
    if (netconf_read(&c, e) < 0)
        return -1;
    image_fill(&c, &out);
    other_space_encode(image, &out);
    proof_fill(&c, proof);
    return is_proven(proof) ? 0 : try_out(&c, &out, owner, e);
}

static _Noreturn void child_main(int space, int owner, int to)
{
    struct told told = {0};
    struct err ignored;
    struct buf image = {0}, proof = {0};
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    (void)child_look(space, owner, &image, &proof, &told.error);
    told.image_bytes = image.len;
    told.proof_bytes = proof.len;
    _exit(io_write_all(to, &told, sizeof told, &ignored) < 0 || io_write_all(to, image.data, image.len, &ignored) < 0 ||
          io_write_all(to, proof.data, proof.len, &ignored) < 0);
}

/* ---- in the engine */
static int text_read(int from, size_t len, struct buf *out, struct err *e)
{
    if (len > TOLD_MAX)
        return err_set(e, E_UNSUPPORTED, "too much is in it");
    AUTO_FREE uint8_t *data = xcalloc(1, len + 1);
    if (io_read_all(from, data, len, e) < 0)
        return -1;
    buf_add(out, data, len);
    return 0;
}

static int told_take(int from, struct other_space *out, struct err *e)
{
    struct told told;
    AUTO_BUF struct buf image = {0}, proof = {0};
    if (io_read_all(from, &told, sizeof told, e) < 0 || text_read(from, told.image_bytes, &image, e) < 0 || text_read(from, told.proof_bytes, &proof, e) < 0)
        return err_wrap(e, "the helper that looks at it died");
    if (told.error.code != E_OK) {
        *e = told.error;
        return -1;
    }
    struct cursor at = {image.data, image.data + image.len};
    struct other_space read = {0};
    if (other_space_decode(&at, &read, e) < 0)
        return -1;
    out->messages = read.messages;
    out->messages_count = read.messages_count;
    read.messages = NULL;
    read.messages_count = 0;
    other_space_free(&read);
    if (!is_proven(&proof)) {
        struct buf *kept = list_add((void **)&proven, &proven_count, sizeof *kept);
        *kept = (struct buf){0};
        buf_add(kept, proof.data, proof.len);
    }
    return 0;
}

int nets_read(int space, int owner, struct other_space *out, struct err *e)
{
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) < 0)
        return err_errno(e, "pipe");
    pid_t child = fork();
    if (child == 0)
        child_main(space, owner, ends[1]);
    close(ends[1]);
    AUTO_CLOSE int from = ends[0];
    if (child < 0)
        return err_errno(e, "fork");
    int result = told_take(from, out, e);
    while (waitpid(child, NULL, 0) < 0 && errno == EINTR)
        continue;
    return result;
}
