#!/bin/sh
# Runs jobs, one after the other, and leaves the exit status of each where a
# restarted daemon finds it.
#
#   wrapper.sh - JOBS ID LAUNCH [PREFIX …]    runs one job
#   wrapper.sh LANE JOBS [PREFIX …]           runs the jobs it is told of
#
# JOBS is the folder of all jobs' folders, ID the job's, LAUNCH the number of this start,
# PREFIX the command that turns into the job's user (setpriv …) if it is not the one
# this runs as. LANE is a folder with three FIFOs: from `jobs` come lines "ID LAUNCH" until
# the daemon is gone.
#
# A status of 137 is followed by two counts of the kernel's kills (count_oom_kills), before the
# job and after it.
#
# Only shell built-ins where possible, since each program that is started costs half a
# millisecond. So a process that is the right user already (become.sh) waits in each lane:
# it reads from `go` the folders of jobs, and writes their statuses to `said`.

scripts=${0%/*}
lane=$1
jobs=$2
shift 2
if [ "$lane" = - ]; then
    id=$1 launch=$2
    shift 2
fi
prefix=$*

# Its own streams may end in a pipe that nobody reads, or reads no longer.
exec </dev/null >/dev/null 2>&1
# The daemon may be away when a job ends.
trap '' PIPE

# Process id and start time tell this process from whatever gets its number later.
read -r identity </proc/self/stat

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
        # Written in place, in one piece, as is `exit`: both were filled in advance, so a
        # full disk cannot lose them.
        echo "$identity" 1<>wrapper
        echo started >&9
        become "$1"
        # What started the job was killed.
        [ -n "$status" ] || exit 1
        if [ "$status" = 137 ]; then
            # By KILL, which the kernel sends too, and tells nobody.
            before=$kills
            count_oom_kills
            status="137 $before $kills"
        fi
        echo "$status" 1<>exit
        echo exited >&9
    fi
    exec 9>&-
    return $claimed
}

# count_oom_kills: how often the kernel has killed a process here because memory ran out.
count_oom_kills() {
    kills=0
    # Of cgroup v2 and v1, in a container its own.
    for file in /sys/fs/cgroup/memory.events /sys/fs/cgroup/memory/memory.oom_control; do
        [ -r "$file" ] || continue
        while read -r name value; do
            [ "$name" != oom_kill ] || kills=$value
        done <"$file"
    done
}

spawner=

# Have a process that starts jobs as their user: false if it cannot be had.
have_spawner() {
    # One that has ended has no memory, even while nobody has taken note of its end.
    if [ -n "$spawner" ]; then
        read -r size rest <"/proc/$spawner/statm" && [ "$size" != 0 ] && return
        # Its child may still wait for the next job, which is not for it any more.
        rm "$lane/go" && mkfifo "$lane/go" && exec 5<>"$lane/go" || exit 1
    fi
    # Its end is seen if nobody else can write what it says.
    exec 7<>"$lane/said" 6<"$lane/said"
    # shellcheck disable=SC2086 # the words of the prefix
    (
        trap - PIPE
        exec setsid --fork $prefix sh "$scripts/become.sh" \
            <"$lane/go" 3>"$lane/said" 4<&- 5<&- 6<&- 7<&- 9<&-
    )
    exec 7<&-
    read -r spawner <&6
}

# become FOLDER: become a job and wait for its status, which is empty if nobody knows it.
become() {
    if [ "$lane" != - ] && have_spawner; then
        echo "$1" >&5
        read -r status <&6
    else
        # If the prefix is what is wrong, the job will show it.
        # shellcheck disable=SC2086 # the words of the prefix
        (trap - PIPE && exec setsid $prefix sh "$scripts/become.sh" "$1")
        status=$?
    fi
}

count_oom_kills
if [ "$lane" = - ]; then
    run "$jobs/$id" "$launch"
    exit 0
fi

# Opened for writing as well for a moment: a daemon that is gone already is not waited for.
exec 8<>"$lane/jobs" 4<"$lane/jobs" 8<&- 5<>"$lane/go"
have_spawner
while read -r id launch <&4; do
    run "$jobs/$id" "$launch"
done
