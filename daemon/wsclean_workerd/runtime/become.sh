#!/bin/sh
# Becomes jobs, as the jobs' own user.
#
#   become.sh FOLDER    becomes the job of that folder
#   become.sh           starts the jobs of the folders that it reads, one in a line, one
#                       after the other, until there are no more; writes to descriptor 3
#                       its process id, then the exit status of each

# become FOLDER [PREFIX …]: PREFIX is what turns into the program (`command` uses "$@").
become() {
    cd -- "$1" || exit 126
    shift
    # Descriptor 9 is inherited by all that the job starts: end-of-file on `alive` says that
    # every one of them is gone.
    exec </dev/null 8<>alive 9>alive 8<&-
    . ./command
}

if [ $# -gt 0 ]; then
    become "$1"
fi

# Looked up now: a job may have a PATH of its own.
setsid=$(command -v setsid)
echo $$ >&3
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
