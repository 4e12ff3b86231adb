#!/bin/sh
# Makes a phone's file system out of this machine's, in the mount namespace that this runs in, and waits for its stdin
# to be closed; then ends what still runs in there, since who held it may have been killed. ROOT is where it goes, STATE
# the phone's folder (seen at the same place inside), BYTES the size of /data.
set -eu
ROOT=$1 STATE=$2 BYTES=$3
mount -t tmpfs -o mode=755 none "$ROOT"
for entry in /*; do
    there=$ROOT$entry
    if [ -L "$entry" ]; then
        cp -P "$entry" "$there" # not its owner, who may be nobody in here
    elif [ -d "$entry" ] && [ "$entry" != /data ] && [ "$entry" != /system ]; then
        mkdir "$there"
        mount --rbind "$entry" "$there"
    fi
done
mkdir -p "$ROOT/data" "$ROOT/system/bin"
mount -t tmpfs -o "mode=771,size=$BYTES" none "$ROOT/data"
mkdir -p "$ROOT/data/local/tmp" "$ROOT/data/app"
chmod 1777 "$ROOT/data/local/tmp"
mount --bind "$STATE/bin" "$ROOT/system/bin"
mount --bind "$STATE/boot_id" "$ROOT/proc/sys/kernel/random/boot_id"
echo ready
read -r _ || true # not cat: a phone that is shut down loses all processes but this one
for process in /proc/[0-9]*; do
    if [ "$process" != "/proc/$$" ] && [ "$process/ns/mnt" -ef "/proc/$$/ns/mnt" ]; then
        kill -KILL "${process#/proc/}" || true
    fi
done 2>/dev/null
