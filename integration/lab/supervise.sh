#!/bin/sh
# Runs one host until it is powered off: supervise.sh KIND HOSTNAME MACHINE NETNS BASE CGROUPS
# KIND is systemd or cheap; CGROUPS is a list of directories, split at colons.
# The working directory is the host's own: upper, work, root, files.tar, prepare.sh, hosts.
# It runs in a mount namespace of its own and in the host's network namespace,
# so its mounts go when its last process goes.
set -eu
kind=$1 hostname=$2 machine=$3 netns=$4 base=$5 cgroups=$6

mount -t overlay -o "lowerdir=$base,upperdir=upper,workdir=work" overlay root
if [ ! -e prepared ]; then
	mount -t proc proc root/proc
	tar -xpf files.tar --numeric-owner -C root
	chroot root /bin/sh -eu <prepare.sh
	umount root/proc
	: >prepared
fi

# The names of a lab grow as hosts are added to it.
refresh_hosts() { cp hosts root/etc/hosts; }

# in_cgroup COMMAND... gives the host cgroups of its own, so that two hosts
# never see each other's units.
in_cgroup() {
	IFS=:
	for dir in $cgroups; do
		mkdir -p "$dir"
		sh -c 'echo $PPID' >"$dir/cgroup.procs"
	done
	unset IFS
	exec "$@"
}

clean_cgroups() {
	IFS=:
	for dir in $cgroups; do
		find "$dir" -depth -mindepth 1 -type d -exec rmdir {} + 2>/dev/null || true
	done
	unset IFS
}

if [ "$kind" = cheap ]; then
	refresh_hosts
	exec unshare --pid --mount --uts --fork --kill-child sh -eu -c '
		hostname "$1"
		mount -t proc proc root/proc
		mount -t sysfs -o ro sysfs root/sys
		mount -t tmpfs -o mode=755 tmpfs root/run
		mount -t tmpfs -o mode=755 tmpfs root/dev
		for node in null zero full random urandom tty; do
			: >"root/dev/$node"
			mount --bind "/dev/$node" "root/dev/$node"
		done
		mkdir root/dev/pts root/run/sshd
		mount -t devpts -o newinstance,ptmxmode=0666,mode=620,gid=5 devpts root/dev/pts
		ln -s pts/ptmx root/dev/ptmx
		ln -s /proc/self/fd root/dev/fd
		ln -s fd/0 root/dev/stdin
		ln -s fd/1 root/dev/stdout
		ln -s fd/2 root/dev/stderr
		exec chroot root /bin/sh -c "/usr/sbin/sshd -D -e & wait"
	' sh "$hostname"
fi

while :; do
	refresh_hosts
	code=0
	(in_cgroup systemd-nspawn --quiet --register=no --keep-unit -D root \
		--machine="$machine" --hostname="$hostname" --boot --capability=all \
		--network-namespace-path="$netns" --bind=/dev/net/tun \
		--resolv-conf=off --timezone=off --link-journal=no --console=read-only -- --show-status=yes) || code=$?
	clean_cgroups
	# systemd-nspawn ends with 133 when the host asked for a reboot.
	[ "$code" = 133 ] || exit "$code"
done
