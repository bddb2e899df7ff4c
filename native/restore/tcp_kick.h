/* Sets restored connections going as soon as the network is open again. A sender waits for acknowledgements that were lost with the
 * cut, and its timers start at a second: one probe makes the other side say what it has. The probes are packets of
 * our own, byte for byte what a keepalive probe is (one old byte), for the sockets belong to the running job by then. */
#pragma once
#include "files_load.h"

/* Starts a thread of podinit that tries until packets pass, repeats a few times within a second (the other pods open up at about
 * the same time), and ends. Without it everything comes the same, only later. */
void tcp_kick_start(const struct restore *r);
