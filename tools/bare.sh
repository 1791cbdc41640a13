#!/bin/sh
# bare.sh - proves that a bare Debian 12 with git is enough: makes a minimal root file system, puts
# a clone of HEAD in it and runs ./dev WORD there for each WORD (default: demo test).
#
#     sudo tools/bare.sh [WORD...]
#
# Needs root and debootstrap. Everything is mounted in a mount namespace of its own and runs in a
# process namespace of its own, so that nothing is left behind, whatever happens.
# FEN_BARE_DIR: where the root file system is made (a directory below /tmp).
set -eu
cd "$(dirname "$0")/.."
[ "$(id -u)" = 0 ] || { echo "bare: only root can make a root file system" >&2; exit 1; }
command -v debootstrap >/dev/null || { echo "bare: debootstrap is not installed" >&2; exit 1; }
[ $# -gt 0 ] || set -- demo test
for word; do
    case "$word" in *[!a-z]*) echo "bare: '$word' is no word of ./dev" >&2; exit 2 ;; esac
done

# The first archive in this host's apt sources whose suite is bookworm.
mirror() {
    cat /etc/apt/sources.list /etc/apt/sources.list.d/*.list 2>/dev/null |
        sed -n 's/^deb \(\[[^]]*\] \)\{0,1\}\([^ ]*\) bookworm .*/\2/p'
    cat /etc/apt/sources.list.d/*.sources 2>/dev/null |
        awk '/^URIs:/ {u = $2} /^Suites:.* bookworm( |$)/ {print u}'
}
archive=$(mirror | head -n 1)
archive=${archive:-http://deb.debian.org/debian}

root=$(mktemp -d "${FEN_BARE_DIR:-/tmp}/fen-bare.XXXXXX")
chmod 755 "$root" # it becomes "/": not only root looks through it
trap 'rm -rf --one-file-system "$root"' EXIT
trap 'exit 1' INT TERM HUP

echo "bare: Debian 12 (minbase, git, ca-certificates) from $archive"
start=$(date +%s)
debootstrap --variant=minbase --include=git,ca-certificates bookworm "$root" "$archive" \
    >"$root.log" 2>&1 || { tail -n 20 "$root.log" >&2; rm -f "$root.log"; exit 1; }
rm -f "$root.log"
echo "bare: made in $(($(date +%s) - start)) s"

# How this host reaches the network: names, proxies, private certificates.
cp /etc/resolv.conf "$root/etc/resolv.conf" 2>/dev/null || true
cp /etc/hosts "$root/etc/hosts" 2>/dev/null || true
for f in /etc/apt/apt.conf /etc/apt/apt.conf.d/*; do
    if [ -f "$f" ] && grep -q 'Acquire::.*[Pp]roxy' "$f"; then
        cp "$f" "$root/etc/apt/apt.conf.d/"
    fi
done
if [ -d /usr/local/share/ca-certificates ]; then
    cp -R /usr/local/share/ca-certificates "$root/usr/local/share/"
    chroot "$root" update-ca-certificates >/dev/null 2>&1 || true
fi

mkdir -p "$root/repository"
cat >"$root/run.sh" <<'IN'
set -eu
rev=$1
shift
cd /root
git config --global safe.directory '*'
git config --global advice.detachedHead false
git clone -q file:///repository fen
cd fen
git checkout -q "$rev"
for word; do
    echo "bare: ./dev $word"
    start=$(date +%s)
    rc=0
    ./dev "$word" || rc=$?
    echo "bare: ./dev $word took $(($(date +%s) - start)) s, exit $rc"
    [ $rc = 0 ] || exit $rc
done
IN

FEN_BARE_ROOT=$root
FEN_BARE_GIT=$(cd "$(git rev-parse --git-common-dir)" && pwd)
export FEN_BARE_ROOT FEN_BARE_GIT
rc=0
# shellcheck disable=SC2016
unshare --mount --propagation private --pid --fork --kill-child sh -euc '
    mount -t proc proc "$FEN_BARE_ROOT/proc"
    mount -t sysfs -o ro sysfs "$FEN_BARE_ROOT/sys"
    mount --rbind /dev "$FEN_BARE_ROOT/dev"
    mount -t tmpfs tmpfs "$FEN_BARE_ROOT/tmp"
    mount --bind "$FEN_BARE_GIT" "$FEN_BARE_ROOT/repository"
    mount -o remount,bind,ro "$FEN_BARE_ROOT/repository"
    exec env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root \
        ${http_proxy:+http_proxy="$http_proxy"} ${https_proxy:+https_proxy="$https_proxy"} \
        chroot "$FEN_BARE_ROOT" sh /run.sh "$@"
' sh "$(git rev-parse HEAD)" "$@" </dev/null || rc=$?
if [ $rc = 0 ]; then echo "bare: ok"; else echo "bare: FAILED, exit $rc"; fi
exit $rc
