// Passes calls on to an NFS server through libnfs: what a client sends over TCP comes in,
// libnfs decodes it, makes the call and decodes what the server answers, and that goes out,
// encoded by libnfs again. So whoever speaks to this speaks to the server in libnfs's words.
//
//     calls ADDRESS PORT
//
// All calls are of the same program; it ends when there are no more. What is not as it
// must be ends it with a line that says why.

#include <arpa/inet.h>
#include <poll.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <unistd.h>

#include <nfsc/libnfs.h>
#include <nfsc/libnfs-raw.h>
#include <nfsc/libnfs-raw-mount.h>
#include <nfsc/libnfs-raw-nfs.h>

#ifdef LIBNFS_API_V2
#error "libnfs 6 calls its functions otherwise; this is for 4 and 5"
#endif

enum { RECORD_MAX = 2 << 20, GROUPS_MAX = 16, PATIENCE_MS = 30000 };

// The arguments of any call.
union arguments {
    ACCESS3args access;
    COMMIT3args commit;
    CREATE3args create;
    FSINFO3args fsinfo;
    FSSTAT3args fsstat;
    GETATTR3args getattr;
    LINK3args link;
    LOOKUP3args lookup;
    MKDIR3args mkdir;
    MKNOD3args mknod;
    PATHCONF3args pathconf;
    READ3args read;
    READDIR3args readdir;
    READDIRPLUS3args readdirplus;
    READLINK3args readlink;
    REMOVE3args remove;
    RENAME3args rename;
    RMDIR3args rmdir;
    SETATTR3args setattr;
    SYMLINK3args symlink;
    WRITE3args write;
    dirpath mount;
};

static void die(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    fputs("calls: ", stderr);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
    exit(1);
}

// --- what goes on between us and libnfs ---

static zdrproc_t encode_answer;
static char answer[RECORD_MAX];
static uint32_t answer_len;
static int is_done;

static void connected(struct rpc_context *rpc, int status, void *data, void *unused) {
    (void)data;
    (void)unused;
    if (status != RPC_STATUS_SUCCESS) die("not connected: %s", rpc_get_error(rpc));
    is_done = 1;
}

static void answered(struct rpc_context *rpc, int status, void *data, void *unused) {
    ZDR zdr;
    (void)unused;
    if (status != RPC_STATUS_SUCCESS) die("refused: %s", data ? (char *)data : rpc_get_error(rpc));
    zdrmem_create(&zdr, answer, sizeof answer, ZDR_ENCODE);
    if (!encode_answer(&zdr, data)) die("an answer that cannot be encoded");
    answer_len = zdr_getpos(&zdr);
    zdr_destroy(&zdr);
    is_done = 1;
}

static void wait_for(struct rpc_context *rpc) {
    while (!is_done) {
        struct pollfd poll_fd = {.fd = rpc_get_fd(rpc), .events = (short)rpc_which_events(rpc)};
        if (poll(&poll_fd, 1, PATIENCE_MS) <= 0) die("no answer");
        if (rpc_service(rpc, poll_fd.revents) < 0) die("the connection: %s", rpc_get_error(rpc));
    }
    is_done = 0;
}

// --- the calls ---

struct procedure {
    zdrproc_t decode;
    zdrproc_t encode;
    int (*call)(struct rpc_context *rpc, void *arguments);
};

#define PROCEDURE(name, NAME)                                              \
    static int call_##name(struct rpc_context *rpc, void *arguments) {     \
        return rpc_nfs3_##name##_async(rpc, answered, arguments, NULL);    \
    }
#define PROCEDURES(EACH)                                                                        \
    EACH(getattr, GETATTR) EACH(setattr, SETATTR) EACH(lookup, LOOKUP) EACH(access, ACCESS)     \
    EACH(readlink, READLINK) EACH(read, READ) EACH(write, WRITE) EACH(create, CREATE)           \
    EACH(mkdir, MKDIR) EACH(symlink, SYMLINK) EACH(mknod, MKNOD) EACH(remove, REMOVE)           \
    EACH(rmdir, RMDIR) EACH(rename, RENAME) EACH(link, LINK) EACH(readdir, READDIR)             \
    EACH(readdirplus, READDIRPLUS) EACH(fsstat, FSSTAT) EACH(fsinfo, FSINFO)                    \
    EACH(pathconf, PATHCONF) EACH(commit, COMMIT)
PROCEDURES(PROCEDURE)

static int call_mount(struct rpc_context *rpc, void *arguments) {
    return rpc_mount3_mnt_async(rpc, answered, *(dirpath *)arguments, NULL);
}

#define ROW(name, NAME) \
    [NFS3_##NAME] = {(zdrproc_t)zdr_##NAME##3args, (zdrproc_t)zdr_##NAME##3res, call_##name},
static const struct procedure nfs_procedures[] = {PROCEDURES(ROW)};
static const struct procedure mount = {(zdrproc_t)zdr_dirpath, (zdrproc_t)zdr_mountres3, call_mount};

static const struct procedure *find(uint32_t program, uint32_t version, uint32_t number) {
    size_t count = sizeof nfs_procedures / sizeof *nfs_procedures;
    if (program == MOUNT_PROGRAM && version == MOUNT_V3 && number == MOUNT3_MNT) return &mount;
    if (program == NFS_PROGRAM && version == NFS_V3 && number < count && nfs_procedures[number].call)
        return &nfs_procedures[number];
    die("no procedure %u of version %u of program %u", number, version, program);
    return NULL;
}

// --- what comes in and goes out ---

static int read_all(void *buffer, size_t len) {
    char *at = buffer;
    while (len > 0) {
        ssize_t count = read(STDIN_FILENO, at, len);
        if (count <= 0) return 0;
        at += count;
        len -= (size_t)count;
    }
    return 1;
}

static void write_all(const void *buffer, size_t len) {
    const char *at = buffer;
    while (len > 0) {
        ssize_t count = write(STDOUT_FILENO, at, len);
        if (count <= 0) die("nobody reads");
        at += count;
        len -= (size_t)count;
    }
}

static uint32_t word(ZDR *zdr) {
    uint32_t value;
    if (!zdr_u_int(zdr, &value)) die("a call that is too short");
    return value;
}

// Calls as whom the header says.
static void take_credential(struct rpc_context *rpc, ZDR *zdr) {
    uint32_t groups[GROUPS_MAX], uid, gid, count, flavour = word(zdr), end = word(zdr);
    end += zdr_getpos(zdr);
    if (flavour != AUTH_UNIX) die("credentials of kind %u", flavour);
    word(zdr); // The stamp.
    count = word(zdr); // The machine's name, which libnfs gives itself.
    zdr_setpos(zdr, zdr_getpos(zdr) + ((count + 3) & ~3u));
    uid = word(zdr);
    gid = word(zdr);
    count = word(zdr);
    if (count > GROUPS_MAX) die("%u groups", count);
    for (uint32_t i = 0; i < count; i++) groups[i] = word(zdr);
    if (zdr_getpos(zdr) != end) die("credentials of another length");
    rpc_set_auth(rpc, libnfs_authunix_create("libnfs", uid, gid, count, groups));
}

static void send_answer(uint32_t xid) {
    // A reply, accepted, an empty verifier, success.
    uint32_t header[] = {htonl((24 + answer_len) | 1u << 31), htonl(xid), htonl(1), 0, 0, 0, 0};
    write_all(header, sizeof header);
    write_all(answer, answer_len);
}

int main(int count, char **arguments) {
    static char record[RECORD_MAX];
    struct rpc_context *rpc = rpc_init_context();
    int is_connected = 0;
    uint32_t mark;
    if (count != 3) die("say an address and a port");
    if (!rpc) die("no context");
    while (read_all(&mark, sizeof mark)) {
        union arguments decoded;
        uint32_t xid, program, version, len = ntohl(mark) & ~(1u << 31);
        const struct procedure *procedure;
        ZDR zdr;
        if (!(ntohl(mark) >> 31) || len > sizeof record || !read_all(record, len)) die("no call");
        zdrmem_create(&zdr, record, len, ZDR_DECODE);
        xid = word(&zdr);
        if (word(&zdr) != CALL || word(&zdr) != RPC_MSG_VERSION) die("no call");
        program = word(&zdr);
        version = word(&zdr);
        procedure = find(program, version, word(&zdr));
        take_credential(rpc, &zdr);
        if (word(&zdr) != AUTH_NONE || word(&zdr) != 0) die("a verifier");
        memset(&decoded, 0, sizeof decoded);
        if (!procedure->decode(&zdr, &decoded)) die("arguments that libnfs does not know");
        if (zdr_getpos(&zdr) != len) die("%u bytes of %u are arguments", zdr_getpos(&zdr), len);
        if (!is_connected) {
            if (rpc_connect_port_async(rpc, arguments[1], atoi(arguments[2]), (int)program,
                                       (int)version, connected, NULL))
                die("not connected: %s", rpc_get_error(rpc));
            wait_for(rpc);
            is_connected = 1;
        }
        encode_answer = procedure->encode;
        if (procedure->call(rpc, &decoded)) die("not called: %s", rpc_get_error(rpc));
        wait_for(rpc);
        zdr_destroy(&zdr);
        send_answer(xid);
    }
    rpc_destroy_context(rpc);
    return 0;
}
