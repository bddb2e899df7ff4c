/* MPI that is used for the first time after a restore: every rank says that it is ready and waits for the file argv[1] without having spoken to most others;
 * then all connect to all, windows are opened (shared and remote), a group of processes is spawned. The result is the same in every run. */
#include <mpi.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static void must(int good, const char *what)
{
    if (!good) {
        printf("FAIL %s\n", what);
        fflush(stdout);
        MPI_Abort(MPI_COMM_WORLD, 3);
    }
}
static void everybody_with_everybody(int rank, int size)
{
    enum { WORDS = 50000 };
    uint64_t *out = malloc(8 * WORDS * (size_t)size), *in = malloc(8 * WORDS * (size_t)size);
    for (size_t k = 0; k < WORDS * (size_t)size; k++)
        out[k] = (uint64_t)rank * 1000003 + k;
    MPI_Alltoall(out, WORDS, MPI_UINT64_T, in, WORDS, MPI_UINT64_T, MPI_COMM_WORLD);
    for (int from = 0; from < size; from++)
        must(in[(size_t)from * WORDS + 17] == (uint64_t)from * 1000003 + (size_t)rank * WORDS + 17, "alltoall");
    free(out);
    free(in);
}
static void windows(int rank, int size)
{
    int *base = calloc((size_t)size, sizeof *base), right = 0;
    MPI_Win window;
    MPI_Win_create(base, (MPI_Aint)(sizeof *base * (size_t)size), sizeof *base, MPI_INFO_NULL, MPI_COMM_WORLD, &window);
    for (int to = 0; to < size; to++) {
        int word = rank + 1;
        MPI_Win_lock(MPI_LOCK_SHARED, to, 0, window);
        MPI_Put(&word, 1, MPI_INT, to, rank, 1, MPI_INT, window);
        MPI_Win_unlock(to, window);
    }
    MPI_Barrier(MPI_COMM_WORLD);
    MPI_Win_lock(MPI_LOCK_SHARED, rank, 0, window);
    for (int k = 0; k < size; k++)
        right += base[k] == k + 1;
    MPI_Win_unlock(rank, window);
    must(right == size, "window");
    MPI_Win_free(&window);
    free(base);
    MPI_Comm node;
    MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, rank, MPI_INFO_NULL, &node);
    int near, count;
    MPI_Comm_rank(node, &near);
    MPI_Comm_size(node, &count);
    MPI_Win_allocate_shared(sizeof(int), sizeof(int), MPI_INFO_NULL, node, &base, &window);
    MPI_Win_lock_all(0, window);
    *base = near * 7;
    MPI_Win_sync(window);
    MPI_Barrier(node);
    MPI_Win_sync(window);
    for (int k = 0; k < count; k++) {
        MPI_Aint bytes;
        int unit, *other;
        MPI_Win_shared_query(window, k, &bytes, &unit, &other);
        must(*other == k * 7, "shared window");
    }
    MPI_Win_unlock_all(window);
    MPI_Win_free(&window);
}
static void spawn(int rank, char *program)
{
    MPI_Comm children;
    int sum = 0, mine = rank + 1, errors[2];
    char *arguments[] = {"child", NULL};
    MPI_Comm_spawn(program, arguments, 2, MPI_INFO_NULL, 0, MPI_COMM_WORLD, &children, errors);
    MPI_Allreduce(&mine, &sum, 1, MPI_INT, MPI_SUM, children);
    must(sum == 100 + 101, "what the spawned ones said");
    MPI_Comm_disconnect(&children);
}
static int child(void)
{
    MPI_Comm parents;
    int rank, sum = 0;
    MPI_Comm_get_parent(&parents);
    must(parents != MPI_COMM_NULL, "parents");
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    int mine = 100 + rank;
    MPI_Allreduce(&mine, &sum, 1, MPI_INT, MPI_SUM, parents);
    MPI_Comm_disconnect(&parents);
    MPI_Finalize();
    return 0;
}
int main(int argc, char **argv)
{
    int rank, size;
    MPI_Init(&argc, &argv);
    if (argc > 1 && strcmp(argv[1], "child") == 0)
        return child();
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &size);
    if (rank == 0) {
        puts("ready");
        fflush(stdout);
    }
    while (argc > 1 && access(argv[1], F_OK) != 0)
        nanosleep(&(struct timespec){0, 5000000}, NULL);
    everybody_with_everybody(rank, size);
    windows(rank, size);
    if (argc > 2 && strcmp(argv[2], "spawn") == 0)
        spawn(rank, argv[0]);
    MPI_Barrier(MPI_COMM_WORLD);
    if (rank == 0) {
        puts("OK");
        fflush(stdout);
    }
    MPI_Finalize();
    return 0;
}
