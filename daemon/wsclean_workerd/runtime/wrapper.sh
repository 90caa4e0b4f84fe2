#!/bin/sh
# Runs jobs, one after the other, and leaves the exit status of each where a
# restarted daemon finds it.
#
#   wrapper.sh - JOBS ID LAUNCH [PREFIX …]    runs one job
#   wrapper.sh LANE JOBS [PREFIX …]           runs the jobs it is told of
#
# JOBS is the folder of all jobs' folders, ID the job's, LAUNCH the number of this start,
# PREFIX the command that turns into the job's user (setpriv …) if it is not the one
# this runs as. LANE is a folder with two FIFOs: from `jobs` come lines "ID LAUNCH" until
# the daemon is gone, and by `go` they are passed on.
#
# A job starts fastest if everything is there before it is: a process with a session of
# its own, as the right user, waits to become it (become.sh). And only shell built-ins
# where possible, since each program that is started costs half a millisecond.

scripts=${0%/*}
lane=$1
jobs=$2
shift 2

# Its own streams may end in a pipe that nobody reads, or reads no longer.
exec </dev/null >/dev/null 2>&1
# The daemon may be away when a job ends.
trap '' PIPE

# run FOLDER LAUNCH: run a job; false if it is not to be run.
run() {
    cd -- "$1" || return 1

    # The write end of `alive` is held before the claim is made, so a claim without a
    # writer is a dead job and never one about to begin; and until the status is
    # written. Opening it for reading as well spares the wait for a reader.
    command exec 8<>alive 9>alive 8<&- || return 1

    # The claim decides once and for all whether this start happens: the daemon makes
    # it itself when it gives up waiting. noclobber makes it atomic (O_EXCL).
    set -C
    true >"claim-$2"
    claimed=$?
    set +C
    if [ $claimed = 0 ]; then
        # Process id and start time tell the wrapper from whatever gets its number
        # later. This file and `exit` were filled in advance and are written in place,
        # in one piece, so a full disk cannot lose them.
        read -r identity </proc/self/stat && echo "$identity" 1<>wrapper
        echo started >&9
        become "$1"
        echo $? 1<>exit
        echo exited >&9
    fi
    exec 9>&-
    return $claimed
}

if [ "$lane" = - ]; then
    id=$1 launch=$2
    shift 2
    prefix=$*
    become() {
        # shellcheck disable=SC2086 # the words of the prefix
        (trap - PIPE && exec setsid $prefix sh "$scripts/become.sh" "$1")
    }
    run "$jobs/$id" "$launch"
    exit 0
fi

become() {
    echo "$1" >&5
    wait "$waiting"
}

# The daemon is gone: let go of the process that waits, and not before it listens.
dismiss() {
    echo >&5
    wait "$waiting"
    exit 0
}

# What a shell starts in the background ignores these two unless told otherwise.
defaults='env --default-signal=INT,QUIT'
$defaults true || defaults=

exec 4<"$lane/jobs" 5<>"$lane/go"
while :; do
    # shellcheck disable=SC2086 # the words of a command
    (trap - PIPE && exec setsid $defaults "$@" sh "$scripts/become.sh") \
        <"$lane/go" 4<&- 5<&- &
    waiting=$!
    until
        read -r id launch <&4 || dismiss
        run "$jobs/$id" "$launch"
    do
        : # It was not to be run: the daemon was faster.
    done
done
