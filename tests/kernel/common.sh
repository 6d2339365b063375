# shellcheck shell=busybox
# What the guest's scripts share: mounting, checks, and asking the host for something.
# They run in busybox, whose commands are part of the shell: a process costs a tenth of
# a second in user-mode Linux, and starting a program twice that.

server=10.98.0.1
port=2049

# mount_nfs DIRECTORY [OPTION,OPTION…]
# With the addresses given, the kernel needs no helper: it asks for the root itself.
mount_nfs() {
    mount -i -t nfs -o "vers=3,tcp,nolock,addr=$server,port=$port,mountaddr=$server,mountproto=tcp,mountport=$port${2:+,$2}" \
        "$server:/" "$1"
}

# mount_9p DIRECTORY [CACHE] [OPTION,OPTION…]
mount_9p() {
    mount -i -t 9p -o "trans=tcp,port=$port,version=9p2000.L,msize=1048576,access=client,cache=${2:-none}${3:+,$3}" \
        "$server" "$1"
}

# counter OPERATION FIELD: of all that the NFS client has sent, by its own account: 2, how
# often; 4, how often it waited for an answer in vain; 5, bytes; 10, errors that came back.
counter() { awk -v op="$1:" -v field="$2" '$1 == op {sum += $field} END {print sum + 0}' /proc/self/mountstats; }

# No call to a file that is there came back with an error, a handle that means nothing any
# more among them. Names that are not there are errors too: so it is seen that they count.
no_errors() {
    local op
    for op in GETATTR SETATTR ACCESS READ WRITE COMMIT; do
        case " $* " in *" $op "*) continue ;; esac
        [ "$(counter $op 10)" = 0 ] || { echo "$op: $(counter $op 10) errors"; return 1; }
    done
    [ "$(counter LOOKUP 10)" -gt 0 ] || { echo "errors are not counted"; return 1; }
}

# check NAME COMMANDS: they succeed. They run in a shell of their own.
check() {
    if (eval "$2") </dev/null >/mnt/said 2>&1; then
        echo "PASS $1"
    else
        echo "FAIL $1: $(tr '\n' ' ' </mnt/said | head -c 400)"
    fi
}

# ask WHAT: the host does it, and this goes on.
ask() {
    echo "ASK $1"
    until [ -e "/mnt/out/$1" ]; do usleep 50000; done
    rm "/mnt/out/$1"
}

drop_caches() { echo 3 >/proc/sys/vm/drop_caches; }

# What is in a directory, and nothing of what that is, for which busybox asks.
names() { /usr/bin/ls -f "$1" | grep -vx '\.\.\?'; }

# lists DIRECTORY COUNT: the names in there are the numbers up to that, each once.
lists() {
    names "$1" | sort -n >/mnt/listed
    seq "$2" | cmp - /mnt/listed
}

# stream COUNT: what is in /mnt/random, so often, behind a number each time that shifts it:
# no two blocks of it are the same.
stream() {
    local part=0
    while [ $((part += 1)) -le "$1" ]; do
        echo "part $part"
        cat /mnt/random
    done
}

# as UID COMMAND…: as a user, in no group but its own.
as() {
    local uid=$1
    shift
    /usr/bin/setpriv --reuid "$uid" --regid "$uid" --clear-groups "$@"
}

# Writes records and says which are safe, until it is told to stop or fails.
write_records() {
    local number
    number=$(cat /mnt/safe)
    until [ -e /mnt/stop ]; do
        number=$((number + 1))
        echo "record $number" | dd of=/mnt/a/records oflag=append conv=notrunc,fsync 2>/mnt/error || return
        echo $number >/mnt/safe.new && mv /mnt/safe.new /mnt/safe
    done
}

# Until so many more are safe; gives up in the end.
wait_for_records() {
    local before tries=0
    before=$(cat /mnt/safe)
    until [ "$(cat /mnt/safe)" -ge $((before + $1)) ]; do
        [ $((tries += 1)) -le 1200 ] || { echo "stuck at record $(cat /mnt/safe)"; return 1; }
        usleep 50000
    done
}

# finished NAME: the process `pid` ended well, which only its parent learns.
finished() {
    local status=0
    wait "$pid" || status=$?
    check "$1" "cat /mnt/error; exit $status"
}

# All records that are safe, in order, and perhaps the one behind them.
records_are_whole() {
    seq "$(cat /mnt/safe)" | sed 's/^/record /' >/mnt/expected
    head -n "$(cat /mnt/safe)" /mnt/a/records | cmp - /mnt/expected && [ "$(wc -l </mnt/a/records)" -le $(($(cat /mnt/safe) + 1)) ]
}
