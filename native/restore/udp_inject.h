/* Datagrams that waited in a UDP socket, put back with their senders' addresses: raw packets over the pod's loopback, which keeps
 * the route that it left with, so that no source is called a martian. */
#pragma once
#include "files_load.h"

/* The error that a connected socket had: told as it once was, by ICMP. */
MUST_CHECK int udp_refuse(int fd, const struct udp_socket *u, struct err *e);
MUST_CHECK int udp_inject(int fd, const struct udp_socket *u, struct err *e);
