#!/bin/sh
# Asks the storage behind a mount whether it answers, whenever the daemon wants to know.
#
#   probe.sh FOLDER MOUNT [PREFIX …]
#
# FOLDER holds two FIFOs: from `requests` come names, one in a line, that are looked up in
# MOUNT; to `answers`, held open by this process alone, goes a line when it is up and one for
# each answer, be it that there is no such name. PREFIX turns into the jobs' user (setpriv …),
# who may enter folders that root may not. It ends when the daemon does.

exec </dev/null >/dev/null 2>&1

if [ "$1" = - ]; then
    cd /
    echo up >&9
    while read -r name <&4; do
        # A built-in: nothing is started, and nothing is opened that could hang later.
        [ -e "$2/.wsclean-workerd-probe-$name" ]
        echo answered >&9
    done
    exit 0
fi

cd -- "$1" || exit 1
# Opened for both for a moment, so that neither waits for a daemon that is gone already.
exec 8<>answers 9>answers 8<&- 8<>requests 4<requests 8<&-
mount=$2
shift 2
exec "$@" sh "$0" - "$mount"
