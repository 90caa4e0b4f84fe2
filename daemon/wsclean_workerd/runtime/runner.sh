#!/bin/sh
# Starts jobs and sends signals to them for the daemon, which asks by FIFO and needs
# no engine for it.
#
#   runner.sh FOLDER JOBS SCRIPTS NUMBER [PROGRAM …] [PREFIX …]
#
# FOLDER holds three FIFOs:
#
#   requests  what to do, one request in a line:
#               lane NAME [PREFIX …]        start a lane, whose FIFOs are in a folder NAME
#               kill TOKEN ID MARK VERB [PREFIX …]
#   answers   "programs [PROGRAM …]" and "ready [MISSING …]" once, and "done TOKEN STATUS" for
#             each kill.sh that ended
#   alive     held open by this process alone: its end-of-file says that it is gone
#
# JOBS is the folder of the job folders, SCRIPTS that of this script, PREFIX what turns into
# the jobs' user. It says which of the PROGRAMs, of which there are NUMBER, are there. It ends
# when the daemon does; what it has started lives on.

folder=$1
cd -- "$folder" || exit 1
jobs=$2
scripts=$3
number=$4
shift 4

# Its own streams end in pipes that nobody drains once the engine was restarted.
exec </dev/null >/dev/null 2>>log
# Opened for both for a moment, so that neither waits for a daemon that is gone already.
exec 8<>alive 7>alive 8<&- 6<>answers 8<>requests 5<requests 8<&-
trap '' PIPE
# The words of a request are words, not patterns.
set -f

there=
while [ "$number" -gt 0 ]; do
    command -v -- "$1" >/dev/null && there="$there $1"
    shift
    number=$((number - 1))
done
echo "programs$there" >&6

missing=
# By trying, since some have the name and not what is needed of it.
[ $# = 0 ] || "$@" true || missing=setpriv
if ! command -v setsid >/dev/null; then
    missing="$missing setsid"
elif ! setsid --fork true; then
    missing="$missing setsid--fork"
fi
echo "ready $missing" >&6

run_killer() {
    token=$1 folder=$jobs/$2 mark=$3 verb=$4
    shift 4
    "$@" sh "$scripts/kill.sh" "$folder" "$mark" "$verb" 6>&-
    echo "done $token $?" >&6
}

while read -r verb words <&5; do
    # shellcheck disable=SC2086 # the words of the request
    set -- $words
    case $verb in
    lane)
        lane=$folder/$1
        shift
        # What is ignored here would be ignored by all that is started.
        (
            trap - PIPE
            exec setsid --fork sh "$scripts/wrapper.sh" lane "$jobs" "$lane" "$@" \
                5<&- 6>&- 7>&-
        )
        ;;
    kill)
        run_killer "$@" 5<&- 7>&- &
        ;;
    esac
    # Takes note of what has ended in the background, which would stay as zombies.
    jobs
done
