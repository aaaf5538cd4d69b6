# Takes the lease, and settles what an earlier run left behind.
if [ -n "$lrun" ] && [ "$lrun" != "$R" ] && [ "$lboot" = "$boot" ] && [ "$lexpires" -gt "$up" ]; then
	die locked "$lrun $((lexpires - up)) $lowner" 73
fi
F=$((lfence + 1))
lease "$F"
say fence '' "$F"
exec 9>&-
if [ -f "$S/armed" ]; then
	oneline "$S/armed"; left=$x
	/bin/sh "$S/revert.sh" run </dev/null >/dev/null 2>&1
	[ -f "$S/armed" ] && die pending "the reverter of run ${left##*/run-} cannot finish ($(sed -n 's/^revert-pending //p' "$left/journal" 2>/dev/null | tail -n 1)): see $left/journal" 76
	say recovered reverted "${left##*/run-}"
	# The reverter moved the fence.
	while read -r k v; do [ "$k" = fence ] && F=$((v + 1)); done <"$L/lease"
	lease "$F"
	say fence '' "$F"
fi
if [ -f "$S/staging" ]; then
	while read -r run dir; do
		case $dir in */.virtrust-"$run") [ -d "$dir" ] && [ ! -L "$dir" ] && rm -rf -- "$dir" && say recovered swept "$run" ;; esac
	done <"$S/staging"
	unstage
fi
