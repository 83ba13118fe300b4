# SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0
#
# What a reader's control group is charged, and held to, when it reads a disk whose bytes lie in a file:
# `cgroups.sh DISK FILE`, in the test machine. Prints figures, and what fio says of the bytes.
set -eu

disk=$1 file=$2
groups=/sys/fs/cgroup
group=$groups/reader
# The disk that the file lies on.
below=$(stat -c %d "$file")
below=$((below >> 8 & 0xfff)):$((below & 0xff))

test -f $groups/cgroup.controllers || mount -t cgroup2 none $groups
echo "+io +memory" >$groups/cgroup.subtree_control

# Reads all of the disk in a group of that name with nothing in the cache, after $limit was written to $limited.
read_all() {
    mkdir $group
    test -z "$limited" || echo "$limit" >$group/$limited
    sync
    echo 3 >/proc/sys/vm/drop_caches
    begin=$(cut -d' ' -f1 /proc/uptime | tr -d .)
    sh -c "echo \$\$ >$group/cgroup.procs; exec chroot /suites /usr/bin/fio --name=verify --filename=$disk --readonly \
        --rw=read --bs=64k --ioengine=psync --verify=crc32c --verify_interval=4k --verify_fatal=1 \
        --output=/dev/null $*" || echo "failed = $?"
    end=$(cut -d' ' -f1 /proc/uptime | tr -d .)
}
charged() { sed -n "s/^$below .*rbytes=\([0-9]*\) .*/\1/p" $group/io.stat; }
done_with() { until rmdir $group 2>/dev/null; do sleep 0.1; done; }

limited= limit=
read_all --direct=1
echo "read of the disk below, in bytes = $(charged)"
done_with

limited=io.max limit="$below rbps=3145728"
read_all --direct=1
echo "hundredths of a second at three MiB a second = $((end - begin))"
done_with

limited=
read_all --direct=0
echo "cached, in bytes = $(sed -n 's/^file //p' $group/memory.stat)"
done_with

limited=memory.max limit=32M
read_all --direct=0
echo "cached within 32 MiB, in bytes = $(sed -n 's/^file //p' $group/memory.stat)"
echo "most memory within 32 MiB, in bytes = $(cat $group/memory.peak)"
done_with
