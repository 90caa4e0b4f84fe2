# Runs jobs by wrapper.sh that the kernel kills for lack of memory and others that somebody
# kills, in control groups as engines and service managers make them, and prints what it writes of
# each. For a virtual machine, whose kernel has no control groups yet.
#
#   $hierarchy   v1 or v2
#
# Prints lines "VIEW LIMIT JOB STATUS". VIEW is what the jobs see of the control groups: their `own`
# alone, as in a container, or `all`, as on the host and in a container that shares its namespace.
# LIMIT is the `group` whose memory is limited: their `own`, or the one `above`.

top=/sys/fs/cgroup
case $hierarchy in
v2)
    mount -t cgroup2 cgroup2 $top
    limit=memory.max
    ;;
v1)
    mount -t tmpfs tmpfs $top
    top=$top/memory
    mkdir $top
    mount -t cgroup -o memory memory $top
    limit=memory.limit_in_bytes
    ;;
esac

# make_group PATH: a group in which there can be others.
make_group() {
    mkdir "$top/$1"
    if [ $hierarchy = v2 ]; then
        echo +memory >"$top/${1%/*}/cgroup.subtree_control"
    fi
}

# show_own GROUP COMMAND …: run it in a group, with nothing but that in sight. As engines do it: by
# a namespace, or without one by what is mounted.
show_own() {
    group=$1
    shift
    case $hierarchy in
    v2)
        # For BusyBox's shell its own `unshare` goes first, which does not know this.
        /bin/unshare --cgroup --mount sh -ec \
            'umount /sys/fs/cgroup; mount -t cgroup2 cgroup2 /sys/fs/cgroup; exec "$@"' sh "$@"
        ;;
    v1)
        /bin/unshare --mount sh -ec \
            'mount --bind "$0" /sys/fs/cgroup/memory; exec "$@"' "$top/$group" "$@"
        ;;
    esac
}

# in_group GROUP VIEW COMMAND …: run it there.
in_group() (
    echo 0 >"$top/$1/cgroup.procs"
    case $2 in
    own)
        group=$1
        shift 2
        show_own "$group" "$@"
        ;;
    all)
        shift 2
        exec "$@"
        ;;
    esac
)

# put_job JOB COMMAND: make the folder of a job, a command for a shell.
put_job() {
    mkdir "$jobs/$1"
    mkfifo "$jobs/$1/alive"
    # As the daemon does it: what turns into the program comes from outside.
    echo "exec \"\$@\" sh -c '$2'" >"$jobs/$1/command"
    : >"$jobs/$1/wrapper" >"$jobs/$1/exit"
}

# try_jobs GROUP VIEW LIMIT: run all jobs by one lane in a group.
try_jobs() {
    jobs=/tmp/$2-$3
    mkdir -p "$jobs/lane"
    mkfifo "$jobs/lane/jobs" "$jobs/lane/go" "$jobs/lane/said" "$jobs/begun" "$jobs/done"
    put_job eats "exec tail /dev/zero"
    put_job killed 'kill -KILL $$'
    put_job eats-again "exec tail /dev/zero"
    # Killed by somebody while in another group memory runs out.
    put_job beside 'echo >../begun; read -r line <../done; kill -KILL $$'
    put_job ends "exit 3"
    in_group "$1" "$2" sh /scripts/wrapper.sh lane "$jobs" "$jobs/lane" &
    lane=$!
    printf '%s 1\n' eats killed eats-again beside ends >"$jobs/lane/jobs"
    read -r line <"$jobs/begun"
    in_group other all tail /dev/zero || echo >"$jobs/done"
    wait $lane
    for job in eats killed eats-again beside ends; do
        echo "$2 $3 $job $(cat "$jobs/$job/exit")"
    done
}

make_group /other
make_group /engine
make_group /engine/own
make_group /engine/all
make_group /above
make_group /above/own
for group in other engine/own engine/all above; do
    echo 33554432 >"$top/$group/$limit"
done
try_jobs engine/own own own
try_jobs engine/all all own
try_jobs above/own own above
