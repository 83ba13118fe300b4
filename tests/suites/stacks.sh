# SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0
#
# What people put on top of a disk, on top of a disk of vbd: `stacks.sh KIND good|bad`, in the test machine.
#
# /share/data is an image in whose every block fio finds a checksum. It is written to a stack of this kind over a
# loop device, or is the disk itself where a kind keeps nothing there; of what then lies on the disk a layer is
# made, a bit of it is flipped if it is to be bad, and the stack is put together on /dev/vbd0 and read whole.
set -eu

kind=$1 state=$2
bytes=$(stat -c %s /share/data)
sectors=$((bytes / 512))
image=/tmp/image layer=/tmp/layer
top=/dev/mapper/top

tool() { chroot /suites "$@"; }
create() { dmsetup create "$@"; }
lvm() { # The machine has no udev, and only these disks are to be looked at.
    tool /usr/sbin/lvm "$@" --config 'activation{udev_sync=0 udev_rules=0 verify_udev_operations=0}
        devices{use_devicesfile=0 obtain_device_list_from_udev=0 global_filter=["a|^/dev/loop6$|","a|^/dev/vbd0$|","r|.*|"]}
        global{use_lvmpolld=0 event_activation=0} backup{backup=0 archive=0}'
}
export MDADM_NO_UDEV=1

# A disk of so many MiB more than the data, at /dev/loop6, whose file becomes the layer.
blank() {
    truncate -s $((bytes + ($1 << 20))) $image
    losetup /dev/loop6 $image
}
filled() {
    dd if=/share/data of="$1" bs=1M oflag=direct status=none
    sync
}
# Something on top of it that takes writes, as what cannot be opened read-only needs.
writable() {
    create over --table "0 $(blockdev --getsz /dev/vbd0) snapshot /dev/vbd0 /dev/ram0 N 8"
}
key() { printf secret; }

make_image() {
    case $kind in
    crypt)
        blank 4
        key | tool /usr/sbin/cryptsetup luksFormat --batch-mode --type luks1 --pbkdf-force-iterations 1000 --key-file - /dev/loop6
        key | tool /usr/sbin/cryptsetup open --key-file - /dev/loop6 top
        filled $top
        tool /usr/sbin/cryptsetup close top
        ;;
    lvm)
        blank 8
        lvm pvcreate -q /dev/loop6
        lvm vgcreate -q group /dev/loop6
        lvm lvcreate -q -y -Wn -Zn -L ${bytes}b -n volume group
        filled /dev/mapper/group-volume
        lvm lvchange -q -pr group/volume
        lvm vgchange -q -an group
        ;;
    md)
        blank 4
        yes | tool /sbin/mdadm --create /dev/md0 --quiet --run --force --level=1 --raid-devices=1 --metadata=1.0 \
            --size=$((bytes / 1024)) --bitmap=none /dev/loop6
        filled /dev/md0
        tool /sbin/mdadm --stop --quiet /dev/md0
        ;;
    *)
        ln -sf /share/data $image
        return
        ;;
    esac
    losetup -d /dev/loop6
}

open_stack() {
    case $kind in
    linear) create top --readonly --table "0 $sectors linear /dev/vbd0 0" ;;
    multipath) create top --readonly --table "0 $sectors multipath 0 0 1 1 round-robin 0 1 1 /dev/vbd0 1000" ;;
    snapshot) create top --table "0 $sectors snapshot /dev/vbd0 /dev/ram0 N 8" ;;
    thin)
        create pool --table "0 65536 thin-pool /dev/ram0 /dev/ram1 128 0 1 skip_block_zeroing"
        dmsetup message pool 0 "create_thin 0"
        create top --table "0 $sectors thin /dev/mapper/pool 0 /dev/vbd0"
        ;;
    cache)
        writable
        create top --table "0 $sectors cache /dev/ram1 /dev/ram2 /dev/mapper/over 512 1 writethrough smq 0"
        ;;
    verity)
        losetup /dev/loop5 $image
        truncate -s 4M /tmp/hashes
        losetup /dev/loop6 /tmp/hashes
        root=$(tool /usr/sbin/veritysetup format /dev/loop5 /dev/loop6 | sed -n 's/^Root hash:[[:space:]]*//p')
        losetup -d /dev/loop5
        tool /usr/sbin/veritysetup open /dev/vbd0 top /dev/loop6 "$root"
        ;;
    crypt) key | tool /usr/sbin/cryptsetup open --readonly --key-file - /dev/vbd0 top ;;
    lvm)
        lvm vgchange -q -ay group
        top=/dev/mapper/group-volume
        ;;
    md)
        writable
        tool /sbin/mdadm --assemble --quiet --run --readonly /dev/md0 /dev/mapper/over
        top=/dev/md0
        ;;
    *) echo "no kind $kind" && exit 2 ;;
    esac
}

close_stack() {
    case $kind in
    lvm) lvm vgchange -q -an group ;;
    md) tool /sbin/mdadm --stop --quiet /dev/md0 && dmsetup remove over ;;
    *)
        dmsetup remove top
        case $kind in
        cache) dmsetup remove over ;;
        thin) dmsetup remove pool ;;
        verity) losetup -d /dev/loop6 ;;
        esac
        ;;
    esac
}

# Whatever went wrong, the next kind finds the machine as this one did.
clean() {
    tool /sbin/mdadm --stop --scan >/dev/null 2>&1 || true
    for try in 1 2 3; do dmsetup remove_all --force >/dev/null 2>&1 || true; done
    losetup --detach-all
    for module in vbd brd; do test ! -d /sys/module/$module || rmmod $module || true; done
    rm -f $image $layer /tmp/hashes
}
trap clean EXIT

modprobe -a loop dm_mod
modprobe brd rd_nr=3 rd_size=65536
make_image
vbdctl create -f lz4 $image $layer
if [ $state = bad ]; then
    # In the middle are data, whatever the kind.
    at=$(($(stat -c %s $layer) / 2))
    byte=$(dd if=$layer bs=1 skip=$at count=1 status=none | od -An -tu1)
    printf "\\$(printf %o $((byte ^ 1)))" | dd of=$layer bs=1 seek=$at conv=notrunc status=none
fi
insmod /vbd.ko backfile=$layer
open_stack

# Neighbours are submitted together, so that they are joined; a bad block must not be read as a good one.
rm -f /suites/tmp/fio.json
status=0
tool /usr/bin/fio --name=verify --filename=$top --readonly --size=$bytes --rw=read --bs=4k --direct=1 \
    --ioengine=libaio --iodepth=8 --iodepth_batch=8 --iodepth_batch_complete_min=8 \
    --verify=crc32c --verify_interval=4k --verify_fatal=1 --continue_on_error=io \
    --output-format=json --output=/tmp/fio.json || status=$?
cat /suites/tmp/fio.json
close_stack
# Whatever has not let go of the disk keeps the module, and is told of.
rmmod vbd
exit $status
