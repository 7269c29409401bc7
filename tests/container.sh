# Become a container and run a command in it: as a runtime makes one, without a runtime.
#
#   container.sh UID MASKED DIRECTORY READ_ONLY... -- WRITABLE... -- COMMAND...
#
# A mount and a PID namespace, a root of its own that cannot be written, /proc with its masks
# (MASKED: 1) or whole (0), devices, no capabilities, no new privileges, any user id. The command is
# not process 1, as that number means another one in each namespace.
set -e
uid=$1
masked=$2
directory=$3
shift 3
root=$(mktemp -d)
mount --make-rprivate /
mount -t tmpfs -o mode=755 none "$root"
mkdir "$root/proc" "$root/sys" "$root/dev" "$root/tmp"
mount -t tmpfs -o mode=1777,nosuid,nodev none "$root/tmp"
while [ "$1" != -- ]; do
    if [ -L "$1" ]; then
        cp -P "$1" "$root$1"
    elif [ ! -e "$root$1" ]; then
        mkdir -p "$root$1"
        mount --bind "$1" "$root$1"
        mount -o remount,bind,ro "$root$1"
    fi
    shift
done
shift
while [ "$1" != -- ]; do
    mkdir -p "$root$1"
    mount --bind "$1" "$root$1"
    shift
done
shift
mount -t tmpfs -o mode=755,nosuid none "$root/dev"
for device in null zero full random urandom; do
    touch "$root/dev/$device"
    mount --bind "/dev/$device" "$root/dev/$device"
done
mkdir "$root/dev/shm"
mount -t tmpfs -o mode=1777,nosuid,nodev none "$root/dev/shm"
mount -t proc -o nosuid,nodev,noexec none "$root/proc"
mount --bind /sys "$root/sys"
mount -o remount,bind,ro "$root/sys"
if [ "$masked" = 1 ]; then
    for path in acpi asound scsi; do
        [ ! -d "$root/proc/$path" ] || mount -t tmpfs -o ro none "$root/proc/$path"
    done
    for path in interrupts kcore keys latency_stats timer_list sched_debug; do
        [ ! -f "$root/proc/$path" ] || mount --bind /dev/null "$root/proc/$path"
    done
    for path in bus fs irq sys sysrq-trigger; do
        [ -e "$root/proc/$path" ] || continue
        mount --bind "$root/proc/$path" "$root/proc/$path"
        mount -o remount,bind,ro,nosuid,nodev,noexec "$root/proc/$path"
    done
    [ ! -d "$root/sys/firmware" ] || mount -t tmpfs -o ro none "$root/sys/firmware"
fi
cd "$root"
pivot_root . .
umount -l .
mount -o remount,ro /
cd "$directory"
setpriv --reuid="$uid" --regid="$uid" --clear-groups --inh-caps=-all --bounding-set=-all \
    --no-new-privs "$@"
