#!/bin/busybox sh
# shellcheck shell=busybox disable=SC2016
# A repository, which the host made: cloned onto the mount, checked, changed, packed, and
# cloned from there again. Over 9P without a cache: git maps what it reads, but shares no
# mapping with anybody, and those need none.
. "${0%/*}/common.sh"

"mount_$PROTOCOL" /mnt/a || exit
cd /mnt/a || exit
git config --global user.email tests@example.org
git config --global user.name tests
git config --global --add safe.directory '*'

check clone 'git clone -q --no-local /mnt/out/repository clone'
check fsck 'git -C clone fsck --strict'
check status 'cd clone && git update-index --refresh && [ -z "$(git status --porcelain)" ]'
check commit 'cd clone && echo more >>file1 && git rm -q file2 && git commit -qam "a change"'
check pack 'cd clone && git gc --quiet --aggressive --prune=now && git fsck --strict && [ ! -e .git/gc.pid ]'
drop_caches
check read-again 'cd clone && git fsck --strict && git checkout -q HEAD~ && [ -e file2 ] && git checkout -q -'
check clone-of-the-clone 'git clone -q clone other && [ "$(git -C other rev-parse HEAD)" = "$(git -C clone rev-parse HEAD)" ] &&
    git -C other fsck --strict'
cd /
check unmount 'umount /mnt/a'
