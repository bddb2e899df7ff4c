/* Terminals of a devpts that the job has mounted in a namespace of its own, as a sandbox has them, beside one of the pod with the same number: a child leads
 * a session on one, opens /dev/tty and answers lines; numbers, the gap between them, owners, settings and sizes stay, and two instances count each for itself.
 * COVERAGE: terminals of a devpts that the job mounted | captured | an open /dev/tty only where no other terminal has its number */
#include <fcntl.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <termios.h>

#include "spaces.h"

struct terminal {
    int master, slave;
    unsigned number;
};

static struct terminal terminal_of(const char *place)
{
    char path[64];
    struct terminal t;
    int unlocked = 0;
    snprintf(path, sizeof path, "%s/ptmx", place);
    MUST((t.master = open(path, O_RDWR | O_NOCTTY)) >= 0 && ioctl(t.master, TIOCGPTN, &t.number) == 0 && ioctl(t.master, TIOCSPTLCK, &unlocked) == 0);
    snprintf(path, sizeof path, "%s/%u", place, t.number);
    MUST((t.slave = open(path, O_RDWR | O_NOCTTY)) >= 0);
    return t;
}

/* It repeats what it is told, over /dev/tty. */
static void child_work(const struct terminal *t)
{
    char line[32];
    MUST(setsid() == getpid() && ioctl(t->slave, TIOCSCTTY, 0) == 0);
    int tty = open("/dev/tty", O_RDWR);
    MUST(tty >= 0);
    close(t->master);
    for (ssize_t n; (n = read(t->slave, line, sizeof line)) > 0;) {
        MUST(tcgetsid(tty) == getpid() && tcgetpgrp(t->slave) == getpid());
        MUST(write(tty, line, (size_t)n) == n);
    }
    _exit(3);
}

static void answer_check(const struct terminal *t, unsigned number)
{
    char line[32] = {0}, wanted[32];
    size_t have = 0;
    int len = snprintf(wanted, sizeof wanted, "%u\n", number);
    MUST(write(t->master, wanted, (size_t)len) == len);
    while (have < (size_t)len) {
        ssize_t n = read(t->master, line + have, (size_t)len - have);
        if (n > 0)
            have += (size_t)n;
    }
    MUST(strcmp(line, wanted) == 0);
}

static void passes(const struct terminal *t, char byte)
{
    char got = 0;
    MUST(write(t->slave, &byte, 1) == 1 && read(t->master, &got, 1) == 1 && got == byte);
}

static void number_check(const struct terminal *t, unsigned number, const char *node)
{
    struct stat open_one, named;
    unsigned now = ~0u;
    MUST(ioctl(t->master, TIOCGPTN, &now) == 0 && now == number && fstat(t->slave, &open_one) == 0 && stat(node, &named) == 0);
    MUST(open_one.st_dev == named.st_dev && open_one.st_ino == named.st_ino && named.st_uid == getuid());
}

int main(void)
{
    struct termios settings;
    struct winsize size = {.ws_row = 21, .ws_col = 77};
    int status;
    MUST(signal(SIGHUP, SIG_IGN) != SIG_ERR);
    struct terminal pods = terminal_of("/dev/pts");
    MUST(pods.number == 0);
    become(CLONE_NEWUSER | CLONE_NEWNS, 0, 0);
    MUST(mkdir("/tmp/pts", 0755) == 0 && mkdir("/tmp/more", 0755) == 0);
    MUST(mount("devpts", "/tmp/pts", "devpts", 0, "newinstance,ptmxmode=0666,mode=620") == 0 && mount("devpts", "/tmp/more", "devpts", 0, "newinstance,ptmxmode=0666") == 0);
    struct terminal first = terminal_of("/tmp/pts"), gap = terminal_of("/tmp/pts"), other = terminal_of("/tmp/more"), led = terminal_of("/tmp/pts");
    MUST(first.number == 0 && other.number == 0 && led.number == 2 && close(gap.master) == 0 && close(gap.slave) == 0);
    MUST(tcgetattr(led.slave, &settings) == 0);
    settings.c_oflag &= ~(tcflag_t)OPOST;
    settings.c_lflag &= ~(tcflag_t)ECHO;
    settings.c_cc[VINTR] = 9;
    MUST(tcsetattr(led.slave, TCSANOW, &settings) == 0 && ioctl(other.master, TIOCSWINSZ, &size) == 0 && fchmod(first.slave, 0640) == 0);
    pid_t child = fork();
    if (child == 0)
        child_work(&led);
    unsigned lines = 0;
    answer_check(&led, lines++);
    victim_ready();
    while (!asked) {
        answer_check(&led, lines++);
        usleep(2000);
    }
    answer_check(&led, lines);
    passes(&first, 'f'), passes(&other, 'o'), passes(&pods, 'p');
    number_check(&first, 0, "/tmp/pts/0"), number_check(&other, 0, "/tmp/more/0"), number_check(&led, 2, "/tmp/pts/2"), number_check(&pods, 0, "/dev/pts/0");
    struct winsize now;
    struct stat st;
    MUST(ioctl(other.slave, TIOCGWINSZ, &now) == 0 && now.ws_row == 21 && now.ws_col == 77 && ioctl(first.slave, TIOCGWINSZ, &now) == 0 && now.ws_row == 0);
    MUST(tcgetattr(led.master, &settings) == 0 && settings.c_cc[VINTR] == 9 && stat("/tmp/pts/0", &st) == 0 && (st.st_mode & 0777) == 0640 && stat("/tmp/pts/1", &st) < 0);
    MUST(close(led.master) == 0 && waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 3);
    return victim_ok();
}
