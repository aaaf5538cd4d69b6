mkdir -p "$target" "$debs"
if [ -z "$builder" ]; then
	debootstrap --variant=minbase --cache-dir="$debs" --include="$system" "$suite" "$target"
else
	work=$(mktemp -d "$target.builder.XXXXXX")
	mount -t tmpfs tmpfs "$work"
	mkdir "$work/upper" "$work/work" "$work/root"
	mount -t overlay -o "lowerdir=$builder,upperdir=$work/upper,workdir=$work/work" overlay "$work/root"
	mount_api "$work/root"
	borrow_apt "$work/root"
	install "$work/root" debootstrap debian-archive-keyring
	mkdir "$work/root/target" "$work/root/debs"
	mount --bind "$target" "$work/root/target"
	mount --bind "$debs" "$work/root/debs"
	chroot "$work/root" debootstrap --variant=minbase --cache-dir=/debs --include="$system" "$suite" /target
	umount -R "$work/root"
	umount "$work"
	rmdir "$work"
fi

cp -a "$target/etc/apt/apt.conf.d" "$target/root/apt.conf.d"
mount_api "$target"
borrow_apt "$target"
install "$target" $libvirt
# netfilter-persistent conflicts with ufw: it is put in place of it on hosts that use it.
mkdir "$target/usr/share/lab"
chroot "$target" sh -c 'cd /usr/share/lab && apt-get -q -o APT::Sandbox::User=root download iptables-persistent netfilter-persistent'
umount "$target/proc" "$target/sys" "$target/dev/pts"

# What was borrowed for the build is given back.
rm -rf "$target/etc/apt/apt.conf.d" "$target/etc/apt/apt.conf" "$target/var/lib/apt/lists" "$target/var/cache/apt"
mv "$target/root/apt.conf.d" "$target/etc/apt/apt.conf.d"
mkdir -p "$target/var/lib/apt/lists/partial" "$target/var/cache/apt/archives/partial"
rm -f "$target/usr/sbin/policy-rc.d" "$target/etc/dpkg/dpkg.cfg.d/lab" "$target/etc/resolv.conf" "$target/etc/hosts"
: >"$target/etc/resolv.conf"

# What must differ between hosts, or must be chosen for each.
rm -f "$target"/etc/ssh/ssh_host_* "$target/var/lib/dbus/machine-id" "$target/etc/hostname"
: >"$target/etc/machine-id"
systemctl --root="$target" disable firewalld.service ufw.service nftables.service
systemctl --root="$target" disable apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer fstrim.timer e2scrub_all.timer e2scrub_reap.service 2>/dev/null || true
rm -rf "$target"/var/log/*.log "$target/var/log/apt"
# Nothing is left to be brought up to date at the first boot.
touch "$target/etc/.updated" "$target/var/.updated"
