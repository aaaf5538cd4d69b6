# Head of every script that changes something. R run, O owner, F fence (0 before
# the lease is ours), T seconds that a lease lasts.
LC_ALL=C; PATH=/usr/sbin:/usr/bin:/sbin:/bin; export LC_ALL PATH
umask 077
set -u
S=/var/lib/virtrust L=/run/virtrust
say() { printf '%s %s %d %s\n%s\n' "$N" "$1" "${#3}" "$2" "$3"; }
die() { say "$1" '' "$2"; exit "$3"; }
oneline() { x=; { IFS= read -r x <"$1"; } 2>/dev/null; }
oneline /proc/uptime; up=${x%%.*}
oneline /proc/sys/kernel/random/boot_id; boot=$x
mkdir -p -m 0700 "$L" "$S" 2>/dev/null
exec 9>>"$L/lock" || die failed "cannot open $L/lock" 70
# ksh does not hand the descriptor on by itself.
flock -w "${W:-20}" 9 9>&9 || die busy "another script holds $L/lock" 75
lowner= lrun= lboot= lexpires=0 lfence=0
if [ -f "$L/lease" ]; then
	while read -r k v; do
		case $k in owner) lowner=$v ;; run) lrun=$v ;; boot) lboot=$v ;; expires) lexpires=$v ;; fence) lfence=$v ;; esac
	done <"$L/lease"
fi
put_lease() { # what stands on standard input; written over where nothing new fits
	x=$(cat)
	{ printf '%s\n' "$x" >"$L/lease.new" && mv -f "$L/lease.new" "$L/lease"; } 2>/dev/null && return 0
	rm -f "$L/lease.new"
	{ printf '%s\n' "$x" >"$L/lease"; } 2>/dev/null
}
lease() { # fence: ours from now, for T seconds
	printf 'owner %s\nrun %s\nboot %s\nexpires %s\nfence %s\n' "$O" "$R" "$boot" "$((up + T))" "$1" | put_lease ||
		die failed "cannot write $L/lease" 70
}
ours() {
	[ "$lrun" = "$R" ] && [ "$lboot" = "$boot" ] && [ "$lfence" = "$F" ] && [ "$lexpires" -gt "$up" ] ||
		die notours "the lease of this run is over (now: run ${lrun:-none}, fence $lfence)" 74
	lease "$F"
}
unstage() { # forgets the staging directories once they are gone
	left=
	while read -r run dir; do
		[ ! -d "$dir" ] || left=yes
	done 2>/dev/null <"$S/staging"
	[ -n "$left" ] || rm -f "$S/staging"
}
journal() { printf '%s\n' "$1" >>"$S/run-$R/journal"; }
durable() { sync "$@" 2>/dev/null || sync; }
