#!/bin/busybox sh
# shellcheck shell=busybox
# Random operations on one file, beside a copy in memory: COUNT of them in small files,
# and in large ones. FSX is the program.
. "${0%/*}/common.sh"

# What is left out neither protocol has (holes), or the 9P client not without a cache
# (shared mappings). settings LENGTH_MAX OPERATION_MAX MAPPINGS
settings() {
    cat <<END
flen = $1
[opsize]
max = $2
[weights]
close_open = 1
invalidate = $(($3 > 0))
read = 10
write = 10
mapread = $3
mapwrite = $3
truncate = 5
fsync = 0.5
fdatasync = 0.5
posix_fallocate = 2
punch_hole = 0
sendfile = 5
posix_fadvise = 2
copy_file_range = 5
END
}

# Leaves a file that is the same when the mount is new.
fsx() {
    "$FSX" -q -q -N "$COUNT" -S "$1" -f /mnt/fsx.toml -P /mnt /mnt/a/file || { cat /mnt/fsx.toml; return 1; }
    sha256sum /mnt/a/file >/mnt/digest
    umount /mnt/a && "$mount" /mnt/a "$cache" && sha256sum -c /mnt/digest
}

case $PROTOCOL in
    nfs) mount=mount_nfs caches=ac mappings=10 ;;
    9p) mount=mount_9p caches='none mmap' mappings=0 ;;
esac
seed=1
for cache in $caches; do
    [ "$cache" = mmap ] && mappings=10
    "$mount" /mnt/a "$cache" || exit
    settings 262144 65536 $mappings >/mnt/fsx.toml
    check "small-file-$cache" "fsx $((seed += 1))"
    settings 3000000 400000 $mappings >/mnt/fsx.toml
    check "large-file-$cache" "fsx $((seed += 1))"
    check "unmount-$cache" 'umount /mnt/a'
done
