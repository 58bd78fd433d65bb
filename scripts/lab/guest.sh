# Second program of the KVM lab, run by init.c with bash of the host's root. host.ts puts before it what this run is about:
# MODULES and RELEASE (of the kernel), SHARED (folders), PROJECT, CWD, ENVIRONMENT and COMMAND. "$1" is the host's root without the overlay.
# The kernel's modules and the tools are the host's: kmod, mount, e2fsprogs.
set -eEu
trap 'echo "lab: line $LINENO of guest.sh failed"; echo o >/proc/sysrq-trigger; sleep 10' ERR
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin

# A tmpfs over a folder of the host's, below which the checkout and the caller's folder stay where they are.
cover() {
  local kept
  mount -t tmpfs -o "$2" "${1##*/}" /mnt
  for kept in "$PROJECT" "$CWD"; do
    if [[ $kept == "$1"/* ]]; then
      mkdir -p "/mnt/${kept#"$1"/}"
      mount --bind "$kept" "/mnt/${kept#"$1"/}"
    fi
  done
  mount -n --move /mnt "$1"
}

mount -t sysfs -o nosuid,nodev,noexec sys /sys
mount -t devtmpfs -o nosuid,mode=755 dev /dev
mkdir -p /dev/pts /dev/shm
mount -t devpts -o nosuid,noexec,gid=5,mode=620,ptmxmode=666 devpts /dev/pts
mount -t tmpfs -o nosuid,nodev shm /dev/shm
cover /run nosuid,nodev,mode=755
cover /tmp nosuid,nodev,mode=1777
mount -t cgroup2 -o nosuid,nodev,noexec cgroup2 /sys/fs/cgroup
for controller in $(cat /sys/fs/cgroup/cgroup.controllers); do
  echo "+$controller" >/sys/fs/cgroup/cgroup.subtree_control
done
ln -sfn /proc/self/fd /dev/fd

# Tests run programs of the checkout as other users, whom the folders above it need not let in. Only the lab sees this change.
above=$PROJECT
while [[ $above ]]; do
  chmod o+x "$above"
  above=${above%/*}
done

# The kernel looks for modules here by itself, too.
mkdir -p /lib/modules
ln -sfn "$MODULES/$RELEASE" "/lib/modules/$RELEASE"
modprobe -a virtio_console virtio_blk ext4 kvm_amd tun loop squashfs virtio_rng
chmod 666 /dev/kvm

# What is written in the root is memory that a cgroup cannot get back, unlike a disk's.
mkfs.ext4 -q -O ^has_journal /dev/vda
mount -t ext4 /dev/vda /srv

for folder in "${SHARED[@]}"; do
  mkdir -p "$folder"
  mount --bind "$1$folder" "$folder"
done

# The driver makes the port when the host has told it of it.
for _ in {1..100}; do
  port=$(compgen -G '/dev/vport*p1') && break
  sleep 0.05
done
[[ -c $port ]]

# The port can be opened once only, but programs open their standard streams anew: a pipe may be.
cd "$CWD"
{
  code=0
  env -i "${ENVIRONMENT[@]}" "${COMMAND[@]}" </dev/null 3<&- 4<&- || code=$?
  sync
  printf '\0lab exit %d\0' "$code"
  # The host ends the machine when it has read that.
  sleep infinity
} 2>&1 | cat >"$port"
