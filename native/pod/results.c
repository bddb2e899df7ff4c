/* See keeper_parts.h. */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "keeper_parts.h"
#include "spare.h"

int result_keep(int dirfd, const char *id, const char *verb, const char *args_json, int exit_status, const char *line, struct err *e)
{
    AUTO_BUF struct buf b = {0};
    AUTO_FREE char *name = xasprintf("results/%s", id);
    AUTO_FREE char *quoted = json_quote(id);
    buf_addf(&b, "{\"id\":%s,\"verb\":\"%s\",\"args\":[%s],\"exit\":%d,\"ended_at_ms\":%lu,\"result\":%s}\n", quoted, verb, args_json, exit_status,
             clock_ns(CLOCK_REALTIME) / 1000000, line);
    if (spare_replace(dirfd, name, "result.spare", b.data, b.len, e) < 0)
        return err_wrap(e, "keep the result of %s", id);
    return 0;
}
