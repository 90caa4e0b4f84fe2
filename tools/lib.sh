# Shared by the scripts here; sourced, not run. The caller defines `fail`.

# install WHAT PACKAGE …: install Debian packages for something that is missing.
install() {
    local what=$1
    shift
    if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
        fail "$what is missing: install it (on Debian: apt-get install $*)"
    fi
    echo "installing $* from Debian's packages"
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "$@" \
        >/dev/null </dev/null || fail "$* cannot be installed"
}

# need COMMAND PACKAGE …: have a command, from Debian's packages if it is missing.
need() {
    command -v "$1" >/dev/null || install "$@"
}
