// What programs expect of files, through libnfs: by paths, as programs use it.
//
//     files ADDRESS PORT NAMES
//
// Works in a directory of its own, with NAMES files in its largest one. Prints PASS or FAIL
// for each check, and DONE at the end. Needs a server that believes who says to be root.

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include <nfsc/libnfs.h>
#include <nfsc/libnfs-raw.h>
#include <nfsc/libnfs-raw-nfs.h>

#ifdef LIBNFS_API_V2
#error "libnfs 6 calls its functions otherwise; this is for 4 and 5"
#endif

#define MIB (1u << 20)

static const char *address;
static int port, names;
// Two clients, both root's.
static struct nfs_context *nfs, *other;

// --- what a check says: the first thing that is not as it must be ---

static char fault[400];

static int expect(int line, const char *what, long long got, long long expected) {
    if (got != expected && !*fault)
        snprintf(fault, sizeof fault, "line %d: %s is %lld and not %lld (%s)", line, what, got,
                 expected, nfs && nfs_get_error(nfs) ? nfs_get_error(nfs) : "");
    return got == expected;
}

// Leaves the check at the first fault.
#define IS(got, expected)                                                                        \
    do {                                                                                         \
        if (!expect(__LINE__, #got, (long long)(got), (long long)(expected))) return;            \
    } while (0)
#define WORKS(call) IS(call, 0)
#define HOLDS(condition) IS(!!(condition), 1)

// --- clients, and short ways to say usual things ---

// A client of its own, which acts as this user in these groups.
static struct nfs_context *client(uint32_t uid, uint32_t gid, uint32_t count, uint32_t *groups) {
    struct nfs_context *new = nfs_init_context();
    char text[200];
    struct nfs_url *url;
    snprintf(text, sizeof text, "nfs://%s/?version=3&nfsport=%d&mountport=%d&dircache=0", address,
             port, port);
    url = nfs_parse_url_dir(new, text);
    nfs_set_auth(new, libnfs_authunix_create("libnfs", uid, gid, count, groups));
    nfs_set_timeout(new, 60000);
    nfs_umask(new, 0);
    if (!url || nfs_mount(new, url->server, "/")) {
        printf("FAIL mount: %s\n", nfs_get_error(new));
        exit(1);
    }
    nfs_destroy_url(url);
    return new;
}

static int make_file(struct nfs_context *as, const char *path, int flags, int mode) {
    struct nfsfh *file;
    int result = nfs_open2(as, path, O_CREAT | O_RDWR | flags, mode, &file);
    return result ? result : nfs_close(as, file);
}

static int write_file(const char *path, const char *data) {
    struct nfsfh *file;
    int len = (int)strlen(data), result;
    result = nfs_open2(nfs, path, O_CREAT | O_TRUNC | O_RDWR, 0644, &file);
    if (result) return result;
    result = nfs_pwrite(nfs, file, 0, (uint64_t)len, data);
    nfs_close(nfs, file);
    return result == len ? 0 : result < 0 ? result : -EIO;
}

// Whether a client finds just this in a file.
static int holds(struct nfs_context *as, const char *path, const char *data) {
    struct nfsfh *file;
    char buffer[1000];
    int len, is_so;
    if (nfs_open(as, path, O_RDONLY, &file)) return 0;
    len = nfs_pread(as, file, 0, sizeof buffer, buffer);
    is_so = len == (int)strlen(data) && !memcmp(buffer, data, strlen(data));
    nfs_close(as, file);
    return is_so;
}

static struct nfs_stat_64 stat_of(const char *path) {
    struct nfs_stat_64 st;
    memset(&st, 0, sizeof st);
    if (nfs_lstat64(nfs, path, &st)) memset(&st, 0, sizeof st);
    return st;
}

static int error_of(struct nfs_context *as, const char *path) {
    struct nfs_stat_64 st;
    return nfs_lstat64(as, path, &st);
}

// How often a name is listed.
static int listed(struct nfs_context *as, const char *dir, const char *name) {
    struct nfsdir *open;
    struct nfsdirent *entry;
    int count = 0;
    if (nfs_opendir(as, dir, &open)) return -1;
    while ((entry = nfs_readdir(as, open))) count += !strcmp(entry->name, name);
    nfs_closedir(as, open);
    return count;
}

// Bytes that show where they came from: a different word every eight bytes.
static void fill(unsigned char *buffer, uint64_t offset, size_t len) {
    for (size_t i = 0; i < len; i++) {
        uint64_t at = offset + i, word = (at / 8 + 1) * 0x9e3779b97f4a7c15u;
        buffer[i] = (unsigned char)(word >> (at % 8 * 8));
    }
}

// --- checks: files ---

static void create(void) {
    struct nfs_stat_64 st;
    WORKS(make_file(nfs, "/w/a", 0, 0640));
    st = stat_of("/w/a");
    IS(st.nfs_mode, S_IFREG | 0640);
    IS(st.nfs_nlink, 1);
    IS(st.nfs_uid, 0);
    IS(st.nfs_gid, 0);
    IS(st.nfs_size, 0);
    HOLDS(st.nfs_ino > 1 && st.nfs_mtime > 1500000000 && st.nfs_mtime_nsec < 1000000000);
    IS(st.nfs_mtime, st.nfs_ctime);
    IS(listed(other, "/w", "a"), 1);
}

static void exclusive_create(void) {
    WORKS(make_file(nfs, "/w/once", O_EXCL, 0600));
    IS(make_file(other, "/w/once", O_EXCL, 0600), -EEXIST);
    WORKS(make_file(other, "/w/once", 0, 0600));
}

static void what_is_missing(void) {
    struct nfsfh *file;
    struct nfsdir *dir;
    WORKS(make_file(nfs, "/w/file", 0, 0600));
    IS(nfs_open(nfs, "/w/missing", O_RDONLY, &file), -ENOENT);
    IS(make_file(nfs, "/w/missing/x", 0, 0600), -ENOENT);
    IS(make_file(nfs, "/w/file/x", 0, 0600), -ENOTDIR);
    IS(nfs_opendir(nfs, "/w/missing", &dir), -ENOENT);
    IS(nfs_opendir(nfs, "/w/file", &dir), -ENOTDIR);
    IS(nfs_unlink(nfs, "/w/missing"), -ENOENT);
}

static void write_and_read(void) {
    struct nfsfh *file;
    char buffer[100] = "";
    uint64_t offset;
    WORKS(nfs_open2(nfs, "/w/data", O_CREAT | O_RDWR, 0644, &file));
    IS(nfs_write(nfs, file, 6, "hello "), 6);
    IS(nfs_write(nfs, file, 5, "world"), 5);
    IS(nfs_pwrite(nfs, file, 0, 1, "H"), 1);
    IS(nfs_pread(nfs, file, 0, sizeof buffer, buffer), 11);
    HOLDS(!memcmp(buffer, "Hello world", 11));
    IS(nfs_pread(nfs, file, 11, sizeof buffer, buffer), 0);
    WORKS(nfs_lseek(nfs, file, -5, SEEK_END, &offset));
    IS(offset, 6);
    IS(nfs_read(nfs, file, sizeof buffer, buffer), 5);
    HOLDS(!memcmp(buffer, "world", 5));
    WORKS(nfs_close(nfs, file));
    HOLDS(holds(other, "/w/data", "Hello world"));
}

static void gaps_read_as_zeros(void) {
    struct nfsfh *file;
    char buffer[8], zeros[8] = {0};
    WORKS(nfs_open2(nfs, "/w/gap", O_CREAT | O_RDWR, 0644, &file));
    IS(nfs_pwrite(nfs, file, 5000000000, 3, "end"), 3);
    IS(nfs_pread(nfs, file, 4999999995, sizeof buffer, buffer), 8);
    HOLDS(!memcmp(buffer, "\0\0\0\0\0end", 8));
    IS(nfs_pread(nfs, file, 12345, sizeof buffer, buffer), 8);
    HOLDS(!memcmp(buffer, zeros, 8));
    IS(stat_of("/w/gap").nfs_size, 5000000003);
    HOLDS(stat_of("/w/gap").nfs_used < 10 * MIB);
    WORKS(nfs_close(nfs, file));
}

static void append(void) {
    struct nfsfh *file;
    WORKS(write_file("/w/log", "one\n"));
    WORKS(nfs_open(nfs, "/w/log", O_WRONLY | O_APPEND, &file));
    IS(nfs_write(nfs, file, 4, "two\n"), 4);
    IS(nfs_write(nfs, file, 6, "three\n"), 6);
    WORKS(nfs_close(nfs, file));
    HOLDS(holds(other, "/w/log", "one\ntwo\nthree\n"));
}

static void truncate_and_grow(void) {
    struct nfsfh *file;
    WORKS(write_file("/w/cut", "0123456789"));
    WORKS(nfs_truncate(nfs, "/w/cut", 3));
    HOLDS(holds(other, "/w/cut", "012"));
    WORKS(nfs_truncate(nfs, "/w/cut", 100000));
    IS(stat_of("/w/cut").nfs_size, 100000);
    WORKS(nfs_open(nfs, "/w/cut", O_RDWR, &file));
    WORKS(nfs_ftruncate(nfs, file, 4));
    char buffer[10];
    IS(nfs_pread(nfs, file, 0, sizeof buffer, buffer), 4);
    HOLDS(!memcmp(buffer, "012\0", 4));
    WORKS(nfs_close(nfs, file));
    WORKS(nfs_open(nfs, "/w/cut", O_WRONLY | O_TRUNC, &file));
    WORKS(nfs_close(nfs, file));
    IS(stat_of("/w/cut").nfs_size, 0);
}

static void synced(void) {
    struct nfsfh *file;
    WORKS(nfs_open2(nfs, "/w/synced", O_CREAT | O_WRONLY, 0644, &file));
    IS(nfs_pwrite(nfs, file, 0, 4, "data"), 4);
    WORKS(nfs_fsync(nfs, file));
    WORKS(nfs_close(nfs, file));
    WORKS(nfs_open(nfs, "/w/synced", O_WRONLY | O_SYNC, &file));
    IS(nfs_pwrite(nfs, file, 4, 4, "more"), 4);
    WORKS(nfs_close(nfs, file));
    HOLDS(holds(other, "/w/synced", "datamore"));
}

// --- checks: attributes ---

static void mode_owner_and_times(void) {
    struct timeval times[2] = {{1000000000, 123456}, {4000000000, 654321}};
    struct nfs_stat_64 before, st;
    WORKS(write_file("/w/attr", "x"));
    before = stat_of("/w/attr");
    WORKS(nfs_chmod(nfs, "/w/attr", 04751));
    IS(stat_of("/w/attr").nfs_mode, S_IFREG | 04751);
    WORKS(nfs_chown(nfs, "/w/attr", 1234, 2345));
    WORKS(nfs_utimes(nfs, "/w/attr", times));
    st = stat_of("/w/attr");
    IS(st.nfs_uid, 1234);
    IS(st.nfs_gid, 2345);
    IS(st.nfs_atime, 1000000000);
    IS(st.nfs_atime_nsec, 123456000);
    IS(st.nfs_mtime, 4000000000);
    IS(st.nfs_mtime_nsec, 654321000);
    IS(st.nfs_ino, before.nfs_ino);
    HOLDS(st.nfs_ctime > before.nfs_ctime ||
          (st.nfs_ctime == before.nfs_ctime && st.nfs_ctime_nsec > before.nfs_ctime_nsec));
    WORKS(nfs_utimes(nfs, "/w/attr", NULL));
    HOLDS(stat_of("/w/attr").nfs_mtime < 4000000000);
    IS(nfs_chmod(nfs, "/w/missing", 0600), -ENOENT);
}

static void others_may_do_what_they_may(void) {
    uint32_t group = 2000;
    struct nfs_context *alice = client(1000, 1000, 0, NULL), *bob = client(1001, 1001, 1, &group);
    struct nfsfh *file;
    WORKS(write_file("/w/secret", "secret"));
    WORKS(nfs_chmod(nfs, "/w/secret", 0640));
    WORKS(nfs_chown(nfs, "/w/secret", 0, 2000));
    IS(nfs_open(alice, "/w/secret", O_RDONLY, &file), -EACCES);
    IS(nfs_access(alice, "/w/secret", R_OK), -EACCES);
    IS(nfs_access2(alice, "/w/secret"), 0);
    HOLDS(holds(bob, "/w/secret", "secret")); // By a supplementary group.
    IS(nfs_access2(bob, "/w/secret"), R_OK);
    IS(nfs_open(bob, "/w/secret", O_WRONLY, &file), -EACCES);
    WORKS(nfs_access(nfs, "/w/secret", R_OK | W_OK));
    IS(nfs_chmod(alice, "/w/secret", 0666), -EPERM);
    IS(make_file(alice, "/w/mine", 0, 0600), -EACCES);
    WORKS(nfs_mkdir2(nfs, "/w/public", 01777));
    WORKS(make_file(alice, "/w/public/mine", 0, 0600));
    IS(stat_of("/w/public/mine").nfs_uid, 1000);
    IS(stat_of("/w/public/mine").nfs_gid, 1000);
    IS(nfs_unlink(bob, "/w/public/mine"), -EPERM);
    IS(nfs_chown(alice, "/w/public/mine", 1001, 1001), -EPERM);
    WORKS(nfs_unlink(alice, "/w/public/mine"));
    nfs_destroy_context(alice);
    nfs_destroy_context(bob);
}

static void room_is_told(void) {
    struct nfs_statvfs_64 stat;
    memset(&stat, 0, sizeof stat);
    WORKS(nfs_statvfs64(nfs, "/w", &stat));
    HOLDS(stat.f_bsize > 0 && stat.f_blocks > 0 && stat.f_bfree <= stat.f_blocks);
    HOLDS(stat.f_bavail <= stat.f_bfree && stat.f_ffree <= stat.f_files);
    HOLDS(nfs_get_readmax(nfs) >= 65536 && nfs_get_writemax(nfs) >= 65536);
}

// --- checks: names ---

static void directories(void) {
    WORKS(nfs_mkdir2(nfs, "/w/dir", 0751));
    IS(stat_of("/w/dir").nfs_mode, S_IFDIR | 0751);
    IS(stat_of("/w/dir").nfs_nlink, 2);
    IS(nfs_mkdir2(nfs, "/w/dir", 0755), -EEXIST);
    WORKS(nfs_mkdir2(nfs, "/w/dir/sub", 0755));
    IS(stat_of("/w/dir").nfs_nlink, 3);
    IS(nfs_rmdir(nfs, "/w/dir"), -ENOTEMPTY);
    WORKS(write_file("/w/dir/file", "x"));
    IS(nfs_rmdir(nfs, "/w/dir/file"), -ENOTDIR);
    IS(nfs_unlink(nfs, "/w/dir/sub"), -EISDIR);
    WORKS(nfs_rmdir(nfs, "/w/dir/sub"));
    WORKS(nfs_unlink(nfs, "/w/dir/file"));
    IS(listed(nfs, "/w/dir", "."), 1);
    IS(listed(nfs, "/w/dir", ".."), 1);
    WORKS(nfs_rmdir(nfs, "/w/dir"));
    IS(error_of(other, "/w/dir"), -ENOENT);
}

static void symbolic_links(void) {
    char target[1000], long_target[3000];
    WORKS(write_file("/w/pointed", "at"));
    WORKS(nfs_symlink(nfs, "../w/./pointed", "/w/link"));
    IS(stat_of("/w/link").nfs_mode & S_IFMT, S_IFLNK);
    WORKS(nfs_readlink(nfs, "/w/link", target, sizeof target));
    IS(strcmp(target, "../w/./pointed"), 0);
    HOLDS(holds(other, "/w/link", "at"));
    WORKS(nfs_symlink(nfs, "nowhere", "/w/dangling"));
    IS(error_of(nfs, "/w/dangling"), 0);
    IS(nfs_chmod(nfs, "/w/dangling", 0600), -ENOENT);
    IS(nfs_symlink(nfs, "x", "/w/link"), -EEXIST);
    memset(long_target, 't', sizeof long_target - 1);
    long_target[sizeof long_target - 1] = 0;
    WORKS(nfs_symlink(nfs, long_target, "/w/long"));
    IS(stat_of("/w/long").nfs_size, sizeof long_target - 1);
    IS(nfs_readlink(nfs, "/w/file", target, sizeof target), -EINVAL);
}

static void hard_links(void) {
    WORKS(write_file("/w/first", "shared"));
    WORKS(nfs_link(nfs, "/w/first", "/w/second"));
    IS(stat_of("/w/second").nfs_ino, stat_of("/w/first").nfs_ino);
    IS(stat_of("/w/first").nfs_nlink, 2);
    IS(nfs_link(nfs, "/w/first", "/w/second"), -EEXIST);
    IS(nfs_link(nfs, "/w/missing", "/w/third"), -ENOENT);
    WORKS(nfs_unlink(nfs, "/w/first"));
    IS(stat_of("/w/second").nfs_nlink, 1);
    HOLDS(holds(other, "/w/second", "shared"));
}

static void nodes(void) {
    WORKS(nfs_mknod(nfs, "/w/fifo", S_IFIFO | 0600, 0));
    IS(stat_of("/w/fifo").nfs_mode, S_IFIFO | 0600);
    WORKS(nfs_mknod(nfs, "/w/null", S_IFCHR | 0666, (int)makedev(1, 3)));
    IS(stat_of("/w/null").nfs_mode, S_IFCHR | 0666);
    IS(stat_of("/w/null").nfs_rdev, makedev(1, 3));
}

static void renames(void) {
    uint64_t ino;
    WORKS(write_file("/w/old", "new content"));
    WORKS(write_file("/w/target", "old content"));
    ino = stat_of("/w/old").nfs_ino;
    WORKS(nfs_rename(nfs, "/w/old", "/w/target"));
    IS(error_of(other, "/w/old"), -ENOENT);
    IS(stat_of("/w/target").nfs_ino, ino);
    HOLDS(holds(other, "/w/target", "new content"));
    IS(nfs_rename(nfs, "/w/missing", "/w/target"), -ENOENT);
    WORKS(nfs_mkdir2(nfs, "/w/from", 0755));
    WORKS(nfs_mkdir2(nfs, "/w/from/sub", 0755));
    WORKS(nfs_mkdir2(nfs, "/w/full", 0755));
    WORKS(nfs_mkdir2(nfs, "/w/full/x", 0755));
    IS(nfs_rename(nfs, "/w/from", "/w/full"), -ENOTEMPTY);
    IS(nfs_rename(nfs, "/w/from", "/w/from/sub/x"), -EINVAL);
    IS(nfs_rename(nfs, "/w/from", "/w/target"), -ENOTDIR);
    IS(nfs_rename(nfs, "/w/target", "/w/from"), -EISDIR);
    WORKS(nfs_rename(nfs, "/w/from", "/w/full/moved"));
    IS(error_of(other, "/w/full/moved/sub"), 0);
}

static void names_are_bytes(void) {
    // Not UTF-8; UTF-8, composed and not; a newline; what shells and servers mind.
    static const char *const odd[] = {"b\377d", "\200", "\303\251", "e\314\201", "a\nb", " ", "*?",
                                      "c:\\d", "...", "-rf"};
    char path[400] = "/w/odd/", *name = path + 7;
    WORKS(nfs_mkdir2(nfs, "/w/odd", 0755));
    for (size_t i = 0; i < sizeof odd / sizeof *odd; i++) {
        strcpy(name, odd[i]);
        WORKS(write_file(path, odd[i]));
    }
    for (size_t i = 0; i < sizeof odd / sizeof *odd; i++) {
        strcpy(name, odd[i]);
        HOLDS(holds(other, path, odd[i]));
        IS(listed(other, "/w/odd", odd[i]), 1);
        WORKS(nfs_unlink(other, path));
        IS(error_of(nfs, path), -ENOENT);
    }
    memset(name, 'n', 255);
    name[255] = 0;
    WORKS(write_file(path, "long"));
    IS(listed(other, "/w/odd", name), 1);
    WORKS(nfs_unlink(nfs, path));
    memset(name, 'n', 256);
    name[256] = 0;
    IS(make_file(nfs, path, 0, 0600), -ENAMETOOLONG);
    WORKS(nfs_rmdir(nfs, "/w/odd"));
}

// --- checks: much, and several at once ---

// What is read in pieces of any size is what was written, all calls of a piece at once.
static void a_large_file(void) {
    enum { TOTAL = 64 * MIB, PIECE = 4 * MIB };
    unsigned char *wrote = malloc(PIECE), *got = malloc(PIECE);
    uint64_t sum_wrote = 0, sum_got = 0, at, end = 48 * MIB + 13;
    struct nfsfh *file;
    WORKS(nfs_open2(nfs, "/w/large", O_CREAT | O_RDWR, 0644, &file));
    for (at = 0; at < TOTAL; at += PIECE) {
        fill(wrote, at, PIECE);
        for (size_t i = 0; i < PIECE; i++) sum_wrote = sum_wrote * 31 + wrote[i];
        IS(nfs_pwrite(nfs, file, at, PIECE, wrote), PIECE);
    }
    WORKS(nfs_fsync(nfs, file));
    WORKS(nfs_close(nfs, file));
    IS(stat_of("/w/large").nfs_size, TOTAL);
    WORKS(nfs_open(other, "/w/large", O_RDWR, &file));
    for (at = 0; at < TOTAL;) {
        size_t len = PIECE - 4321 < TOTAL - at ? PIECE - 4321 : TOTAL - at;
        IS(nfs_pread(other, file, at, len, got), len);
        fill(wrote, at, len);
        HOLDS(!memcmp(wrote, got, len));
        for (size_t i = 0; i < len; i++) sum_got = sum_got * 31 + got[i];
        at += len;
    }
    IS(sum_got, sum_wrote);
    WORKS(nfs_ftruncate(other, file, end));
    IS(nfs_pread(other, file, end - 100, PIECE, got), 100);
    fill(wrote, end - 100, 100);
    HOLDS(!memcmp(wrote, got, 100));
    WORKS(nfs_close(other, file));
    WORKS(nfs_unlink(other, "/w/large"));
    free(wrote);
    free(got);
}

// Every name in a directory is listed once, with its attributes; names are numbers.
static void lists_numbers(struct nfs_context *as, const char *dir, int first, int step, int count) {
    char *seen = calloc((size_t)count, 1);
    int total = 0;
    struct nfsdir *open;
    struct nfsdirent *entry;
    WORKS(nfs_opendir(as, dir, &open));
    while ((entry = nfs_readdir(as, open))) {
        int number = atoi(entry->name);
        if (entry->name[0] == '.') continue;
        HOLDS(number < count && number % step == first && !seen[number]);
        IS(entry->mode & 07777, 0604);
        IS(entry->type, NF3REG);
        HOLDS(entry->inode > 1 && entry->nlink == 1);
        seen[number] = 1;
        total++;
    }
    nfs_closedir(as, open);
    IS(total, (count - first + step - 1) / step);
    free(seen);
}

static void a_large_directory(void) {
    char path[100];
    WORKS(nfs_mkdir2(nfs, "/w/many", 0755));
    for (int i = 0; i < names; i++) {
        snprintf(path, sizeof path, "/w/many/%d", i);
        WORKS(make_file(nfs, path, O_EXCL, 0604));
    }
    lists_numbers(nfs, "/w/many", 0, 1, names);
    for (int i = 0; i < names && !*fault; i += 2) {
        snprintf(path, sizeof path, "/w/many/%d", i);
        WORKS(nfs_unlink(other, path));
    }
    if (!*fault) lists_numbers(nfs, "/w/many", 1, 2, names);
    for (int i = 1; i < names && !*fault; i += 2) {
        snprintf(path, sizeof path, "/w/many/%d", i);
        WORKS(nfs_unlink(nfs, path));
    }
    if (!*fault) WORKS(nfs_rmdir(nfs, "/w/many"));
}

static void what_another_removes_is_stale(void) {
    struct nfsfh *file;
    struct nfs_stat_64 st;
    char buffer[10];
    uint64_t ino;
    WORKS(write_file("/w/shared", "data"));
    ino = stat_of("/w/shared").nfs_ino;
    WORKS(nfs_open(nfs, "/w/shared", O_RDWR, &file));
    WORKS(nfs_rename(other, "/w/shared", "/w/renamed"));
    IS(nfs_pwrite(nfs, file, 4, 5, " more"), 5); // A handle is the file's, not the name's.
    HOLDS(holds(other, "/w/renamed", "data more"));
    WORKS(nfs_unlink(other, "/w/renamed"));
    IS(nfs_fstat64(nfs, file, &st), -ESTALE);
    HOLDS(nfs_pread(nfs, file, 0, sizeof buffer, buffer) < 0);
    WORKS(write_file("/w/renamed", "another"));
    HOLDS(stat_of("/w/renamed").nfs_ino != ino);
    nfs_close(nfs, file);
}

// What each of two processes does beside the other; how many names it was first to take.
static int contend(int me) {
    struct nfs_context *as = client(0, 0, 0, NULL);
    struct nfsfh *file;
    char path[100], to[100], block[100];
    int first = 0;
    if (nfs_open(as, "/w/both/blocks", O_RDWR, &file)) exit(255);
    for (int i = 0; i < 100; i++) {
        snprintf(path, sizeof path, "/w/both/taken%d", i);
        int taken = make_file(as, path, O_EXCL, 0600);
        if (taken && taken != -EEXIST) exit(255);
        first += !taken;
        // Blocks of the two alternate, and do not meet.
        memset(block, 'A' + me, sizeof block);
        if (nfs_pwrite(as, file, (uint64_t)(2 * i + me) * 100, 100, block) != 100) exit(255);
        // Both replace one name all the time.
        snprintf(path, sizeof path, "/w/both/tmp%d", me);
        snprintf(to, sizeof to, "/w/both/kept%d-%d", me, i);
        if (make_file(as, path, O_EXCL, 0600) || nfs_link(as, path, to)) exit(255);
        if (nfs_rename(as, path, "/w/both/contended")) exit(255);
    }
    if (nfs_close(as, file)) exit(255);
    return first;
}

static void two_at_once(void) {
    pid_t children[2];
    int status, first = 0;
    struct nfsfh *file;
    static char data[20000];
    WORKS(nfs_mkdir2(nfs, "/w/both", 0755));
    WORKS(make_file(nfs, "/w/both/blocks", 0, 0600));
    fflush(stdout);
    for (int me = 0; me < 2; me++) {
        children[me] = fork();
        if (!children[me]) _exit(contend(me));
    }
    for (int me = 0; me < 2; me++) {
        HOLDS(waitpid(children[me], &status, 0) == children[me]);
        HOLDS(WIFEXITED(status) && WEXITSTATUS(status) <= 100);
        first += WEXITSTATUS(status);
    }
    IS(first, 100);
    WORKS(nfs_open(nfs, "/w/both/blocks", O_RDONLY, &file));
    IS(nfs_pread(nfs, file, 0, sizeof data, data), sizeof data);
    for (size_t i = 0; i < sizeof data; i++) IS(data[i], i / 100 % 2 ? 'B' : 'A');
    WORKS(nfs_close(nfs, file));
    // Each was replaced but the last, and has the name it was given besides.
    IS(listed(nfs, "/w/both", "contended"), 1);
    IS(listed(nfs, "/w/both", "tmp0") + listed(nfs, "/w/both", "tmp1"), 0);
    IS(stat_of("/w/both/contended").nfs_nlink, 2);
    IS(stat_of("/w/both/kept0-0").nfs_nlink + stat_of("/w/both/kept1-0").nfs_nlink, 2);
    HOLDS(stat_of("/w/both/contended").nfs_ino == stat_of("/w/both/kept0-99").nfs_ino ||
          stat_of("/w/both/contended").nfs_ino == stat_of("/w/both/kept1-99").nfs_ino);
}

static void only_what_is_there_is_mounted(void) {
    struct nfs_context *new = nfs_init_context();
    char text[200];
    struct nfs_url *url;
    snprintf(text, sizeof text, "nfs://%s/?version=3&nfsport=%d&mountport=%d", address, port, port);
    url = nfs_parse_url_dir(new, text);
    HOLDS(url);
    HOLDS(nfs_mount(new, address, "/missing") < 0);
    nfs_destroy_url(url);
    nfs_destroy_context(new);
    new = nfs_init_context();
    url = nfs_parse_url_dir(new, text);
    // A directory below, whose root is then what is called so.
    WORKS(nfs_mount(new, address, "/w"));
    IS(error_of(new, "/a"), 0);
    WORKS(nfs_umount(new));
    nfs_destroy_url(url);
    nfs_destroy_context(new);
}

static const struct {
    const char *name;
    void (*run)(void);
} checks[] = {
#define CHECK(name) {#name, name}
    CHECK(create), CHECK(exclusive_create), CHECK(what_is_missing), CHECK(write_and_read),
    CHECK(gaps_read_as_zeros), CHECK(append), CHECK(truncate_and_grow), CHECK(synced),
    CHECK(mode_owner_and_times), CHECK(others_may_do_what_they_may), CHECK(room_is_told),
    CHECK(directories), CHECK(symbolic_links), CHECK(hard_links), CHECK(nodes), CHECK(renames),
    CHECK(names_are_bytes), CHECK(a_large_file), CHECK(a_large_directory),
    CHECK(what_another_removes_is_stale), CHECK(two_at_once),
    CHECK(only_what_is_there_is_mounted),
};

int main(int count, char **arguments) {
    if (count != 4) {
        fputs("say an address, a port, and how many names\n", stderr);
        return 2;
    }
    address = arguments[1];
    port = atoi(arguments[2]);
    names = atoi(arguments[3]);
    nfs = client(0, 0, 0, NULL);
    other = client(0, 0, 0, NULL);
    if (nfs_mkdir2(nfs, "/w", 0755)) {
        printf("FAIL mkdir: %s\n", nfs_get_error(nfs));
        return 1;
    }
    for (size_t i = 0; i < sizeof checks / sizeof *checks; i++) {
        *fault = 0;
        checks[i].run();
        if (*fault) {
            for (char *c = fault; *c; c++)
                if (*c == '\n') *c = ' ';
            printf("FAIL %s: %s\n", checks[i].name, fault);
        } else {
            printf("PASS %s\n", checks[i].name);
        }
        fflush(stdout);
    }
    nfs_destroy_context(nfs);
    nfs_destroy_context(other);
    puts("DONE");
    return 0;
}
