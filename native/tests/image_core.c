/* What t_image_core.py opens again: known bytes on the heap, in the data and in shared memory, two threads; says where they are. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static char data[8192] = "in the data";

static void *other(void *given)
{
    pause();
    return given;
}

int main(void)
{
    char *heap = malloc(300000);
    char *shared = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    pthread_t thread;
    if (!heap || shared == MAP_FAILED || pthread_create(&thread, NULL, other, NULL))
        return 1;
    memset(heap, 'h', 300000);
    strcpy(heap, "on the heap");
    strcpy(shared + 4096, "in shared memory");
    strcpy(data + 5000, "written later");
    printf("%d %p %p %p\n", getpid(), (void *)heap, (void *)(data + 5000), (void *)(shared + 4096));
    fflush(stdout);
    for (;;)
        pause();
}
