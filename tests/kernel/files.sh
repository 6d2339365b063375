#!/bin/busybox sh
# shellcheck shell=busybox disable=SC2016
# What programs do with files, one thing at a time, by the commands that do it.
. "${0%/*}/common.sh"

"mount_$PROTOCOL" /mnt/a || exit
cd /mnt/a || exit
check mkdir 'mkdir w'
cd w || exit

is() { [ "$1" = "$2" ] || { echo "$1 is not $2"; return 1; }; }

check create 'echo hello >a && is "$(cat a)" hello'
check append 'echo more >>a && is "$(wc -l <a)" 2'
check exclusive-create '(set -C; echo x >b) && ! (set -C; echo x >b)'
check chmod 'chmod 640 a && is "$(stat -c %a a)" 640'
check chown 'chown 1234:2345 a && is "$(stat -c %u:%g a)" 1234:2345'
check mkdir-under-umask 'umask 077; mkdir private && is "$(stat -c %a private)" 700'
check truncate 'truncate -s 100000 a && is "$(stat -c %s a)" 100000 && truncate -s 3 a && is "$(cat a)" hel'
# The kernel's 9P client cuts to whole seconds what it shows.
if [ "$PROTOCOL" = 9p ]; then part=000000000; else part=123456789; fi
check times '/usr/bin/touch -d "2001-02-03 04:05:06.123456789" a &&
    is "$(/usr/bin/stat -c %y a)" "2001-02-03 04:05:06.$part +0000"'
check symlink 'ln -s a/../zz link && is "$(readlink link)" a/../zz'
check hard-link 'ln a second && is "$(stat -c %h a)" 2 && is "$(stat -c %i a)" "$(stat -c %i second)"'
check fifo 'mkfifo fifo && [ -p fifo ]'
check device 'mknod null c 1 3 && is "$(stat -c %t:%T null)" 1:3'
check rename 'mv a c && [ ! -e a ] && [ -e c ]'
check rename-over 'echo 1 >x; echo 2 >y; mv x y && is "$(cat y)" 1 && [ ! -e x ]'
check rename-directory 'mkdir d1; echo k >d1/k; mv d1 d3 && is "$(cat d3/k)" k'
check rename-over-full-directory 'mkdir -p e1 e2/x; ! mv -T e1 e2 && [ -d e1 ]'
check rename-over-empty-directory 'mkdir -p g1/x g2; mv -T g1 g2 && [ -d g2/x ] && [ ! -e g1 ]'
check rmdir-full-directory '! rmdir d3 && rm d3/k && rmdir d3'
check unlinked-while-open 'echo kept >s; exec 5<>s; rm s; [ ! -e s ] && is "$(cat <&5)" kept && echo more >&5 &&
    is "$(stat -L -c %s /proc/self/fd/5)" 10'
check name-of-255-bytes 'name=$(printf "%255s" "" | tr " " n); echo 1 >"$name" && [ -e "$name" ] && rm "$name"'
check name-of-256-bytes 'name=$(printf "%256s" "" | tr " " n); ! echo 1 >"$name"'
check names-in-utf-8 'echo 1 >"zażółć 漢字" && [ -e z*漢字 ]'
check names-that-look-alike 'composed=$(printf "e\314\201") single=$(printf "\303\251"); echo 1 >"$composed" && [ ! -e "$single" ] &&
    echo 2 >"$single" && is "$(cat "$composed")" 1 && names . | grep -qx "$composed" && rm "$composed" && is "$(cat "$single")" 2'
check names-not-in-utf-8 'name=$(printf "b\377d"); echo 1 >"$name" && [ -e "$name" ] && rm "$name" && [ ! -e "$name" ]'
check twenty-megabytes 'head -c 20000000 /dev/urandom >/mnt/r && cp /mnt/r r && drop_caches && cmp r /mnt/r'
check sparse 'dd if=/dev/zero of=sparse bs=1 count=1 seek=5000000000 2>/dev/null && is "$(stat -c %s sparse)" 5000000001 && rm sparse'
check many-names 'mkdir m; for i in $(seq 1500); do : >m/$i; done; drop_caches; lists m 1500'
check remove-many 'rm -rf m && [ ! -e m ]'
check statfs 'df . && df -i .'
check fsync 'dd if=/dev/zero of=synced bs=4k count=64 conv=fsync && sync -d synced && sync -f .'
check direct 'dd if=/mnt/r of=direct bs=64k count=8 oflag=direct && dd if=direct of=/mnt/direct bs=64k iflag=direct && cmp direct /mnt/direct'
check flock 'flock -n l true && flock l sh -c "! flock -n l true" && flock -n l true'
check git 'git init -q g && cd g && git config user.email a@b && git config user.name n && echo 1 >f && git add f && git commit -qm x &&
    git fsck --strict'

check mode-for-others 'echo secret >p; chmod 644 p; as 1000 cat p && chmod 600 p && ! as 1000 cat p'
check owner 'mkdir pub; chmod 1777 pub; as 1000 touch pub/u && is "$(stat -c %u:%g pub/u)" 1000:1000'
check sticky-directory '! as 1001 rm -f pub/u && [ -e pub/u ] && as 1000 rm pub/u'
check set-user-id-is-dropped 'as 1000 sh -c "echo 1 >pub/s; chmod 4755 pub/s; echo 2 >>pub/s" && is "$(stat -c %a pub/s)" 755'

if [ "$PROTOCOL" = 9p ]; then
    check xattr 'setfattr -n user.k -v v c && is "$(getfattr --only-values -n user.k c)" v && getfattr c | grep -q user.k &&
        setfattr -x user.k c && is "$(getfattr c)" ""'
    check xattr-of-60000-bytes 'setfattr -n user.k -v "$(printf "%60000s" "")" c && is "$(getfattr --only-values -n user.k c | wc -c)" 60000'
else
    check listed-without-attributes 'mkdir n; for i in $(seq 3000); do : >n/$i; done; mount_nfs /mnt/b nosharecache,nordirplus &&
        lists /mnt/b/w/n 3000; result=$?; umount /mnt/b; exit $result'
fi

cd /
check unmount 'umount /mnt/a'
