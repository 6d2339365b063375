#!/bin/bash
# shellcheck disable=SC2016
# The program in the guest itself, where there is no FUSE: `mount --via nfs` through its
# whole life, and what `serve` serves on one machine. PROGRAM is the program.
. "${0%/*}/common.sh"

# The system's own mount command: it is the one that the program finds.
export PATH=${PATH#/mnt/bin:} P=$PROGRAM TGCRYPTFS_PASSWORD_FILE=/mnt/password
(umask 077 && echo "correct horse battery" >$TGCRYPTFS_PASSWORD_FILE)
status() { $P status --json | sed -n "s/.*\"$1\": \"*\([^\",]*\).*/\1/p" | head -n 1; }
is_mounted() { grep -q ' nfs ' /proc/mounts; }
as_user() { setpriv --reuid=1000 --regid=1000 --clear-groups "$@"; }
soon() { for _ in $(seq 40); do "$@" && return; sleep 0.25; done; return 1; }
not() { ! "$@"; }
# Status 1 is that there is none; any other, that nobody can say.
no_daemon() { local status=0; pgrep -f -- --daemon-child || status=$?; [ $status = 1 ]; }
has_ended() { soon no_daemon; }
kill_daemon() { kill -9 "$(status pid)" $1; sleep 0.5; }
export -f status is_mounted as_user soon not no_daemon has_ended kill_daemon

head -c 20000000 /dev/urandom >/mnt/random
check "a vault" '$P init --store file:///mnt/store --set encryption.argon2_memory_kib=19456 \
    --set encryption.argon2_iterations=2'

check "without FUSE, auto means NFS" '$P mount /mnt/a && is_mounted && [ "$(status via)" = nfs ]'
check "files" 'echo hello >/mnt/a/a && cp /mnt/random /mnt/a/r &&
    echo 3 >/proc/sys/vm/drop_caches && cmp /mnt/a/r /mnt/random && [ "$(cat /mnt/a/a)" = hello ]'
check "locks" 'exec 9<>/mnt/a/a && flock -n 9 && not flock -n /mnt/a/a true'
check "others see nothing" 'chmod 755 /mnt/a && not as_user cat /mnt/a/a'
check "others cannot even ask" 'as_user bash -c "exec 3<>/dev/tcp/127.0.0.1/$(status address | cut -d: -f2)" &&
    soon grep -q "its user is not on the list of those that are allowed" "$(status log)"'
check "its path is good for one mount" 'source=$(awk "/ nfs /{print \$1}" /proc/mounts)
    port=$(status address | cut -d: -f2)
    not mount -i -t nfs -o vers=3,proto=tcp,port=$port,mountproto=tcp,mountport=$port,addr=127.0.0.1,nolock \
        "$source" /mnt/b'
check "the log does not tell the path" 'not grep -q "tgcryptfs-[0-9a-f]\{32\}" "$(status log)"'
check "what is open keeps it" 'exec 8</mnt/a/a && not $P unmount /mnt/a'
check "unmounting" '$P unmount /mnt/a && not is_mounted && has_ended'

check "a server that is killed leaves no mount" '$P mount --via nfs /mnt/a && is_mounted &&
    [ "$(cat /mnt/a/a)" = hello ] && kill_daemon && soon not is_mounted'
check "what is left is freed by the next mount" '$P mount --via nfs /mnt/a &&
    kill_daemon "$(pgrep -f unmount-on-death)" && is_mounted && $P mount --via nfs /mnt/a &&
    [ "$(cat /mnt/a/a)" = hello ] && [ "$(grep -c " nfs " /proc/mounts)" = 1 ]'
check "or by unmount" 'kill_daemon "$(pgrep -f unmount-on-death)" && is_mounted &&
    $P unmount /mnt/a && not is_mounted'
check "umount ends it" '$P mount --via nfs /mnt/a && umount /mnt/a && has_ended'
check "a signal ends it" '$P mount --via nfs /mnt/a && echo late >/mnt/a/late &&
    kill "$(status pid)" && has_ended && not is_mounted'
check "a signal while a file is open" '$P mount --via nfs /mnt/a && exec 6>/mnt/a/open && echo 1 >&6 &&
    kill "$(status pid)" && soon not is_mounted && echo 2 >&6 && exec 6>&- && has_ended'
check "lazily, while a file is open" '$P mount --via nfs /mnt/a && [ "$(cat /mnt/a/late)" = late ] &&
    [ "$(cat /mnt/a/open)" = "$(printf "1\n2")" ] && exec 6</mnt/a/a &&
    { $P unmount --lazy /mnt/a 6<&- & } && soon not is_mounted && [ "$(cat <&6)" = hello ] &&
    exec 6<&- && wait && has_ended'
check "read-only" '$P mount --via nfs --read-only /mnt/a && not touch /mnt/a/x &&
    [ "$(cat /mnt/a/late)" = late ] && $P unmount /mnt/a'
check "for others too" '$P mount --via nfs --allow-other /mnt/a &&
    [ "$(as_user cat /mnt/a/a)" = hello ] && $P unmount /mnt/a'

options=vers=3,proto=tcp,port=2049,mountproto=tcp,mountport=2049,nolock
# A mount that root makes of what is served is for root, unless it is for others too.
check "served NFS, to others too" '$P serve nfs --listen 127.0.0.1:2049 --allow-other | grep -F "'$options' 127.0.0.1:/ /mnt" &&
    mount -i -t nfs -o '$options',addr=127.0.0.1 127.0.0.1:/ /mnt/b &&
    [ "$(as_user cat /mnt/b/a)" = hello ] && echo x >/mnt/b/x && as_user cat /mnt/b/x'
check "goes on after a kill" 'exec 5</mnt/b/r && sync /mnt/b/x && kill_daemon &&
    $P serve nfs --listen 127.0.0.1:2049 5<&- && [ "$(cat /mnt/b/x)" = x ] && cmp - /mnt/random <&5'
check "not to others then" 'not as_user cat /mnt/b/x && [ "$(cat /mnt/b/x)" = x ]'
check "until it is ended" 'umount /mnt/b && $P unmount 127.0.0.1:2049 && has_ended'

check "9P through a path" '
    command=$($P serve 9p --listen unix:/mnt/vault.sock | sed -n "s/^  mount/mount -i/p") &&
    ${command% /mnt} /mnt/b && [ "$(cat /mnt/b/a)" = hello ] && echo y >/mnt/b/y &&
    umount /mnt/b && $P unmount unix:/mnt/vault.sock && not test -e /mnt/vault.sock'
check "9P over TCP, read-only" '
    command=$($P serve 9p --read-only --listen 127.0.0.1:5640 | sed -n "s/^  mount/mount -i/p" | head -n 1) &&
    ${command% /mnt} /mnt/b && [ "$(cat /mnt/b/y)" = y ] && not touch /mnt/b/z &&
    umount /mnt/b && $P unmount 127.0.0.1:5640'
check "all is well" '$P fsck && has_ended'
