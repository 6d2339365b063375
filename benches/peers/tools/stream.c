// Sequential reading and writing of one file in pieces of 1 MiB.
//
//   stream FILE write MIB RANDOM_IN_4     then fsync; of every four 8-byte words so many are
//                                         random: 4 cannot be compressed, 1 becomes a third
//   stream FILE read
//
// Making the data is not counted. Prints MB/s.
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define PIECE (1 << 20)

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

static void must(const char *what, long result) {
    if (result < 0) {
        perror(what);
        exit(1);
    }
}

static double cpu(void) {
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

int main(int argc, char **argv) {
    if (argc < 3) return 2;
    uint64_t *words = aligned_alloc(4096, PIECE);
    memset(words, 0, PIECE);
    double made = 0, made_cpu = 0, total = 0, start = now();
    if (!strcmp(argv[2], "read")) {
        int file = open(argv[1], O_RDONLY);
        must(argv[1], file);
        for (ssize_t got; (got = read(file, words, PIECE)) != 0; total += got) must(argv[1], got);
        must(argv[1], close(file));
    } else {
        if (argc != 5) return 2;
        int pieces = atoi(argv[3]), random = atoi(argv[4]);
        uint64_t seed = 88172645463325252ULL ^ (uint64_t)(now() * 1e9);
        int file = open(argv[1], O_CREAT | O_TRUNC | O_WRONLY, 0644);
        must(argv[1], file);
        for (int i = 0; i < pieces; i++) {
            double since = now(), since_cpu = cpu();
            for (int k = 0; k < PIECE / 8; k++) {
                if (k % 4 >= random) continue;
                seed ^= seed << 13, seed ^= seed >> 7, seed ^= seed << 17;
                words[k] = seed;
            }
            made += now() - since, made_cpu += cpu() - since_cpu;
            for (size_t done = 0; done < PIECE;) {
                ssize_t wrote = write(file, (char *)words + done, PIECE - done);
                must(argv[1], wrote);
                done += wrote;
            }
            total += PIECE;
        }
        must(argv[1], fsync(file));
        must(argv[1], close(file));
    }
    // The rate, and the CPU seconds that only made data.
    printf("%.1f %.4f\n", total / 1e6 / (now() - start - made), made_cpu);
    return 0;
}
