#!/bin/busybox sh
# shellcheck shell=busybox disable=SC2016
# Two clients of one server: what each sees of what the other does, and when.
. "${0%/*}/common.sh"

is() { [ "$1" = "$2" ] || { echo "$1 is not $2"; return 1; }; }

over_nfs() {
    # Each has its own view, or they would be one client.
    mount_nfs /mnt/a nosharecache && mount_nfs /mnt/b nosharecache || return
    check opened-after-closed 'echo one >/mnt/a/f && is "$(cat /mnt/b/f)" one &&
        echo second >/mnt/a/f && is "$(cat /mnt/b/f)" second && echo 3 >>/mnt/b/f && is "$(wc -c </mnt/a/f)" 9'
    check lock-of-one-client 'flock /mnt/a/l sh -c "! flock -n /mnt/a/l true"'
    check lock-of-another-client 'flock /mnt/a/l flock -n /mnt/b/l true'
    check removed-while-open 'echo kept >/mnt/a/s && exec 5<>/mnt/a/s && rm /mnt/a/s &&
        ls -A /mnt/a | grep "^\.nfs" && is "$(cat <&5)" kept'
    check removed-by-another 'echo gone >/mnt/a/t && exec 5</mnt/a/t && rm /mnt/b/t && drop_caches &&
        ! cat <&5 2>/mnt/error && cat /mnt/error && grep -qi stale /mnt/error'
    check seen-within-a-minute 'echo x >/mnt/a/late && is "$(stat -c %a /mnt/b/late)" 644 && [ ! -e /mnt/b/new ] &&
        chmod 600 /mnt/a/late && echo x >/mnt/a/new && sees "[ -e /mnt/b/new ]" && sees "[ \$(stat -c %a /mnt/b/late) = 600 ]"'
    check attributes-not-cached 'umount /mnt/b && mount_nfs /mnt/b nosharecache,actimeo=0 &&
        [ ! -e /mnt/b/x ] && echo x >/mnt/a/x && [ -e /mnt/b/x ] && mv /mnt/a/x /mnt/a/y && [ ! -e /mnt/b/x ] && [ -e /mnt/b/y ] &&
        chmod 600 /mnt/a/y && is "$(stat -c %a /mnt/b/y)" 600'
}

# sees COMMANDS: they succeed within a minute, which is how long attributes are kept at most.
sees() {
    local start
    start=$(date +%s)
    until (eval "$1"); do
        [ $(($(date +%s) - start)) -le 62 ] || { echo "not after a minute: $1"; return 1; }
        sleep 1
    done
}

over_9p() {
    mount_9p /mnt/a && mount_9p /mnt/b || return
    check data-at-once 'echo one >/mnt/a/f && exec 5<>/mnt/b/f 6>>/mnt/a/f && echo more >&6 && is "$(cat <&5)" "one
more" && echo other >&5 && is "$(tail -n 1 /mnt/a/f)" other'
    check names-at-once '[ ! -e /mnt/b/x ] && echo x >/mnt/a/x && [ -e /mnt/b/x ] && mv /mnt/a/x /mnt/a/y && [ ! -e /mnt/b/x ] &&
        [ -e /mnt/b/y ] && chmod 600 /mnt/a/y && is "$(stat -c %a /mnt/b/y)" 600'
    check lock-of-another-client 'flock /mnt/a/l sh -c "! flock -n /mnt/b/l true" && flock -n /mnt/b/l true'
    check removed-while-open 'echo kept >/mnt/a/s && exec 5</mnt/a/s && rm /mnt/a/s && is "$(cat <&5)" kept && is "$(ls -A /mnt/a | grep -c "^\.")" 0'
    check removed-by-another 'echo kept >/mnt/a/t && exec 5</mnt/a/t && rm /mnt/b/t && is "$(cat <&5)" kept'
}

"over_$PROTOCOL"
check unmount 'umount /mnt/b && umount /mnt/a'
