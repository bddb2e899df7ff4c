/* A controlling terminal with job control: a session of its own, /dev/tty open, a job in the foreground, one that was stopped because it read
 * from the background, one that gave the terminal up. Then an interrupt is typed, the stopped job comes to the foreground and reads a line. */
/* COVERAGE: controlling terminal, its session, foreground group and settings | captured | pseudo terminals of the pod
 * COVERAGE: open /dev/tty | captured |
 * COVERAGE: jobs stopped by job control | captured | they stay stopped; a parent hears of the stop once more
 * COVERAGE: line being typed in canonical mode | differs | what was typed and not ended by a newline is gone */
#include <errno.h>
#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <termios.h>

#include "victim.h"

#define INTERRUPT 7

static int slave, tty;

static void tell(int fd, char what)
{
    MUST(write(fd, &what, 1) == 1);
}
static char hear(int fd)
{
    char what;
    ssize_t n;
    while ((n = read(fd, &what, 1)) < 0 && errno == EINTR)
        continue;
    return n == 1 ? what : 0;
}
static _Noreturn void foreground_job(void)
{
    signal(SIGINT, SIG_DFL);
    for (;;)
        pause();
}
static _Noreturn void background_job(void)
{
    char line[16];
    signal(SIGTTIN, SIG_DFL);
    _exit(read(slave, line, sizeof line) == 6 && memcmp(line, "hello\n", 6) == 0 ? 6 : 1); /* stops here first */
}
static _Noreturn void without_terminal(int channel)
{
    MUST(ioctl(tty, TIOCNOTTY) == 0 && open("/dev/tty", O_RDWR) < 0 && errno == ENXIO);
    tell(channel, 'd');
    MUST(hear(channel) == 'v');
    _exit(open("/dev/tty", O_RDWR) < 0 && errno == ENXIO ? 8 : 1);
}
static pid_t job(void (*body)(void))
{
    pid_t pid = fork();
    if (pid == 0) {
        setpgid(0, 0);
        body();
    }
    setpgid(pid, pid);
    return pid;
}
static void terminal_check(pid_t group)
{
    unsigned a = 0, b = 0;
    struct termios t;
    MUST(tcgetsid(slave) == getpid() && tcgetpgrp(slave) == group && tcgetpgrp(tty) == group && strcmp(ttyname(tty), "/dev/tty") == 0);
    int again = open("/dev/tty", O_RDWR);
    MUST(again >= 0 && ioctl(again, TIOCGDEV, &a) == 0 && ioctl(slave, TIOCGDEV, &b) == 0 && a == b && close(again) == 0);
    MUST(tcgetattr(slave, &t) == 0 && t.c_cc[VINTR] == INTERRUPT && !(t.c_lflag & ECHO));
}
static void leader(int channel, const char *name)
{
    int status, ends[2];
    struct termios t;
    MUST(setsid() == getpid() && (slave = open(name, O_RDWR)) >= 0 && (tty = open("/dev/tty", O_RDWR | O_CLOEXEC)) >= 0);
    MUST(tcgetattr(slave, &t) == 0);
    t.c_cc[VINTR] = INTERRUPT;
    t.c_lflag &= ~(tcflag_t)ECHO;
    MUST(tcsetattr(slave, TCSANOW, &t) == 0 && signal(SIGTTOU, SIG_IGN) != SIG_ERR && socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0);
    pid_t fore = job(foreground_job), without = fork();
    if (without == 0)
        without_terminal(ends[1]);
    MUST(hear(ends[0]) == 'd' && tcsetpgrp(slave, fore) == 0);
    pid_t back = job(background_job);
    MUST(waitpid(back, &status, WUNTRACED) == back && WIFSTOPPED(status) && WSTOPSIG(status) == SIGTTIN);
    terminal_check(fore);
    tell(channel, 'r');
    MUST(hear(channel) == 'v');
    terminal_check(fore);
    tell(ends[0], 'v');
    MUST(waitpid(without, &status, 0) == without && WEXITSTATUS(status) == 8);
    tell(channel, 'i');
    MUST(waitpid(fore, &status, 0) == fore && WIFSIGNALED(status) && WTERMSIG(status) == SIGINT);
    MUST(waitpid(back, &status, WNOHANG) == 0 && tcsetpgrp(slave, back) == 0 && kill(-back, SIGCONT) == 0);
    tell(channel, 'l');
    MUST(waitpid(back, &status, 0) == back && WIFEXITED(status) && WEXITSTATUS(status) == 6);
    _exit(3);
}

int main(void)
{
    int ends[2], status, master = posix_openpt(O_RDWR | O_NOCTTY);
    MUST(master >= 0 && grantpt(master) == 0 && unlockpt(master) == 0 && socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0);
    pid_t pid = fork();
    if (pid == 0)
        leader(ends[1], ptsname(master));
    MUST(hear(ends[0]) == 'r');
    victim_ready();
    while (!asked)
        pause();
    tell(ends[0], 'v');
    MUST(hear(ends[0]) == 'i' && write(master, &(char){INTERRUPT}, 1) == 1);
    MUST(hear(ends[0]) == 'l' && write(master, "hello\n", 6) == 6);
    MUST(waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == 3);
    return victim_ok();
}
