#!/bin/busybox sh
# shellcheck shell=busybox disable=SC2016
# A database, in each kind of journal. The shared memory of a write-ahead log must be
# mapped, for which the 9P client needs a cache.
. "${0%/*}/common.sh"

"mount_$PROTOCOL" /mnt/a || exit
mount_9p /mnt/b mmap || exit

transactions() {
    local mode=$1 i=0
    echo "PRAGMA journal_mode = $mode; PRAGMA synchronous = EXTRA; CREATE TABLE t (id INTEGER PRIMARY KEY, text);"
    while [ $((i += 1)) -le 20 ]; do
        echo "BEGIN; WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 50)
            INSERT INTO t (text) SELECT hex(randomblob(200)) FROM n; COMMIT;"
    done
    echo "BEGIN; DELETE FROM t; ROLLBACK; UPDATE t SET text = 'x' WHERE id % 2; VACUUM;"
}

for mode in delete truncate persist wal; do
    dir=/mnt/a
    [ $mode = wal ] && dir=/mnt/b
    check "$mode" "transactions $mode | sqlite3 -bail $dir/$mode.db"
    drop_caches
    check "$mode-is-whole" "[ \"\$(sqlite3 $dir/$mode.db 'PRAGMA integrity_check; SELECT count(*), sum(text = '\''x'\'') FROM t')\" = \"ok
1000|500\" ]"
done
check two-writers 'for writer in 1 2; do
        for i in $(seq 20); do echo "PRAGMA busy_timeout = 60000; INSERT INTO t (text) VALUES ($writer);"; done |
            sqlite3 -bail /mnt/a/delete.db >/dev/null & pids="$pids $!"
    done; for pid in $pids; do wait $pid || exit 1; done; [ "$(sqlite3 /mnt/a/delete.db "SELECT count(*) FROM t")" = 1040 ]'
check unmount 'umount /mnt/b && umount /mnt/a'
