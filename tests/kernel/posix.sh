#!/bin/busybox sh
# shellcheck shell=busybox
# pjdfstest: what system calls do, and for whom. Of its 398 cases those fail that are
# named here, and no others; docs/SEMANTICS.md explains each. PJDFSTEST is the program.
. "${0%/*}/common.sh"

# The C library does not know how many links a file may have here (pathconf).
case $PROTOCOL in
    nfs) known='link::link_count_max skipped
unlink::open_file_not_freed FAILED
utimensat::y2038 FAILED' ;;
    9p) known='chmod::clear_isgid_bit FAILED
link::link_count_max skipped
utimensat::subsecond FAILED' ;;
esac

# run_cases MAY_REMOUNT [PART OF A NAME]
run_cases() {
    cat >/mnt/pjdfstest.toml <<END
[features]
posix_fallocate = {}
rename_ctime = {}
utime_now = {}
utimensat = {}

[settings]
naptime = 0.02
allow_remount = $1
END
    shift
    "$PJDFSTEST" -c /mnt/pjdfstest.toml -p /mnt/a -s /mnt/other "$@" >/mnt/out/cases.log 2>&1
}

# Of those that did not pass, all but those that the second run is for.
fails_as_known() {
    awk '$2 == "FAILED" || $2 == "skipped" {print $1, $2}' /mnt/out/cases.log | grep -v erofs | sort >/mnt/failed
    echo "$known" | cmp - /mnt/failed || { grep -A 4 FAILED /mnt/out/cases.log; return 1; }
}

"mount_$PROTOCOL" /mnt/a || exit
echo "mounted"
# In two runs, because some cases leave files open, so that the read-only remounts behind
# them would find the file system busy, whatever file system it is.
run_cases false
check cases fails_as_known
echo "NOTE $(tail -n 2 /mnt/out/cases.log | grep Summary)"
check cases-that-remount 'run_cases true erofs || { cat /mnt/out/cases.log; exit 1; }'
check unmount 'umount /mnt/a'
