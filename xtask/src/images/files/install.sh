# Installs packages on a base, into the upper directory of an overlay. Runs in mount and pid namespaces of its own, so that no
# mount and no process stays. Arguments: directory with lower, upper, work, merged and files; script to run after; packages.
cd "$1"
script=$2
shift 2
mount -t overlay overlay -o lowerdir=lower,upperdir=upper,workdir=work merged
mount -t proc proc merged/proc
mount -t tmpfs tmpfs merged/dev
for node in null zero random urandom full; do
    touch "merged/dev/$node"
    mount --bind "/dev/$node" "merged/dev/$node"
done
ln -s /proc/self/fd merged/dev/fd
mount --bind /etc/resolv.conf merged/etc/resolv.conf
mkdir merged/run/files
mount --bind files merged/run/files
# No service is started by its package.
printf '#!/bin/sh\nexit 101\n' >merged/usr/sbin/policy-rc.d
chmod 755 merged/usr/sbin/policy-rc.d
export DEBIAN_FRONTEND=noninteractive LC_ALL=C
apt=(chroot merged apt-get --quiet=2 --option=Dpkg::Use-Pty=0 --option=Dpkg::Options::=--force-unsafe-io
    --option=APT::Sandbox::User=root)
mkdir -p merged/etc/postgresql-common
# The cluster is made by the container, not by the package.
echo 'create_main_cluster = false' >merged/etc/postgresql-common/createcluster.conf
"${apt[@]}" update
"${apt[@]}" install --yes --no-install-recommends "$@" >log 2>&1 || { cat log >&2; exit 1; }
chroot merged sh -euc "$script"
"${apt[@]}" clean
[[ " $* " == *' postgresql '* ]] || rm -r merged/etc/postgresql-common
rm -rf merged/usr/sbin/policy-rc.d merged/var/lib/apt/lists/* merged/var/log/apt merged/var/log/dpkg.log \
    merged/var/cache/ldconfig/aux-cache
umount merged/run/files merged/etc/resolv.conf
rmdir merged/run/files
umount -R merged
