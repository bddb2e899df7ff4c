/* Every rank adds its number to a token that goes around; then all say where they are. ROUNDS 0: go around until the file `stop` is there. */
#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    int rank, size, rounds = argc > 1 ? atoi(argv[1]) : 10;
    char host[64];
    MPI_Init(&argc, &argv);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &size);
    gethostname(host, sizeof host);
    /* Every pair talks once: MPICH before 4.2 may hang in MPI_Finalize when a pair never did (pmodels/mpich, pull request 6596). */
    int *out = calloc((size_t)size, sizeof *out), *in = calloc((size_t)size, sizeof *in);
    MPI_Alltoall(out, 1, MPI_INT, in, 1, MPI_INT, MPI_COMM_WORLD);
    for (long round = 0, sum = 0; rounds == 0 || round < rounds; round++) {
        int stop = rank == 0 && access("stop", F_OK) == 0;
        MPI_Bcast(&stop, 1, MPI_INT, 0, MPI_COMM_WORLD);
        long token = rank, from = 0;
        MPI_Sendrecv(&token, 1, MPI_LONG, (rank + 1) % size, 7, &from, 1, MPI_LONG, (rank + size - 1) % size, 7, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
        MPI_Allreduce(&from, &sum, 1, MPI_LONG, MPI_SUM, MPI_COMM_WORLD);
        if (sum != (long)size * (size - 1) / 2)
            MPI_Abort(MPI_COMM_WORLD, 9);
        if (rank == 0 && round % 50 == 0)
            printf("round %ld\n", round), fflush(stdout);
        if (stop)
            break;
        if (rounds == 0)
            usleep(2000);
    }
    printf("rank %d of %d on %s\n", rank, size, host);
    fflush(stdout);
    MPI_Finalize();
    return 0;
}
