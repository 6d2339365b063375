// Random access to one file in pieces of 4 KiB, one at a time.
//
//   random FILE read|write|fsync COUNT
//
// `write` ends with one fsync, `fsync` has one after every write. Prints the rate in
// operations per second and the median latency in microseconds.
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define PIECE 4096

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

static void must(const char *what, int ok) {
    if (!ok) {
        perror(what);
        exit(1);
    }
}

static int ascending(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

int main(int argc, char **argv) {
    if (argc != 4) return 2;
    int reads = !strcmp(argv[2], "read"), syncs = !strcmp(argv[2], "fsync"), count = atoi(argv[3]);
    uint64_t seed = 88172645463325252ULL ^ (uint64_t)(now() * 1e9), words[PIECE / 8];
    double *took = calloc(count, sizeof *took);
    struct stat st;
    int file = open(argv[1], reads ? O_RDONLY : O_RDWR);
    must(argv[1], file >= 0 && fstat(file, &st) == 0 && st.st_size >= PIECE);
    double start = now();
    for (int i = 0; i < count; i++) {
        seed ^= seed << 13, seed ^= seed >> 7, seed ^= seed << 17;
        off_t at = (off_t)(seed % (st.st_size / PIECE)) * PIECE;
        for (int k = 0; k < PIECE / 8; k++) words[k] = seed * (k + 1);
        double since = now();
        if (reads)
            must(argv[1], pread(file, words, PIECE, at) == PIECE);
        else
            must(argv[1], pwrite(file, words, PIECE, at) == PIECE);
        if (syncs) must(argv[1], fsync(file) == 0);
        took[i] = now() - since;
    }
    if (!reads) must(argv[1], fsync(file) == 0);
    double rate = count / (now() - start);
    qsort(took, count, sizeof *took, ascending);
    printf("%.1f %.2f\n", rate, took[count / 2] * 1e6);
    return 0;
}
