/* 2-D heat conduction with obstacles, on any number of MPI ranks; a real parallel program that knows nothing of ClusterOS.
 *
 *   heat PLATE.pgm [columns rows blocks frames]
 *
 * The plate is an image (PGM, P5): black is an insulating obstacle, white (255) is held hot, 200 is held cold, all else conducts.
 * Explicit scheme (FTCS), rows dealt out in bands. Bands exchange halos of DEPTH rows at once and then compute DEPTH steps alone
 * (communication-avoiding, Demmel et al. 2008), so one message is DEPTH x columns x 8 bytes: 3 MiB by default. Every message carries
 * its sender, block and a sequence number, and a checksum; a lost, doubled or changed one ends the run with an error.
 * Every block each rank also streams its band to rank 0 while it computes the next one; rank 0 writes frames from that.
 * The result does not depend on the number of ranks: checksum.txt can be compared byte by byte. */
#include <mpi.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { DEPTH = 128, HEADER = 8 };
enum cell { CONDUCTS, INSULATES, HOT, COLD };

static int rank, size;

static void die(const char *what, long a, long b)
{
    fprintf(stderr, "heat: rank %d: %s (%ld, %ld)\n", rank, what, a, b);
    MPI_Abort(MPI_COMM_WORLD, 3);
}

static void *make(size_t count, size_t bytes)
{
    void *p = calloc(count, bytes);
    if (!p)
        die("no memory", (long)count, (long)bytes);
    return p;
}

/* ---- the plate */
static uint8_t *plate_read(const char *path, long *width, long *height)
{
    FILE *f = fopen(path, "rb");
    long max;
    if (!f || fscanf(f, "P5 %ld %ld %ld", width, height, &max) != 3 || max != 255 || *width < 1 || *height < 1)
        die("the plate is not a PGM (P5) image", 0, 0);
    fgetc(f);
    size_t n = (size_t)*width * (size_t)*height;
    uint8_t *pixels = make(n, 1);
    if (fread(pixels, 1, n, f) != n)
        die("the plate is cut short", *width, *height);
    fclose(f);
    return pixels;
}

static enum cell cell_of(uint8_t pixel)
{
    return pixel < 64 ? INSULATES : pixel == 255 ? HOT : pixel == 200 ? COLD : CONDUCTS;
}

/* ---- a band: rows [first, first + rows) with DEPTH halo rows above and below */
struct band {
    long columns, total_rows, first, rows;
    double *now, *next;     /* (rows + 2 DEPTH) x columns */
    uint8_t *kind;
};

static void band_make(struct band *b, long columns, long total_rows, const uint8_t *plate, long width, long height)
{
    b->columns = columns, b->total_rows = total_rows;
    b->first = total_rows * rank / size;
    b->rows = total_rows * (rank + 1) / size - b->first;
    size_t cells = (size_t)(b->rows + 2 * DEPTH) * (size_t)columns;
    b->now = make(cells, sizeof *b->now), b->next = make(cells, sizeof *b->next), b->kind = make(cells, 1);
    for (long r = 0; r < b->rows + 2 * DEPTH; r++)
        for (long c = 0; c < columns; c++) {
            long global = b->first - DEPTH + r;
            size_t at = (size_t)(r * columns + c);
            int outside = global < 0 || global >= total_rows;
            b->kind[at] = outside ? INSULATES : cell_of(plate[(global * height / total_rows) * width + c * width / columns]);
            b->now[at] = b->next[at] = b->kind[at] == HOT ? 100.0 : b->kind[at] == COLD ? 0.0 : 20.0;
        }
}

static double flow(const struct band *b, size_t at, size_t other)
{
    return b->kind[other] == INSULATES ? 0.0 : b->now[other] - b->now[at];
}

static void step_row(struct band *b, long r)
{
    size_t width = (size_t)b->columns, from = (size_t)r * width;
    for (size_t c = 0; c < width; c++) {
        size_t at = from + c;
        if (b->kind[at] != CONDUCTS) {
            b->next[at] = b->now[at];
            continue;
        }
        double sum = flow(b, at, at - width) + flow(b, at, at + width);
        if (c > 0)
            sum += flow(b, at, at - 1);
        if (c + 1 < width)
            sum += flow(b, at, at + 1);
        b->next[at] = b->now[at] + 0.2 * sum;
    }
}

/* ---- messages: a header of HEADER doubles (as integers) and rows */
struct message {
    int64_t header[HEADER];
};
static uint64_t hash_more(uint64_t h, const void *data, size_t bytes)
{
    const uint64_t *w = data;
    for (size_t k = 0; k < bytes / 8; k++)
        h = (h ^ w[k]) * 0x100000001b3u, h ^= h >> 29;
    return h;
}

static size_t message_bytes(const struct band *b, long rows)
{
    return sizeof(struct message) + (size_t)rows * (size_t)b->columns * sizeof(double);
}

static void message_fill(struct message *m, const struct band *b, long kind, long block, long row, long rows)
{
    size_t bytes = (size_t)(rows * b->columns) * sizeof(double);
    memcpy(m + 1, b->now + row * b->columns, bytes);
    int64_t header[HEADER] = {0x48454154, rank, kind, block, rows, (int64_t)hash_more(block, m + 1, bytes), 0, 0};
    memcpy(m->header, header, sizeof header);
}

static void message_check(const struct message *m, const struct band *b, long from, long kind, long block, long rows)
{
    if (m->header[0] != 0x48454154 || m->header[1] != from || m->header[2] != kind || m->header[4] != rows)
        die("a message of another place came", m->header[1], m->header[2]);
    if (m->header[3] != block)
        die("a message was lost or doubled: sequence", m->header[3], block);
    if (m->header[5] != (int64_t)hash_more((uint64_t)block, m + 1, (size_t)(rows * b->columns) * sizeof(double)))
        die("a message was changed on its way", from, block);
}

/* ---- halos */
struct halos {
    struct message *out[2], *in[2];
    MPI_Request requests[4];
    int count, neighbour[2];
};

static void halos_start(struct halos *h, const struct band *b, long block)
{
    int bytes = (int)message_bytes(b, DEPTH);
    h->count = 0;
    for (int side = 0; side < 2; side++) {
        h->neighbour[side] = side ? (rank + 1 < size ? rank + 1 : -1) : rank - 1;
        if (h->neighbour[side] < 0)
            continue;
        MPI_Irecv(h->in[side], bytes, MPI_BYTE, h->neighbour[side], 1 - side, MPI_COMM_WORLD, &h->requests[h->count++]);
        message_fill(h->out[side], b, side, block, side ? b->rows : DEPTH, DEPTH);
        MPI_Isend(h->out[side], bytes, MPI_BYTE, h->neighbour[side], side, MPI_COMM_WORLD, &h->requests[h->count++]);
    }
}

static void halos_finish(struct halos *h, struct band *b, long block)
{
    MPI_Waitall(h->count, h->requests, MPI_STATUSES_IGNORE);
    for (int side = 0; side < 2; side++) {
        if (h->neighbour[side] < 0)
            continue;
        message_check(h->in[side], b, h->neighbour[side], 1 - side, block, DEPTH);
        double *rows = b->now + (side ? b->rows + DEPTH : 0) * b->columns;
        memcpy(rows, h->in[side] + 1, (size_t)(DEPTH * b->columns) * sizeof(double));
    }
}

static void compute_block(struct band *b)
{
    for (long s = 1; s <= DEPTH; s++) {
        long from = s, to = b->rows + 2 * DEPTH - s;
        if (rank == 0)
            from = DEPTH;
        if (rank == size - 1)
            to = b->rows + DEPTH;
        for (long r = from; r < to; r++)
            step_row(b, r);
        double *swap = b->now;
        b->now = b->next, b->next = swap;
    }
}

/* ---- frames: every rank streams its band to rank 0 during the next block */
struct stream {
    struct message *out, **in;
    MPI_Request request, *requests;
    int open;
};

static long band_rows_of(long total, int who)
{
    return total * (who + 1) / size - total * who / size;
}

static void stream_start(struct stream *s, const struct band *b, long block)
{
    message_fill(s->out, b, 2, block, DEPTH, b->rows);
    if (rank == 0)
        for (int who = 0; who < size; who++)
            MPI_Irecv(s->in[who], (int)message_bytes(b, band_rows_of(b->total_rows, who)), MPI_BYTE, who, 2, MPI_COMM_WORLD, &s->requests[who]);
    MPI_Isend(s->out, (int)message_bytes(b, b->rows), MPI_BYTE, 0, 2, MPI_COMM_WORLD, &s->request);
    s->open = 1;
}

static void frame_write(const struct stream *s, const struct band *b, long frame, uint64_t checksum)
{
    char name[64];
    long step = 4;
    snprintf(name, sizeof name, "frame-%03ld.pgm", frame);
    FILE *f = fopen(name, "wb");
    if (!f)
        die("cannot write a frame", frame, 0);
    fprintf(f, "P5\n%ld %ld\n255\n", b->columns / step, b->total_rows / step);
    for (int who = 0; who < size; who++) {
        long rows = band_rows_of(b->total_rows, who), first = b->total_rows * who / size;
        const double *values = (const double *)(s->in[who] + 1);
        for (long r = 0; r < rows; r++)
            if ((first + r) % step == 0)
                for (long c = 0; c + step <= b->columns; c += step)
                    fputc((int)(values[r * b->columns + c] * 2.5), f);
    }
    if (fclose(f))
        die("a frame could not be written", frame, 0);
    FILE *list = fopen("frames.txt", "a");
    if (!list || fprintf(list, "%s %016lx\n", name, checksum) < 0 || fclose(list))
        die("frames.txt could not be written", frame, 0);
}

static uint64_t stream_finish(struct stream *s, const struct band *b, long block, long frame)
{
    uint64_t checksum = 0xcbf29ce484222325u;
    if (!s->open)
        return checksum;
    MPI_Wait(&s->request, MPI_STATUS_IGNORE);
    s->open = 0;
    if (rank != 0)
        return checksum;
    MPI_Waitall(size, s->requests, MPI_STATUSES_IGNORE);
    for (int who = 0; who < size; who++) {
        long rows = band_rows_of(b->total_rows, who);
        message_check(s->in[who], b, who, 2, block, rows);
        checksum = hash_more(checksum, s->in[who] + 1, (size_t)(rows * b->columns) * sizeof(double));
    }
    if (frame >= 0)
        frame_write(s, b, frame, checksum);
    return checksum;
}

static long argument(int argc, char **argv, int at, long standard)
{
    long value = argc > at ? strtol(argv[at], NULL, 10) : standard;
    return value > 0 ? value : standard;
}

int main(int argc, char **argv)
{
    MPI_Init(&argc, &argv);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &size);
    if (argc < 2)
        die("usage: heat PLATE.pgm [columns rows blocks frames]", argc, 0);
    long width, height, columns = argument(argc, argv, 2, 3072), total_rows = argument(argc, argv, 3, 1536);
    long blocks = argument(argc, argv, 4, 40), frames = argument(argc, argv, 5, 20);
    if (total_rows / size < DEPTH)
        die("too many ranks: each needs at least 128 rows", total_rows, size);
    uint8_t *plate = plate_read(argv[1], &width, &height);
    struct band b;
    band_make(&b, columns, total_rows, plate, width, height);
    free(plate);
    struct halos h = {.count = 0};
    for (int side = 0; side < 2; side++)
        h.out[side] = make(1, message_bytes(&b, DEPTH)), h.in[side] = make(1, message_bytes(&b, DEPTH));
    struct stream s = {.out = make(1, message_bytes(&b, b.rows))};
    if (rank == 0) {
        s.in = make((size_t)size, sizeof *s.in), s.requests = make((size_t)size, sizeof *s.requests);
        for (int who = 0; who < size; who++)
            s.in[who] = make(1, message_bytes(&b, band_rows_of(total_rows, who)));
        printf("heat: %d ranks, %ld x %ld cells, %ld blocks of %d steps, halos of %.1f MiB\n", size, columns, total_rows, blocks, DEPTH,
               (double)message_bytes(&b, DEPTH) / 1048576.0);
        fflush(stdout);
    }
    uint64_t checksum = 0;
    for (long block = 0; block < blocks; block++) {
        halos_start(&h, &b, block);
        halos_finish(&h, &b, block);
        compute_block(&b);
        long frame = block > 0 && block * frames / blocks != (block - 1) * frames / blocks ? block * frames / blocks : -1;
        stream_finish(&s, &b, block - 1, frame);
        stream_start(&s, &b, block);
        if (rank == 0) {
            printf("block %ld of %ld\n", block + 1, blocks);
            fflush(stdout);
        }
    }
    checksum = stream_finish(&s, &b, blocks - 1, frames);
    if (rank == 0) {
        FILE *f = fopen("checksum.txt", "w");
        if (!f || fprintf(f, "%016lx\n", checksum) < 0 || fclose(f))
            die("checksum.txt could not be written", 0, 0);
        printf("done: checksum %016lx\n", checksum);
    }
    MPI_Finalize();
    return 0;
}
