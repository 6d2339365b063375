#!/bin/busybox sh
# shellcheck shell=busybox disable=SC2016
# A directory of COUNT files, which one client lists while a second one creates and
# removes others there: each that was there throughout is listed once, and none twice.
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
        for i in 1 2 3 4 5; do : >"x$round-$i"; done
        for i in 1 2 3 4 5; do rm "x$round-$i"; done
        : >"stays$round"
        round=$((round + 1))
        echo $round >/mnt/round.new && mv /mnt/round.new /mnt/round
    done
}

# Twice, and until much has changed meanwhile. Names of numbers are those that were there
# from the beginning; the others may be listed or not, but no name is given twice, so none
# may be listed twice either.
lists_each_once() {
    local pass=0
    until [ $pass -ge 2 ] && [ "$(cat /mnt/round)" -ge 5 ]; do
        drop_caches
        names /mnt/a/d >/mnt/all
        sort /mnt/all | uniq -d >/mnt/twice
        [ ! -s /mnt/twice ] || { echo "listed twice:"; head -n 5 /mnt/twice; return 1; }
        grep -x '[0-9]*' /mnt/all | sort -n >/mnt/listed
        seq "$COUNT" | cmp - /mnt/listed || return
        pass=$((pass + 1))
        echo $pass >/mnt/pass
    done
}

echo 0 >/mnt/round
come_and_go &
check listed-once lists_each_once
echo "NOTE listed $(cat /mnt/pass) times while others came and went $(cat /mnt/round) times"
touch /mnt/stop
wait
check listed-by-the-second 'drop_caches; names /mnt/b/d | grep -cx "[0-9]*" | grep -qx "$COUNT"'
check stays 'names /mnt/a/d | grep -c stays | grep -qx "$(cat /mnt/round)"'
check remove 'cd /mnt/a && rm -rf d && [ ! -e d ] && drop_caches && [ ! -e /mnt/b/d ]'
check unmount 'umount /mnt/b && umount /mnt/a'
