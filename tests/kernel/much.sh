#!/bin/busybox sh
# shellcheck shell=busybox disable=SC2016
# Much at once: a file of half a gigabyte over NFS and of a quarter over 9P, written, fsynced
# and compared when nothing is cached here, and 5,000 files, made, looked at and removed.
# Then mounts with options that make the client ask in other ways.
. "${0%/*}/common.sh"

head -c 20000000 /dev/urandom >/mnt/random

# written_and_read FILE COUNT
written_and_read() { stream "$2" | dd of="$1" bs=1M conv=fsync && drop_caches && stream "$2" | cmp - "$1"; }

# looked_at DIRECTORY: the 5,000, with what they are and how long.
looked_at() {
    /usr/bin/ls -ln "$1" | awk '$1 == "-rw-r--r--" && $2 == 1 && $3 + $4 == 0 && $5 == length($9) + 1 {count++}
        END {print count + 0; exit count != 5000}'
}

# with OPTIONS COMMANDS: they succeed beside a second mount at /mnt/b, with these options.
with() {
    local result
    case $PROTOCOL in
        nfs) mount_nfs /mnt/b "nosharecache,$1" ;;
        9p) mount_9p /mnt/b none "$1" ;;
    esac || return
    (eval "$2")
    result=$?
    umount /mnt/b && return "$result"
}

"mount_$PROTOCOL" /mnt/a || exit
mkdir /mnt/a/d
if [ "$PROTOCOL" = nfs ]; then parts=27; else parts=14; fi
start=$(date +%s)
check much-data "written_and_read /mnt/a/much $parts"
check room 'rm /mnt/a/much && [ ! -e /mnt/a/much ]'
echo "NOTE $((parts * 20)) MB written and read in $(($(date +%s) - start)) seconds"
start=$(date +%s)
check many-files 'cd /mnt/a/d && for i in $(seq 5000); do echo $i >$i || exit; done'
drop_caches
check looked-at 'looked_at /mnt/a/d'
echo "NOTE 5000 files made and looked at in $(($(date +%s) - start)) seconds"

if [ "$PROTOCOL" = nfs ]; then
    for more in '' ,nordirplus; do
        check "listed-softly$more" 'with soft,timeo=50,retrans=1$more "lists /mnt/b/d 5000 && looked_at /mnt/b/d"'
    done
    check removed-without-readdirplus 'with nordirplus "rm -rf /mnt/b/d && [ ! -e /mnt/b/d ]"'
    check gone 'drop_caches; [ ! -e /mnt/a/d ]'
else
    for msize in 65536 131072; do
        check "msize-$msize" 'with msize=$msize "written_and_read /mnt/b/less 2 && lists /mnt/b/d 5000 && looked_at /mnt/b/d"'
    done
    # Everybody acts as who mounted.
    check access-any 'with access=any,uname=root "mkdir -m 1777 /mnt/b/pub &&
        as 1000 sh -c \"echo x >/mnt/b/pub/x\" && [ \"\$(stat -c %u:%s /mnt/b/pub/x)\" = 0:2 ]"'
    check remove 'rm -rf /mnt/a/d && [ ! -e /mnt/a/d ]'
fi
check unmount 'umount /mnt/a'
