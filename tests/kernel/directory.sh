#!/bin/busybox sh
# shellcheck shell=busybox disable=SC2016
# A directory of COUNT files, which one client lists while a second one creates and
# removes others there: each that was there throughout is listed once.
. "${0%/*}/common.sh"

case $PROTOCOL in
    # Of its own, so that it knows nothing of what the first has cached.
    nfs) mount_nfs /mnt/a && mount_nfs /mnt/b nosharecache ;;
    9p) mount_9p /mnt/a && mount_9p /mnt/b ;;
esac || exit
mkdir /mnt/a/d
start=$(date +%s)
check create 'cd /mnt/a/d && for i in $(seq "$COUNT"); do : >$i || exit; done'
echo "NOTE $COUNT files made in $(($(date +%s) - start)) seconds"

# Until it is told to stop; says how often it went round.
come_and_go() {
    local round=0 i
    cd /mnt/b/d || exit
    until [ -e /mnt/stop ]; do
        for i in $(seq 20); do : >"x$round-$i"; done
        for i in $(seq 20); do rm "x$round-$i"; done
        : >"stays$round"
        echo $((round += 1)) >/mnt/rounds
    done
}

# Names of numbers are those that were there from the beginning.
lists_each_once() {
    drop_caches
    names /mnt/a/d | grep -x '[0-9]*' | sort -n >/mnt/listed
    seq "$COUNT" | cmp - /mnt/listed
}

come_and_go &
until [ -s /mnt/rounds ]; do usleep 100000; done
for pass in 1 2; do
    before=$(cat /mnt/rounds)
    check "listed-once-$pass" lists_each_once
    check "changed-meanwhile-$pass" "echo $before then; cat /mnt/rounds; [ \$(cat /mnt/rounds) -gt $before ]"
done
touch /mnt/stop
wait
check listed-by-the-second 'drop_caches; names /mnt/b/d | grep -cx "[0-9]*" | grep -qx "$COUNT"'
check stays 'names /mnt/a/d | grep -c stays | grep -qx "$(cat /mnt/rounds)"'
check remove 'cd /mnt/a && rm -rf d && [ ! -e d ] && drop_caches && [ ! -e /mnt/b/d ]'
check unmount 'umount /mnt/b && umount /mnt/a'
