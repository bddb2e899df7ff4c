/* The verbs: each is one file of this folder; argv[0] is the verb's name; the exit status comes back. */
#pragma once
#define VERB(symbol, name, help) int verb_##symbol(int argc, char **argv);
#include "verbs.def"
#undef VERB
