/* An MPI program that notices any lost, doubled or changed message: a ring with large and small messages in flight all the time, sequence
 * numbers inside, and a global sum every turn. Ends when the file named by argv[1] is there; prints the turns and OK. */
#include <mpi.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define BIG (1 << 18) /* words: 2 MiB */
#define SMALL 16

static void fill(uint64_t *data, size_t words, uint64_t from, uint64_t turn)
{
    for (size_t k = 0; k < words; k++)
        data[k] = from * 1000003 + turn * 7919 + k;
}
static void check(const uint64_t *data, size_t words, uint64_t from, uint64_t turn, int rank)
{
    for (size_t k = 0; k < words; k++)
        if (data[k] != from * 1000003 + turn * 7919 + k) {
            printf("FAIL rank %d turn %lu word %zu\n", rank, turn, k);
            fflush(stdout);
            MPI_Abort(MPI_COMM_WORLD, 3);
        }
}

int main(int argc, char **argv)
{
    int rank, size, stop = 0;
    MPI_Init(&argc, &argv);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &size);
    int right = (rank + 1) % size, left = (rank + size - 1) % size;
    uint64_t *out = malloc(BIG * 8), *in = malloc(BIG * 8), small_out[SMALL], small_in[SMALL], turn = 0;
    if (rank == 0) {
        puts("ready");
        fflush(stdout);
    }
    for (; !stop; turn++) {
        MPI_Request requests[4];
        fill(out, BIG, (uint64_t)rank, turn);
        fill(small_out, SMALL, (uint64_t)rank, turn);
        MPI_Irecv(in, BIG, MPI_UINT64_T, left, 1, MPI_COMM_WORLD, &requests[0]);
        MPI_Irecv(small_in, SMALL, MPI_UINT64_T, right, 2, MPI_COMM_WORLD, &requests[1]);
        MPI_Isend(out, BIG, MPI_UINT64_T, right, 1, MPI_COMM_WORLD, &requests[2]);
        MPI_Isend(small_out, SMALL, MPI_UINT64_T, left, 2, MPI_COMM_WORLD, &requests[3]);
        MPI_Waitall(4, requests, MPI_STATUSES_IGNORE);
        check(in, BIG, (uint64_t)left, turn, rank);
        check(small_in, SMALL, (uint64_t)right, turn, rank);
        uint64_t one = turn + 1, sum = 0;
        MPI_Allreduce(&one, &sum, 1, MPI_UINT64_T, MPI_SUM, MPI_COMM_WORLD);
        if (sum != (turn + 1) * (uint64_t)size)
            MPI_Abort(MPI_COMM_WORLD, 4);
        if (rank == 0)
            stop = argc > 1 && access(argv[1], F_OK) == 0;
        MPI_Bcast(&stop, 1, MPI_INT, 0, MPI_COMM_WORLD);
    }
    if (rank == 0)
        printf("turns %lu\nOK\n", turn);
    MPI_Finalize();
    return 0;
}
