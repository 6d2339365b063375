# shellcheck shell=bash
# What scripts/posix and scripts/kernel-clients share: programs that others wrote, and how
# they are installed. Both source it.

export PATH="$PATH:${CARGO_HOME:-${HOME:-/root}/.cargo}/bin:/usr/sbin:/sbin"
target=${CARGO_TARGET_DIR:-$PWD/target}
say() { printf '\n== %s\n' "$*"; }

# What the program may have in memory: `cache.memory_max`, and as much for all else.
MEMORY_MAX_KIB=$((512 << 10))

# Of crates.io, at a version. It waits for the file system, so optimising it is not
# worth the minutes that takes.
install_crate() {
    local name=$1 version=$2
    [[ $("$name" --version 2>/dev/null) == "$name $version" ]] && return
    say "installing $name (a minute)"
    CARGO_TARGET_DIR=$target/installed CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 \
        CARGO_PROFILE_RELEASE_OPT_LEVEL=1 cargo install --locked --quiet --version "$version" "$name"
}

# install_package COMMAND_OR_FILE [PACKAGE]
install_package() {
    if command -v "$1" >/dev/null || [[ -e $1 ]]; then return; fi
    local package=${2:-$1}
    say "installing $package"
    env DEBIAN_FRONTEND=noninteractive apt-get -q update </dev/null
    env DEBIAN_FRONTEND=noninteractive apt-get -q install -y --no-install-recommends "$package" </dev/null
}

# pjdfstest acts as `nobody` and as this one.
add_user_for_tests() {
    id tests >/dev/null 2>&1 || useradd --system --user-group --no-create-home tests
}
