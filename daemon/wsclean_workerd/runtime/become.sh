#!/bin/sh
# Becomes a job, as the job's own user.
#
#   become.sh FOLDER    becomes the job of that folder
#   become.sh           becomes the job of the folder that it reads, as a line, and
#                       nothing if that is empty

folder=$1
[ -n "$folder" ] || read -r folder
[ -n "$folder" ] || exit 0
cd -- "$folder" || exit 126

# Descriptor 9 is inherited by all that the job starts: end-of-file on `alive` says that
# every one of them is gone.
exec </dev/null 8<>alive 9>alive 8<&-
. ./command
