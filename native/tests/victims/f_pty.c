/* Two pseudo terminals as a launcher has them: a child writes numbered lines to one, the parent reads them at the other end; settings, sizes,
 * numbers and the gap between them stay.
 * COVERAGE: pty: both ends, settings, size, data under way | captured | */
#include <fcntl.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <termios.h>

#include "victim.h"

static int terminal_open(int *slave)
{
    int master = posix_openpt(O_RDWR | O_NOCTTY);
    MUST(master >= 0 && grantpt(master) == 0 && unlockpt(master) == 0);
    MUST((*slave = open(ptsname(master), O_RDWR | O_NOCTTY)) >= 0);
    return master;
}

static void settings_check(int slave)
{
    struct termios t;
    struct winsize w;
    MUST(tcgetattr(slave, &t) == 0 && !(t.c_oflag & OPOST) && t.c_cc[VINTR] == 7);
    MUST(ioctl(slave, TIOCGWINSZ, &w) == 0 && w.ws_row == 33 && w.ws_col == 111);
}

int main(void)
{
    int slave, unused, idle, gap = terminal_open(&unused), master, other = terminal_open(&idle);
    MUST((master = terminal_open(&slave)) >= 0);
    close(gap), close(unused);
    struct termios t;
    struct winsize w = {.ws_row = 33, .ws_col = 111};
    MUST(tcgetattr(slave, &t) == 0);
    t.c_oflag &= ~(tcflag_t)OPOST;
    t.c_cc[VINTR] = 7;
    MUST(tcsetattr(slave, TCSANOW, &t) == 0 && ioctl(slave, TIOCSWINSZ, &w) == 0);
    pid_t child = fork();
    if (child == 0) {
        close(master), close(other);
        for (unsigned k = 0;; k++) {
            MUST(dprintf(slave, "%08u\n", k) == 9);
            usleep(1000);
        }
    }
    MUST(fcntl(master, F_SETFL, O_NONBLOCK) == 0);
    char line[16], name[64];
    unsigned expected = 0;
    size_t have = 0;
    victim_ready();
    while (!asked) {
        ssize_t n = read(master, line + have, 9 - have);
        if (n <= 0) {
            usleep(200);
            continue;
        }
        if ((have += (size_t)n) < 9)
            continue;
        MUST(strtoul(line, NULL, 10) == expected++);
        have = 0;
    }
    settings_check(slave);
    MUST(ptsname_r(other, name, sizeof name) == 0 && strcmp(name, "/dev/pts/1") == 0 && strcmp(ttyname(slave), "/dev/pts/2") == 0);
    MUST(write(idle, "x", 1) == 1 && read(other, line, 1) == 1 && line[0] == 'x');
    kill(child, SIGKILL);
    return victim_ok();
}
