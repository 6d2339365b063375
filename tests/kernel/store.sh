#!/bin/busybox sh
# shellcheck shell=busybox disable=SC2016
# A store that takes a second for each call, for SLOW seconds, is then away for AWAY
# seconds, and slow again. Programs notice nothing but a pause, and nothing of that where
# the store is not needed.
. "${0%/*}/common.sh"

# What is asked of the server and needs no store is answered at once, while reads and
# writes wait on the same connection. Without any process, which takes longer than that.
quick() {
    local i=0 up idle word before
    while [ $((i += 1)) -le 20 ]; do
        read -r up idle </proc/uptime
        before=${up%.*}${up#*.}
        [ ! -e "/mnt/a/missing$RANDOM$i" ] && read -r word </mnt/a/small && [ "$word" = small ] || return
        read -r up idle </proc/uptime
        [ $((${up%.*}${up#*.} - before)) -lt 80 ] || { echo "it took from $before to $up"; return 1; }
    done
}

# No answer was waited for in vain, which takes a minute.
no_waits() { awk '/:/ && NF == 10 && $4 + 0 > 0 {print; found = 1} END {exit found}' /proc/self/mountstats; }

# Thousands of small writes while the store is slow, so that more are under way than the
# server takes in at a time, and more than may wait for the store.
many_writes() {
    ask slow
    check mount-for-small-writes 'mount_nfs /mnt/b nosharecache,wsize=16384'
    check many-small-writes 'stream 3 | dd of=/mnt/b/many bs=1M conv=fsync'
    check more-than-256-under-way '
        most=$(awk "\$1 == \"xprt:\" && \$13 > most {most = \$13} END {print most + 0}" /proc/self/mountstats)
        echo "$most at most"; [ "$most" -gt 256 ]'
    ask fair
    drop_caches
    check many-are-whole 'stream 3 | cmp - /mnt/b/many'
    check unmount-of-small-writes 'umount /mnt/b'
}

head -c 20000000 /dev/urandom >/mnt/random
"mount_$PROTOCOL" /mnt/a || exit
cd /mnt/a || exit
check prepare 'for i in 1 2 3; do cp /mnt/random cold$i || exit; done; echo small >small && sync -f .'
check prepare-names 'mkdir names && for i in $(seq 200); do echo $i >names/$i || exit; done && sync -f .'
exec 9<small
# Nothing is cached any more, there or here.
ask cold
drop_caches
check small '[ "$(cat small)" = small ]'

echo 0 >/mnt/safe
write_records &
records=$!
ask slow
cmp cold1 /mnt/random 2>/mnt/error1 &
first=$!
sleep "$SLOW"
check quick-while-slow quick

ask away
cmp cold2 /mnt/random 2>/mnt/error2 &
second=$!
(cp /mnt/random new1 && cp /mnt/random new2 && sync -f .) 2>/mnt/error3 &
third=$!
# In a file of which nothing is here.
(echo changed | dd of=cold3 bs=1 seek=1000000 conv=notrunc,fsync) 2>/mnt/error4 &
fourth=$!
sleep 2
check quick-while-away quick
# Names and attributes need no store either. Nothing of them is cached here.
drop_caches
check listed-while-away '[ "$(/usr/bin/ls -ln names | grep -c "^-rw-r--r--")" = 200 ]'
check names-while-away 'mkdir new && mv names/1 new/1 && mv new/1 names/2 && rmdir new && mv names other && mkdir kept &&
    rm other/3 && ln -s other link && ln other/4 kept/4 && chmod 600 other/5'
safe=$(cat /mnt/safe)
sleep "$AWAY"
check reads-wait "kill -0 $second"
check fsync-needs-no-store "[ \"\$(cat /mnt/safe)\" -gt $safe ]"

ask slow
sleep 5
check quick-while-slow-again quick
ask fair
# finished NAME NUMBER PROCESS: nothing failed.
ended() {
    pid=$3
    cp "/mnt/error$2" /mnt/error
    finished "$1"
}
ended read-while-slow 1 $first
ended read-while-away 2 $second
ended written-while-away 3 $third
ended changed-while-away 4 $fourth
check records-go-on 'wait_for_records 5'
touch /mnt/stop
pid=$records
finished records
drop_caches
check records-are-whole records_are_whole
check files-are-whole 'cmp new1 /mnt/random && cmp new2 /mnt/random && cmp cold2 /mnt/random'
check names-are-there '[ ! -e names ] && [ ! -e new ] && [ "$(cat other/2)" = 1 ] && [ ! -e other/3 ] && [ "$(cat kept/4)" = 4 ] &&
    [ "$(readlink link)" = other ] && [ "$(stat -c %a other/5)" = 600 ] && [ "$(names other | wc -l)" = 198 ]'
check change-is-there '{ head -c 1000000 /mnt/random; echo changed; tail -c +1000009 /mnt/random; } | cmp - cold3'
drop_caches
check what-was-open-works '[ "$(cat <&9)" = small ]'
exec 9<&-
# What is to come again counts as an error: reads and changes.
[ "$PROTOCOL" = 9p ] || check no-errors 'no_errors SETATTR READ WRITE COMMIT && no_waits'
[ "$PROTOCOL" = 9p ] || many_writes
cd /
check unmount 'umount /mnt/a'
check no-words-of-errors '! dmesg | grep -i "not responding\|i/o error\|call trace"'
