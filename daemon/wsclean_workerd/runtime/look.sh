#!/bin/sh
# Looks once at something that jobs need, for a diagnosis.
#
#   look.sh FOLDER programs NUMBER NAME … [PREFIX …]
#   look.sh FOLDER mount MOUNT [PREFIX …]
#
# FOLDER holds a FIFO, `answers`, to which go lines: `up`, one for each thing found, and `end`.
# Found are the programs, NUMBER of them, that are on the PATH (`has NAME`), and what can be done in MOUNT
# (`there`, `enter`, `read`, `write`). PREFIX turns into the jobs' user (setpriv …). Storage
# that hangs holds this process alone, and its answers end before `end`.

exec </dev/null >/dev/null 2>&1

if [ "$1" = - ]; then
    cd /
    echo up >&9
    # A name that nobody has looked up is in no cache, as the attributes of MOUNT may be.
    [ -e "$2/.wsclean-workerd-probe-$3" ]
    [ -d "$2" ] && echo there >&9
    [ -x "$2" ] && echo enter >&9
    [ -r "$2" ] && echo read >&9
    [ -w "$2" ] && echo write >&9
    echo end >&9
    exit 0
fi

cd -- "$1" || exit 1
name=${1##*/}
# Opened for both for a moment, so that it does not wait for a daemon that is gone already.
exec 8<>answers 9>answers 8<&-
case $2 in
    programs)
        number=$3
        shift 3
        echo up >&9
        while [ "$number" -gt 0 ]; do
            command -v "$1" && echo "has $1" >&9
            shift
            number=$((number - 1))
        done
        echo end >&9
        ;;
    mount)
        mount=$3
        shift 3
        exec "$@" sh "$0" - "$mount" "$name"
        ;;
esac
