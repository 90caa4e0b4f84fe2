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
