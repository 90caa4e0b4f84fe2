#!/bin/sh
# Runs jobs, one after the other, and leaves the exit status of each where a
# restarted daemon finds it.
#
#   wrapper.sh lane JOBS FOLDER [PREFIX …]       runs the jobs it is told of
#   wrapper.sh one JOBS ID LAUNCH [PREFIX …]     runs one job
#   wrapper.sh pair JOBS ID LAUNCH FOLDER        runs one job, whose user somebody else becomes
#
# JOBS is the folder of all jobs' folders, ID the job's, LAUNCH the number of this start,
# PREFIX the command that turns into the job's user (setpriv …) if it is not the one
# this runs as.
#
# The status is followed by "alone" if certainly nothing is left of the job, and if it is 137 by
# "oom" and two counts of the kernel's kills (count_oom_kills), before the job and after it.
#
# Only shell built-ins where possible, since each program that is started costs half a
# millisecond. So a process that is the right user already (become.sh) waits in each lane:
# it reads from `go` the folders of jobs, and writes their statuses to `said`. These are
# FIFOs in FOLDER, with another one, `jobs`, from which a lane reads lines "ID LAUNCH" until
# the daemon is gone.
#
# Where no command turns into another user the daemon starts both halves, this one and
# become.sh, as their users. They find each other by the FIFOs, which the daemon holds open
# until this one has written to `joined`. If it goes away before, so does whoever has come.

scripts=${0%/*}
mode=$1
jobs=$2
shift 2
case $mode in
lane)
    folder=$1
    shift
    ;;
one)
    id=$1 launch=$2
    shift 2
    ;;
pair)
    id=$1 launch=$2 folder=$3
    shift 3
    ;;
*) exit 2 ;;
esac
prefix=$*

# Its own streams may end in a pipe that nobody reads, or reads no longer.
exec </dev/null >/dev/null 2>&1
# The daemon may be away when a job ends.
trap '' PIPE

# By this name other lanes know that it is nothing a job has left.
printf workerd-lane >/proc/self/comm

# Process id and start time tell this process from whatever gets its number later.
read -r identity </proc/self/stat

# -- what a job leaves -----------------------------------------------------------------

# What has lost its parent gets another one: the main process of the container, or whoever
# does that on a host. So whatever is left of a job whose main process has ended, however it
# has hidden, is a child of that, or of one that is.

# find_reaper: whose child that is: this shell's own parent, as it has lost its first one;
# unless the engine started it, then it has none. Empty while the first one is still there.
find_reaper() {
    read -r line </proc/self/stat
    # shellcheck disable=SC2086 # the fields from the third on
    set -- ${line##*) }
    reaper=$2
    [ "$reaper" != 0 ] || reaper=1
    read -r name <"/proc/$reaper/comm"
    [ "$name" != setsid ] || reaper=
}

# list: the children of the reaper, oldest first; empty if the kernel does not tell.
list() {
    children=
    read -r children <"/proc/$reaper/task/$reaper/children"
}

# survey: remember who is there before there is a job.
survey() {
    find_reaper
    list
    known=$children
}

# alone: whether nothing is left of the job whose main process has just ended. If that is
# not certain it is false, and the daemon searches.
alone() {
    list
    first=$children
    # Twice, since one that goes away while the list is read makes another one be left out.
    list
    [ "$first" = "$children" ] && [ -n "$children" ] || {
        survey
        return 1
    }
    [ "$children" != "$known" ] || return 0
    # Who comes is put at the end. So one that was there before is found in the same order,
    # and what got the number of one that has ended is not.
    before=" $known "
    known=$children
    for child in $children; do
        case $before in
        *" $child "*) before=" ${before#*" $child "}" ;;
        *)
            name=
            read -r name <"/proc/$child/comm"
            case $name in workerd-*) ;; *) return 1 ;; esac
            ;;
        esac
    done
}

# -- running jobs ----------------------------------------------------------------------

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
        if alone; then
            status="$status alone"
        fi
        case $status in
        137*)
            # By KILL, which the kernel sends too, and tells nobody.
            before=$kills
            count_oom_kills
            status="$status oom $before $kills"
            ;;
        esac
        echo "$status" 1<>exit
        echo exited >&9
    fi
    exec 9>&-
    return $claimed
}

# find_oom_count: the file in which the kernel counts for this one's control group, of v2 or
# v1. It is on top in a container, which sees no other group; and where the group's path leads
# on a host, and in a container that shares the host's namespace of control groups.
find_oom_count() {
    oom_count=
    while IFS=: read -r hierarchy controllers path; do
        case $hierarchy,$controllers, in
        0,,) file=memory.events top=/sys/fs/cgroup ;;
        *,memory,*) file=memory.oom_control top=/sys/fs/cgroup/memory ;;
        *) continue ;;
        esac
        # Of both there is one at most that has memory.
        if [ -r "$top$path/$file" ]; then
            oom_count=$top$path/$file
        elif [ -r "$top/$file" ]; then
            oom_count=$top/$file
        fi
    done </proc/self/cgroup
}

# count_oom_kills: how often the kernel has killed a process here because memory ran out.
count_oom_kills() {
    kills=0
    [ -r "$oom_count" ] || return
    while read -r name value; do
        [ "$name" != oom_kill ] || kills=$value
    done <"$oom_count"
}

spawner=

# Have a process that starts jobs as their user: false if it cannot be had.
have_spawner() {
    # One that has ended has no memory, even while nobody has taken note of its end.
    if [ -n "$spawner" ]; then
        read -r size rest <"/proc/$spawner/statm" && [ "$size" != 0 ] && return
        # Its child may still wait for the next job, which is not for it any more.
        rm "$folder/go" && mkfifo "$folder/go" && exec 5<>"$folder/go" || exit 1
    fi
    # Its end is seen if nobody else can write what it says.
    exec 7<>"$folder/said" 6<"$folder/said"
    # shellcheck disable=SC2086 # the words of the prefix
    (
        trap - PIPE
        exec setsid --fork $prefix sh "$scripts/become.sh" lane \
            <"$folder/go" 3>"$folder/said" 4<&- 5<&- 6<&- 7<&- 9<&-
    )
    exec 7<&-
    read -r spawner <&6
}

# become FOLDER: become a job and wait for its status, which is empty if nobody knows it.
become() {
    if [ "$mode" = pair ] || { [ "$mode" = lane ] && have_spawner; }; then
        echo "$1" >&5
        read -r status <&6
    else
        # If the prefix is what is wrong, the job will show it.
        # shellcheck disable=SC2086 # the words of the prefix
        (trap - PIPE && exec setsid $prefix sh "$scripts/become.sh" one "$1")
        status=$?
    fi
}

find_oom_count
count_oom_kills
case $mode in
lane)
    # Opened for writing as well for a moment: a daemon that is gone already is not waited for.
    exec 8<>"$folder/jobs" 4<"$folder/jobs" 8<&- 5<>"$folder/go"
    have_spawner
    survey
    while read -r id launch <&4; do
        run "$jobs/$id" "$launch"
    done
    ;;
pair)
    exec 8<>"$folder/joined" 7>"$folder/joined" 8<>"$folder/said" 6<"$folder/said" 8<&- \
        5<>"$folder/go"
    # Nobody says anything if the other half does not come and the daemon has given it up.
    read -r spawner <&6 || exit 1
    echo joined >&7
    exec 7>&-
    survey
    run "$jobs/$id" "$launch"
    ;;
one)
    survey
    run "$jobs/$id" "$launch"
    ;;
esac
exit 0
