/* The keeper: one daemon per pod, outside of it. It answers on POD/keeper.sock, runs the engine's acts, holds the lease, ends
 * and clears away the pod. It remembers nothing that does not stand in POD, so that `native adopt` can start a new one at any time.
 * Requests are one line (arguments %XX-escaped, separated by blanks), answers "ok …" or "error CODE message"; while an act runs
 * the connection carries the act's lines in both directions, and at the end a line "exit N". */
#pragma once
#include "pod.h"

/* Hold POD/keeper.lock for the life of this process (a lock of fcntl, so that no child has it). E_BUSY: another one holds it. */
MUST_CHECK int keeper_lock(int dirfd, struct err *e);
/* Become the pod's keeper: execute this program as `adopt --pod DIR --keeper`. */
_Noreturn void keeper_exec(const char *dir);
/* The keeper's whole life; returns the exit status. */
int keeper_main(const char *dir);
/* Start a new keeper for a pod whose keeper is dead, and wait until it answers. */
MUST_CHECK int keeper_adopt(const char *dir, struct err *e);

/* Wait until the keeper answers, or the pod is over. */
MUST_CHECK int keeper_await(const char *dir, struct err *e);

void word_escape(struct buf *b, const char *word);
/* In place; returns the number of words, at most `max`. */
size_t words_split(char *line, char **words, size_t max);
