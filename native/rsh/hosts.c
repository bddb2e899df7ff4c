/* See hosts.h. /etc/hosts is read here and not through the resolver: no library of the host's comes into the program. */
#include "hosts.h"

#include <arpa/inet.h>
#include <ifaddrs.h>
#include <string.h>
#include <strings.h>

static in_addr_t address_of(const struct sockaddr *a)
{
    struct sockaddr_in in;
    memcpy(&in, a, sizeof in);
    return in.sin_addr.s_addr;
}

bool address_is_ours(struct in_addr address)
{
    struct ifaddrs *list;
    bool ours = false;
    if (getifaddrs(&list) < 0)
        return false;
    for (struct ifaddrs *i = list; i && !ours; i = i->ifa_next) {
        if (!i->ifa_addr || !i->ifa_netmask || i->ifa_addr->sa_family != AF_INET)
            continue;
        in_addr_t mask = address_of(i->ifa_netmask);
        ours = mask && (address.s_addr & mask) == (address_of(i->ifa_addr) & mask);
    }
    freeifaddrs(list);
    return ours;
}

static bool line_names(char *line, const char *name, struct in_addr *out)
{
    line[strcspn(line, "#\n")] = 0;
    char *save = NULL, *address = strtok_r(line, " \t", &save);
    if (!address || inet_pton(AF_INET, address, out) != 1)
        return false;
    for (char *word; (word = strtok_r(NULL, " \t", &save));)
        if (strcasecmp(word, name) == 0)
            return true;
    return false;
}

bool host_find(const char *name, struct in_addr *out)
{
    char line[4096];
    if (inet_pton(AF_INET, name, out) == 1)
        return true;
    AUTO_FILE FILE *hosts = fopen("/etc/hosts", "re");
    while (hosts && fgets(line, sizeof line, hosts))
        if (line_names(line, name, out))
            return true;
    return false;
}
