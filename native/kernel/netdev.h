/* The pod's network device: a veth pair between the hub (a network namespace with a bridge) and the pod. */
#pragma once
#include "../pod/pod.h"

/* Check a --net SPEC and take it apart. NULL or "": no device. */
MUST_CHECK int netdev_parse(const char *spec, struct pod_net *out, struct err *e);
/* Make the pair, both ends down: `host_ifname` on the hub's bridge, net->ifname in the pod's namespace. */
MUST_CHECK int netdev_create(const struct pod_net *net, int pod_nsfd, const char *host_ifname, struct err *e);
/* Address, MTU, up and default route, both ends; lo up. Without a device: lo alone. */
MUST_CHECK int netdev_configure(const struct pod_net *net, int pod_nsfd, const char *host_ifname, struct err *e);
/* Take the pair away; none there is fine. */
MUST_CHECK int netdev_remove(const struct pod_net *net, const char *host_ifname, struct err *e);
