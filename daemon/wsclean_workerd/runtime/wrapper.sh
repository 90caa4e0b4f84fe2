#!/bin/sh
# Runs jobs, one after the other, and leaves the exit status of each where a
# restarted daemon finds it.
#
#   wrapper.sh LANE FOLDER LAUNCH [PREFIX …]
#
# FOLDER is the first job's, LAUNCH the number of this start, PREFIX the command that
# turns into the job's user (setpriv …) if it is not the one this runs as. LANE is a
# FIFO from which further jobs are read, one in a line, as "ID LAUNCH [PREFIX …]",
# until the daemon that holds its other end is gone; "-" if there is only the first.
#
# Only shell built-ins where possible: each program started costs half a millisecond.

lane=$1
jobs=${2%/*}
shift

# Its own streams may end in a pipe that nobody reads, or reads no longer.
exec </dev/null >/dev/null 2>&1
# The daemon may be away when a job ends.
trap '' PIPE
# The words of a line are words, not patterns.
set -f

run() {
    cd -- "$1" || return
    launch=$2
    shift 2

    # The write end of `alive` is held before the claim is made, so a claim without a
    # writer is a dead job and never one about to begin. Opening it for reading as
    # well spares the wait for a reader.
    command exec 8<>alive 9>alive 8<&- || return

    # The claim decides once and for all whether this start happens: the daemon makes
    # it itself when it gives up waiting. noclobber makes it atomic (O_EXCL).
    set -C
    if true >"claim-$launch"; then
        set +C
        follow_through "$@"
    fi
    set +C
    exec 9>&-
}

follow_through() {
    # Process id and start time tell the wrapper from whatever gets its number later.
    # Both this file and `exit` were filled in advance and are written in place, in
    # one piece, so a full disk cannot lose them.
    read -r identity </proc/self/stat && echo "$identity" 1<>wrapper
    echo started >&9

    # Descriptor 9 is inherited by the job and by all it starts: end-of-file on
    # `alive` says that every one of them is gone. The subshell gives SIGPIPE its
    # meaning back, which the job expects.
    (
        trap - PIPE
        exec setsid "$@" sh ./command 4<&-
    )
    echo $? 1<>exit
    echo exited >&9
}

[ "$lane" = - ] || exec 4<"$lane"
run "$@"
[ "$lane" != - ] || exit 0
while read -r id launch prefix <&4; do
    # shellcheck disable=SC2086 # the words of the prefix
    run "$jobs/$id" "$launch" $prefix
done
