// Operations on many small files, one program run per operation.
//
//   files DIR OPERATION DIRECTORIES FILES BYTES
//
// Operations: create stat readdir read rename unlink. `create` makes the directories
// and fills each file with fresh random bytes; `rename` is needed before `unlink`.
// Prints the rate in operations per second.
#define _GNU_SOURCE
#include <dirent.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static char path[4096], other[4096];

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

static long must(const char *what, long result) {
    if (result < 0) {
        perror(what);
        exit(1);
    }
    return result;
}

static void fill(char *bytes, int len, uint64_t *seed) {
    for (int i = 0; i + 8 <= len; i += 8) {
        *seed ^= *seed << 13, *seed ^= *seed >> 7, *seed ^= *seed << 17;
        memcpy(bytes + i, seed, 8);
    }
}

static long list(void) {
    struct stat st;
    struct dirent *entry;
    long count = 0;
    DIR *dir = opendir(path);
    if (!dir) must(path, -1);
    while ((entry = readdir(dir)))
        if (entry->d_name[0] != '.') {
            must(entry->d_name, fstatat(dirfd(dir), entry->d_name, &st, AT_SYMLINK_NOFOLLOW));
            count++;
        }
    closedir(dir);
    return count;
}

static void one(const char *operation, char *bytes, int len, uint64_t *seed) {
    struct stat st;
    if (!strcmp(operation, "create")) {
        fill(bytes, len, seed);
        int file = must(path, open(path, O_CREAT | O_EXCL | O_WRONLY, 0644));
        must(path, write(file, bytes, len));
        must(path, close(file));
    } else if (!strcmp(operation, "stat")) {
        must(path, lstat(path, &st));
    } else if (!strcmp(operation, "read")) {
        int file = must(path, open(path, O_RDONLY));
        if (must(path, read(file, bytes, len)) != len) exit(1);
        must(path, close(file));
    } else if (!strcmp(operation, "rename")) {
        must(path, rename(path, other));
    } else if (!strcmp(operation, "unlink")) {
        must(other, unlink(other));
    } else {
        exit(2);
    }
}

int main(int argc, char **argv) {
    if (argc != 6) return 2;
    const char *dir = argv[1], *operation = argv[2];
    int dirs = atoi(argv[3]), files = atoi(argv[4]), len = atoi(argv[5]);
    char *bytes = calloc(1, len + 8);
    uint64_t seed = 88172645463325252ULL ^ ((uint64_t)getpid() << 32) ^ (uint64_t)(now() * 1e9);
    double start = now();
    long count = 0;
    for (int i = 0; i < dirs; i++) {
        snprintf(path, sizeof path, "%s/d%03d", dir, i);
        if (!strcmp(operation, "create")) must(path, mkdir(path, 0755));
        if (!strcmp(operation, "readdir")) {
            count += list();
            continue;
        }
        for (int j = 0; j < files / dirs; j++, count++) {
            snprintf(path, sizeof path, "%s/d%03d/file%05d.dat", dir, i, j);
            snprintf(other, sizeof other, "%s/d%03d/renamed%05d.dat", dir, i, j);
            one(operation, bytes, len, &seed);
        }
        snprintf(path, sizeof path, "%s/d%03d", dir, i);
        if (!strcmp(operation, "unlink")) must(path, rmdir(path));
    }
    printf("%.1f\n", count / (now() - start));
    return 0;
}
