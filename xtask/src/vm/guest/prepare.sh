# Makes a bare Debian into the machine's disk contents. Arguments: root file system; directory of these files.
root=$1 files=$2
install -D -m 755 -t "$root/usr/libexec/dhow-vm" "$files/init" "$files/job"
install -m 644 "$files/fstab" "$root/usr/libexec/dhow-vm/fstab"
install -m 644 "$files/dhow-vm.service" "$root/usr/lib/systemd/system/dhow-vm.service"
echo vm >"$root/etc/hostname"
echo '127.0.0.1 localhost vm' >"$root/etc/hosts"

# Kernel modules uncompressed: an emulated processor is slow at inflating them at every boot.
find "$root/usr/lib/modules" -name '*.ko.xz' -exec xz --decompress {} +
chroot "$root" depmod "$(ls "$root/usr/lib/modules")"

chroot "$root" useradd --create-home --shell /bin/bash tester
chroot "$root" systemd-machine-id-setup 2>/dev/null
# Each service costs a noticeable time under emulation: those that a container engine never meets are left out.
unwanted=(getty.target systemd-udev-trigger.service modprobe@.service selinux-autorelabel-mark.service e2scrub_reap.service
    sys-kernel-debug.mount sys-kernel-tracing.mount)
for name in binfmt journal-flush pstore random-seed timesyncd udev-load-credentials update-utmp; do
    unwanted+=("systemd-$name.service")
done
for name in apt-daily apt-daily-upgrade dpkg-db-backup e2scrub_all fstrim systemd-tmpfiles-clean; do
    unwanted+=("$name.timer")
done
systemctl() { chroot "$root" env SYSTEMD_OFFLINE=1 systemctl --quiet "$@" 2>/dev/null; }
systemctl set-default multi-user.target
systemctl enable dhow-vm.service
systemctl mask "${unwanted[@]}"
# Debian's own profiles take a quarter of a minute to compile at every boot, and no test needs them.
find "$root/etc/apparmor.d" -maxdepth 1 -type f -delete
sed -i 's/^SELINUX=.*/SELINUX=enforcing/' "$root/etc/selinux/config"
rm -rf "$root"/var/lib/apt/lists/* "$root"/var/cache/apt/*.bin
# systemd would otherwise rebuild its caches at every boot.
touch "$root/etc/.updated" "$root/var/.updated"
chroot "$root" setfiles -F /etc/selinux/default/contexts/files/file_contexts /
