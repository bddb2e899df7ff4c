/* What every victim does: prints `ready`, works and checks itself until SIGUSR1, then verifies and prints OK. */
#pragma once
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

static volatile sig_atomic_t asked;
static void victim_ask(int number)
{
    (void)number;
    asked = 1;
}
static _Noreturn __attribute__((unused)) void fail(const char *what)
{
    printf("FAIL %s (pid %d)\n", what, getpid());
    fflush(stdout);
    _exit(1);
}
#define MUST(x) ((x) ? (void)0 : fail(#x))
static __attribute__((unused)) void victim_listen(void)
{
    struct sigaction a = {.sa_handler = victim_ask}; /* no SA_RESTART: waiting calls end */
    sigaction(SIGUSR1, &a, NULL);
}
static __attribute__((unused)) void victim_ready(void)
{
    victim_listen();
    puts("ready");
    fflush(stdout);
}
static __attribute__((unused)) void victim_wait(void)
{
    victim_ready();
    while (!asked)
        usleep(1000);
}
static __attribute__((unused)) int victim_ok(void)
{
    puts("OK");
    fflush(stdout);
    return 0;
}
static __attribute__((unused)) int victim_main(void (*before)(void), void (*after)(void))
{
    before();
    victim_wait();
    after();
    return victim_ok();
}
