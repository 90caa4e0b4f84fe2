#!/bin/sh
# Becomes jobs, as the jobs' own user.
#
#   become.sh one FOLDER     becomes the job of that folder
#   become.sh lane           starts the jobs of the folders that it reads, one in a line, one
#                            after the other, until there are no more; writes to descriptor 3
#                            its process id, then the exit status of each
#   become.sh pair FOLDER    starts one job in the same way, but reads from and writes to
#                            FIFOs in FOLDER

# become FOLDER [PREFIX …]: PREFIX is what turns into the program (`command` uses "$@").
become() {
    cd -- "$1" || exit 126
    shift
    # Descriptor 9 is inherited by all that the job starts: end-of-file on `alive` says that
    # every one of them is gone.
    exec </dev/null 8<>alive 9>alive 8<&-
    . ./command
}

case $1 in
one)
    become "$2"
    ;;
pair)
    # Opened for both for a moment, so that nobody is waited for who has given it up.
    exec 8<>"$2/go" <"$2/go" 8<>"$2/said" 3>"$2/said" 8<&- >/dev/null 2>&1
    ;;
esac

# By this name lanes know that it is nothing a job has left.
printf workerd-starter >/proc/self/comm

# Looked up now: a job may have a PATH of its own.
setsid=$(command -v setsid)
echo $$ >&3

if [ "$1" = pair ]; then
    # Only the half that has found this one writes here.
    read -r folder || exit 1
    # Without setsid the job is in this one's own process group, which it may signal.
    trap : HUP INT QUIT TERM USR1 USR2
    # shellcheck disable=SC2086 # one word or none
    (exec 3>&- && become "$folder" $setsid)
    echo $? >&3
    exit
fi

while :; do
    # What becomes the job is there before its folder is known, and reads that itself. In
    # the foreground, since a shell has what it starts in the background ignore SIGINT and
    # SIGQUIT for good.
    (
        exec 3>&-
        read -r folder && become "$folder" "$setsid"
    )
    # Nobody listens any more when there are no more folders.
    echo $? >&3 || exit
done
