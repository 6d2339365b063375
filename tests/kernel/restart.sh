#!/bin/busybox sh
# shellcheck shell=busybox disable=SC2016
# `kill -9` of the server, KILLS times, under a client that writes and fsyncs. What was
# fsynced is there. Over NFS nobody notices more than a pause; 9P knows no second
# connection: calls fail until it is mounted anew.
. "${0%/*}/common.sh"

head -c 8388608 /dev/urandom >/mnt/random

bytes_written() { counter WRITE 5; }

# Writes a file, and calls fsync when it may. Closing the file would do that too.
WRITE_UNSTABLE='
    open(my $in, "<", "/mnt/random"); open(my $out, "+>", "/mnt/b/unstable"); local $/;
    syswrite($out, <$in>) == 8388608 or die "write: $!";
    open(my $sent, ">", "/mnt/sent");
    select(undef, undef, undef, 0.05) until -e "/mnt/commit";
    $out->sync or die "fsync: $!";
'

# What takes a second to write.
many() { for _ in $(seq 12); do cat /mnt/random; done; }

restart() {
    ask kill
    usleep $((RANDOM * 10))
    ask start
}

over_nfs() {
    local round before commits pid
    mount_nfs /mnt/a || return
    cd /mnt/a || return
    write_records &
    exec 7>>held 8<>removed 9<held
    echo before >&7
    echo before >&8
    rm removed
    for round in $(seq "$KILLS"); do
        check "writes-$round" 'wait_for_records 5'
        restart
        check "goes-on-$round" 'wait_for_records 5'
    done
    check held-file 'echo behind >&7 && sync -d held && [ "$(cat held)" = "before
behind" ]'
    drop_caches
    check held-for-reading '[ "$(cat <&9)" = "before
behind" ]'
    check removed-file 'echo behind >&8 && [ "$(stat -L -c %s /proc/self/fd/8)" = 14 ]'
    exec 7>&- 8>&- 9<&-
    touch /mnt/stop
    wait

    # Nothing on its way: what the server has now is what it had promised, also by a close.
    echo closed >closed
    restart
    drop_caches
    check fsynced-records records_are_whole
    check closed-is-safe '[ "$(cat closed)" = closed ]'

    # Handed to the server, which dies before it is told to keep it.
    check mount-eager 'mount_nfs /mnt/b nosharecache,write=eager'
    before=$(bytes_written) commits=$(counter COMMIT 2)
    perl -MIO::Handle -e "$WRITE_UNSTABLE" 2>/mnt/error &
    pid=$!
    until [ -e /mnt/sent ] && [ $(($(bytes_written) - before)) -ge 8388608 ] || ! kill -0 $pid; do usleep 50000; done
    check sent-unstable "cat /mnt/error; [ -e /mnt/sent ] && [ \"\$(counter COMMIT 2)\" = $commits ]"
    before=$(bytes_written)
    restart
    touch /mnt/commit
    finished commit
    check sent-again "sent=\$((\$(bytes_written) - $before)); echo \$sent; [ \$sent -ge 8388608 ]"

    # In the midst of being sent.
    sysctl -q vm.dirty_background_bytes=1048576
    before=$(bytes_written)
    many | dd of=midst bs=64k conv=fsync 2>/mnt/error &
    pid=$!
    until [ "$(bytes_written)" -gt "$before" ]; do usleep 10000; done
    ask kill
    check in-the-midst "kill -0 $pid"
    ask start
    finished write-in-the-midst
    restart
    drop_caches
    check unstable-is-there 'cmp unstable /mnt/random'
    check midst-is-there 'many | cmp midst -'
    check no-errors no_errors
    cd /
    check unmount 'umount /mnt/b && umount /mnt/a'
}

over_9p() {
    local round writer
    for round in $(seq "$KILLS"); do
        mount_9p /mnt/a || return
        [ "$round" = 1 ] || check "fsynced-records-$round" records_are_whole
        # The one that was not answered may be there or not.
        head -n "$(cat /mnt/safe)" /mnt/a/records 2>/dev/null >/mnt/expected
        cp /mnt/expected /mnt/a/records
        check "fsync-$round" "dd if=/mnt/random of=/mnt/a/fsynced$round bs=1M conv=fsync"
        write_records &
        writer=$!
        check "writes-$round" 'wait_for_records 5'
        ask kill
        wait $writer
        check "is-told-$round" '[ -s /mnt/error ] && ! ls /mnt/a'
        ask start
        check "connects-no-more-$round" '! ls /mnt/a 2>/mnt/error && cat /mnt/error && grep -qi ": i.*o.* error" /mnt/error'
        check "unmount-$round" 'umount /mnt/a'
    done
    mount_9p /mnt/a || return
    check fsynced-records records_are_whole
    check fsynced-files 'for file in /mnt/a/fsynced*; do cmp $file /mnt/random || exit; done'
    check unmount 'umount /mnt/a'
}

echo 0 >/mnt/safe
"over_$PROTOCOL"
