#!/bin/sh
# Runs a command in a container: my-container COMMAND [ARG...]
#[9
#
# From step 9 on a shell needs more than util-linux 2.38 has, which is Debian 12's:
#
#  9 rootfs  after pivot_root(8) the host's umount(8) is out of reach, and a folder without one of
#            its own keeps the old root
# 10 init    unshare(1) blocks SIGTERM while it waits, so it goes no further
# 11 limits  the cgroup would have to be removed after a signal, too: see 10
# 12 powers  setpriv(1) has --bounding-set and --no-new-privs, and no option for a filter
# 13 enter   nsenter(1) does it: nsenter --target PID --user --preserve-credentials --mount --uts
#            --ipc --net --pid COMMAND
#]
#[2
set -eu
#]
#[1-1
[ $# -gt 0 ] || { echo "my-container: which command?" >&2; exit 1; }
exec "$@"
#]
#[2
PATH=$PATH:/usr/sbin:/sbin # where hostname(1) and ip(8) may be

# The life of the container's first process.
# shellcheck disable=SC2016 # the shell inside reads it
#[2-2
inside='
    hostname container
    exec "$@"
'
#]
#[3-3
inside='
    hostname container
    exec "$@"
'
#]
#[4-7
inside='
    hostname container
    mount -t proc proc /proc # shows the PID namespace of who mounts it
    exec "$@"
'
#]
#[8
inside='
    hostname container
    ip link set lo up
    mount -t proc proc /proc # shows the PID namespace of who mounts it
    exec "$@"
'
#]

#[2-5
# Who is not root may make the others only in a user namespace, and execve(2) takes the capabilities
# in it from who is not root there, if they are not ambient: user_namespaces(7).
user=
[ "$(id -u)" = 0 ] || user='--user --map-current-user --keep-caps'
#]
#[2-2
# shellcheck disable=SC2086 # none, or three words
exec unshare $user --uts sh -euc "$inside" sh "$@"
#]
#[3-3
# Not unshare(1) itself, but its next child is PID 1: --fork.
# shellcheck disable=SC2086 # none, or three words
exec unshare $user --uts --pid --fork --kill-child sh -euc "$inside" sh "$@"
#]
#[4-4
# Not unshare(1) itself, but its next child is PID 1: --fork.
# shellcheck disable=SC2086 # none, or three words
exec unshare $user --uts --pid --fork --kill-child --mount --propagation unchanged \
    sh -euc "$inside" sh "$@"
#]
#[5-5
# Not unshare(1) itself, but its next child is PID 1: --fork.
# shellcheck disable=SC2086 # none, or three words
exec unshare $user --uts --pid --fork --kill-child --mount --propagation private \
    sh -euc "$inside" sh "$@"
#]
#[6-6
# Root inside, and outside who we are. Not unshare(1) itself, but its next child is PID 1: --fork.
exec unshare --user --map-root-user --uts --pid --fork --kill-child --mount --propagation private \
    sh -euc "$inside" sh "$@"
#]
#[7-7
# Root inside, and outside who we are. Not unshare(1) itself, but its next child is PID 1: --fork.
exec unshare --user --map-root-user --uts --ipc --pid --fork --kill-child \
    --mount --propagation private sh -euc "$inside" sh "$@"
#]
#[8
# Root inside, and outside who we are. Not unshare(1) itself, but its next child is PID 1: --fork.
exec unshare --user --map-root-user --uts --ipc --net --pid --fork --kill-child \
    --mount --propagation private sh -euc "$inside" sh "$@"
#]
#]
