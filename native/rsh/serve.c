/* The server: accepts from the job's own network only, one process per connection. With COMMAND it is COMMAND's parent: signals go
 * to it, and its end is ours. */
#include "rsh.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "frame.h"
#include "hosts.h"

static const int forwarded[] = {SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGALRM, SIGWINCH, SIGCONT};
static volatile sig_atomic_t arrived[NSIG];

static void on_signal(int number)
{
    arrived[number] = 1;
}

/* Signals are delivered in ppoll alone, so that none is missed between a look and the sleep. */
static void signals_prepare(bool forward)
{
    struct sigaction action = {.sa_handler = on_signal};
    sigset_t all;
    sigemptyset(&all);
    sigaddset(&all, SIGCHLD);
    sigaction(SIGCHLD, &action, NULL);
    for (size_t k = 0; k < ARRAY_LENGTH(forwarded) && forward; k++) {
        sigaddset(&all, forwarded[k]);
        sigaction(forwarded[k], &action, NULL);
    }
    sigprocmask(SIG_BLOCK, &all, NULL);
}

static void signals_default(void)
{
    sigset_t none;
    for (int number = 1; number < NSIG; number++)
        signal(number, SIG_DFL);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
}

static int listen_open(void)
{
    int one = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    struct sockaddr_in here = {.sin_family = AF_INET, .sin_port = htons(RSH_PORT), .sin_addr.s_addr = htonl(INADDR_ANY)};
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one) < 0 || bind(fd, (struct sockaddr *)&here, sizeof here) < 0 || listen(fd, 128) < 0) {
        fprintf(stderr, "clusteros-rsh: cannot listen on port %d: %s\n", RSH_PORT, strerror(errno));
        exit(E_OS);
    }
    return fd;
}

static void connection_accept(int listener)
{
    struct sockaddr_in who;
    socklen_t len = sizeof who;
    int one = 1, fd = accept4(listener, (struct sockaddr *)&who, &len, SOCK_CLOEXEC);
    if (fd < 0)
        return;
    if (address_is_ours(who.sin_addr)) {
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        pid_t pid = fork();
        if (pid == 0) {
            close(listener);
            signals_default();
            session(fd);
        }
    }
    close(fd);
}

static pid_t command_start(char **command)
{
    pid_t pid = fork();
    if (pid != 0)
        return pid;
    signals_default();
    execvp(command[0], command);
    fprintf(stderr, "clusteros-rsh: cannot start %s: %s\n", command[0], strerror(errno));
    _exit(errno == ENOENT ? 127 : 126);
}

static void signals_pass(pid_t command)
{
    for (size_t k = 0; k < ARRAY_LENGTH(forwarded) && command > 0; k++) {
        if (!arrived[forwarded[k]])
            continue;
        arrived[forwarded[k]] = 0;
        kill(command, forwarded[k]);
    }
}

/* End as COMMAND did: the same signal if it was one. */
static int end_like(int status)
{
    static const struct rlimit no_core;
    if (!WIFSIGNALED(status))
        return WEXITSTATUS(status);
    setrlimit(RLIMIT_CORE, &no_core);
    signals_default();
    raise(WTERMSIG(status));
    return 128 + WTERMSIG(status);
}

int serve(char **command)
{
    int listener = listen_open(), status;
    signals_prepare(command != NULL);
    pid_t child = command ? command_start(command) : 0;
    sigset_t open;
    sigemptyset(&open);
    for (;;) {
        struct pollfd watched = {.fd = listener, .events = POLLIN};
        int n = ppoll(&watched, 1, NULL, &open);
        if (n < 0 && errno != EINTR)
            return E_OS;
        signals_pass(child);
        for (pid_t pid; (pid = waitpid(-1, &status, WNOHANG)) > 0;)
            if (pid == child)
                return end_like(status);
        if (n > 0)
            connection_accept(listener);
    }
}
