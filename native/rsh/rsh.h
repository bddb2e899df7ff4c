/* clusteros-rsh: remote execution inside a job. One program, both ends; ordinary processes of the job, checkpointed with it. */
#pragma once
#include "../base/base.h"

/* Listen, and run COMMAND beside it if there is one; returns its exit status. */
int serve(char **command);
/* One connection, in a process of its own; does not return. */
_Noreturn void session(int connection);
/* Run a command line on a host of the job; returns its exit status, 255 if the connection failed. */
int client(const char *host, const char *line, bool no_input);
