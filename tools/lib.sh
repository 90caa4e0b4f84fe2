# Shared by the scripts here; sourced, not run. The caller defines `fail`.

# install_packages WHAT PACKAGE …: install Debian packages for something that is missing.
install_packages() {
    local what=$1
    shift
    if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
        fail "$what is missing: install it (on Debian: apt-get install $*)"
    fi
    echo "installing $* from Debian's packages"
    local log
    log=$(mktemp)
    if ! { apt-get update && DEBIAN_FRONTEND=noninteractive \
        apt-get install -y --no-install-recommends "$@"; } >"$log" 2>&1 </dev/null; then
        tail -n 20 "$log" >&2
        rm -f "$log"
        fail "$* cannot be installed; the end of the log is above"
    fi
    rm -f "$log"
}

# need COMMAND PACKAGE …: have a command, from Debian's packages if it is missing.
need() {
    command -v "$1" >/dev/null || install_packages "$@"
}

# have_image TAG: whether the engine at hand has an image.
have_image() {
    docker image inspect "$1" >/dev/null 2>&1
}

# have_base SUITE: have debian:SUITE-slim, made with debootstrap where it cannot be pulled.
have_base() {
    local suite=$1 base=debian:$1-slim
    if have_image "$base" || timeout 60 docker pull --quiet "$base" >/dev/null 2>&1; then
        return
    fi
    [ "$(id -u)" = 0 ] || fail "$base cannot be pulled, and only root can make it with debootstrap"
    need debootstrap debootstrap
    # Newer suites than debootstrap knows are made like sid.
    local script=$suite
    [ -e "/usr/share/debootstrap/scripts/$suite" ] || script=sid
    base_work=$(mktemp -d)
    trap 'rm -rf --one-file-system "$base_work"' EXIT
    echo "making $base with debootstrap"
    debootstrap --variant=minbase "$suite" "$base_work/root" "" "$script" >"$base_work/log" 2>&1 || {
        tail -n 20 "$base_work/log" >&2
        fail "debootstrap cannot make $suite; the end of its log is above"
    }
    rm -rf "$base_work"/root/var/cache/apt/* "$base_work"/root/var/lib/apt/lists/*
    tar -C "$base_work/root" --exclude=./dev --exclude=./proc --exclude=./sys -c . |
        docker import --change 'CMD ["bash"]' - "$base" >/dev/null
}

# build_image TAG FOLDER [OPTION …]: build an image from a folder with a Dockerfile.
build_image() {
    local tag=$1 folder=$2 log
    shift 2
    echo "building $tag"
    log=$(mktemp)
    DOCKER_BUILDKIT=0 docker build --network host "$@" --tag "$tag" "$folder" >"$log" 2>&1 || {
        tail -n 30 "$log" >&2
        rm -f "$log"
        fail "the image cannot be built; the end of the log is above"
    }
    rm -f "$log"
}
