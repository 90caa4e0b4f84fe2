#!/bin/sh
# Sends a signal to every process of one job, run as the job's user.
#
#   kill.sh FOLDER MARK TERM|KILL
#
# A process belongs to the job if it carries MARK in its environment or holds the
# job's `alive` open for writing (the daemon reads it). That finds those too that
# have left the session, and it is what keeps the job from being over. The wrapper is
# spared: it has to live to write the exit status.

folder=$1
mark=$2
signal=$3

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

members() {
    grep -lsF -- "$mark" /proc/[0-9]*/environ
    find /proc/[0-9]*/fd -maxdepth 1 -lname "$folder/alive" -perm -200 2>/dev/null
}

send() {
    found=
    for entry in $(members | cut -d/ -f3 | sort -u); do
        if [ "$entry" = "${wrapper% *}" ] || [ "$entry" = $$ ]; then
            continue
        fi
        kill -s "$signal" "$entry" 2>/dev/null && found=yes
        # A stopped process gets nothing but KILL before it is continued.
        kill -s CONT "$entry" 2>/dev/null
    done
    [ -n "$found" ]
}

if [ "$signal" != KILL ]; then
    send
    exit 0
fi

# A process can fork between being listed and being killed: look again until
# nothing is left. What waits in the kernel stays whatever is done, so not forever.
passes=0
while send && [ $passes -lt 50 ]; do
    passes=$((passes + 1))
done
exit 0
