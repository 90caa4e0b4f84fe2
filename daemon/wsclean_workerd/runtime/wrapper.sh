#!/bin/sh
# Runs one job and leaves its exit status where a restarted daemon finds it.
#
#   wrapper.sh FOLDER LAUNCH [PREFIX …]
#
# FOLDER is the job's, LAUNCH the number of this start, PREFIX the command that
# turns into the job's user (setpriv …) if it is not the one this runs as.
#
# Only shell built-ins where possible: each program started costs a millisecond.

cd -- "$1" || exit 1
launch=$2
shift 2

# Its own streams may end in a pipe that nobody reads, or reads no longer.
exec </dev/null >/dev/null 2>&1

# The write end of `alive` is held before the claim is made, so a claim without a
# writer is a dead job and never one about to begin. Opening it for reading as
# well spares the wait for a reader: the daemon may be away.
exec 8<>alive 9>alive 8<&-
trap '' PIPE

# The claim decides once and for all whether this start happens: the daemon makes
# it itself when it gives up waiting. noclobber makes it atomic (O_EXCL).
set -C
true >"claim-$launch" || exit 0
set +C
echo $$ >wrapper
echo started >&9

# Descriptor 9 is inherited by the job and by all it starts: end-of-file on
# `alive` says that every one of them is gone. The subshell gives SIGPIPE its
# meaning back, which the job expects.
(
    trap - PIPE
    exec setsid "$@" sh ./command
)
status=$?

# Written under another name first, so that it is there whole or not at all.
echo $status >exit.new && mv exit.new exit
echo exited >&9
exit 0
