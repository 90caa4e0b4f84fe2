#!/bin/sh
# Sends a signal to every process of one job, or says whether there is any; run as the
# job's user.
#
#   kill.sh FOLDER MARK TERM|KILL [ANSWER]
#   kill.sh FOLDER MARK FIND [ANSWER]
#
# A process belongs to the job if it carries MARK in its environment or holds the
# job's `alive` open for writing (the daemon reads it). That finds those too that
# have left the session, and it is what keeps the job from being over. The wrapper is
# spared: it has to live to write the exit status.
#
# FIND is for a job whose `alive` nobody holds any more. It ends with 0 if something is
# left of the job, and with 3 if nothing is; sending a signal ends with 0. The exit status is
# written to the FIFO ANSWER too, if there is one.

folder=$1
mark=$2
verb=$3
answer=$4
left=0
nothing=3
cd /

# identity FILE: process id and start time, of a line as in /proc/PID/stat.
identity() {
    read -r line 2>/dev/null <"$1" || return
    pid=${line%% *}
    # The name of the program, in parentheses, may hold anything.
    # shellcheck disable=SC2086 # the fields from the third on
    set -- ${line##*) }
    shift 19
    echo "$pid $1"
}

wrapper=$(identity "$folder/wrapper")
# A number that now belongs to another process is nobody to be spared.
[ "$wrapper" = "$(identity "/proc/${wrapper% *}/stat")" ] || wrapper=

# look: the files below /proc that show who belongs to the job, and of grep and find
# themselves what shows that they see what they are to see.
look() {
    grep -lsF -- "$mark" /proc/self/cmdline /proc/[0-9]*/environ 2>/dev/null
    [ "$verb" = FIND ] || find /proc/self/cwd /proc/[0-9]*/fd -maxdepth 1 -perm -200 \
        \( -lname "$folder/alive" -o -lname / \) 2>/dev/null
}
capable='*/self/cmdline*'
[ "$verb" = FIND ] || capable="$capable/self/cwd*"

# carries PROCESS: whether it has the mark. What separates variables the shell leaves out.
carries() {
    while read -r line || [ -n "$line" ]; do
        case $line in *"$mark"*) return ;; esac
    done 2>/dev/null <"$1/environ"
    return 1
}

# holds PROCESS: whether it has `alive` open for writing.
holds() {
    for descriptor in "$1"/fd/*; do
        [ "$descriptor" -ef "$folder/alive" ] || continue
        while read -r field value; do
            case $field$value in flags:*[12]) return ;; esac
        done 2>/dev/null <"$1/fdinfo/${descriptor##*/}"
    done
    return 1
}

# members: the job's processes, perhaps more than once.
members() {
    found=$(look)
    # BusyBox's grep sees nothing behind a NUL, and its find knows no -lname.
    case $found in
    $capable)
        for entry in $found; do
            entry=${entry#/proc/}
            echo "${entry%%/*}"
        done
        ;;
    *)
        for entry in /proc/[0-9]*; do
            if carries "$entry" || { [ "$verb" != FIND ] && holds "$entry"; }; then
                echo "${entry#/proc/}"
            fi
        done
        ;;
    esac
}

# others: the job's processes but the wrapper, each once.
others() {
    seen=" self $$ ${wrapper% *} "
    for each in $(members); do
        case $seen in
        *" $each "*) ;;
        *)
            seen="$seen$each "
            echo "$each"
            ;;
        esac
    done
}

send() {
    sent=
    for each in $(others); do
        kill -s "$verb" "$each" 2>/dev/null && sent=yes
        # A stopped process gets nothing but KILL before it is continued.
        kill -s CONT "$each" 2>/dev/null
    done
    [ -n "$sent" ]
}

status=0
case $verb in
FIND)
    # Twice: one that is just becoming another program has no environment for a moment.
    if [ -n "$(others)" ] || [ -n "$(others)" ]; then
        status=$left
    else
        status=$nothing
    fi
    ;;
KILL)
    # A process can fork between being listed and being killed: look again until
    # nothing is left. What waits in the kernel stays whatever is done, so not forever.
    passes=0
    while send && [ $passes -lt 50 ]; do
        passes=$((passes + 1))
    done
    ;;
*) send ;;
esac
[ -z "$answer" ] || echo "$status" 1<>"$answer"
exit $status
