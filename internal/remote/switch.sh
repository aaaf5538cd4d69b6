# Verifies what was staged, arms the reverter, switches and activates. The
# functions are called by generated lines: first note_* for every step, then
# arm, then do_* for every step.
D=$S/run-$R
notes= restarted= touched=
fail() { # what; with a timer the controller has the reverter act, else we do
	if [ -n "$touched" ]; then
		journal "failed $1"
		if [ "$touched" = alone ]; then
			exec 9>&-
			/bin/sh "$S/revert.sh" run </dev/null >/dev/null 2>&1
		fi
	fi
	die failed "$1" 20
}
want_sum() { # path, sha256
	got=$(sha256sum <"$1" 2>/dev/null) || fail "$1 cannot be read"
	[ "${got%% *}" = "$2" ] || fail "$1 is not what was uploaded"
}
want_pair() { # certificate, key
	command -v openssl >/dev/null 2>&1 || return 0
	a=$(openssl x509 -in "$1" -noout -pubkey 2>/dev/null)
	b=$(openssl pkey -in "$2" -passin pass: -pubout </dev/null 2>/dev/null)
	[ -n "$a" ] && [ "$a" = "$b" ] || fail "the key made on the host does not belong to the signed certificate"
}
dress() { # staged path, owner:group, mode, final path
	chown -h "$2" "$1" && { [ -L "$1" ] || chmod "$3" "$1"; } || fail "cannot set owner or mode of $4"
	if [ -e /sys/fs/selinux/enforce ] && command -v matchpathcon >/dev/null 2>&1; then
		chcon -h "$(matchpathcon -n "$4")" "$1" || fail "cannot set the SELinux label of $4"
	fi
}
prior() { # step, path, expected type, expected digest or target
	if [ -L "$2" ]; then
		t=$(readlink -- "$2") is=link
		case $t in *'
'*) fail "$2 points to a name with a line break" ;; esac
		[ "$3" = link ] && [ "$t" = "$4" ] || fail "moved: $2 is a link to $t"
		was="link $t"
	elif [ -f "$2" ]; then
		cp -a -- "$2" "$D/saved/$1" || fail "cannot keep a copy of $2"
		[ "$3" = file ] || fail "moved: $2 is a file now"
		if [ -n "$4" ]; then
			got=$(sha256sum <"$D/saved/$1")
			[ "${got%% *}" = "$4" ] || fail "moved: $2 has other content"
		fi
		was=file
	elif [ -e "$2" ]; then
		fail "moved: $2 is neither file nor link"
	else
		[ -z "$3" ] || fail "moved: $2 is gone"
		was=absent
	fi
}
note() { notes="$notes$1
"; }
note_dir() { # step, path
	[ -e "$2" ] || [ -L "$2" ] && fail "moved: $2 exists now"
	note "step $1 dir $2"
}
note_tree() { # step, path
	[ -e "$2" ] || [ -L "$2" ] && fail "moved: $2 exists now"
	note "step $1 tree $2"
}
note_file() { # step, path, expected type, expected digest or target, new digest
	prior "$1" "$2" "$3" "$4"
	note "step $1 file $2 now $5 was $was"
}
note_link() { # step, path, expected type, expected digest or target, new target
	prior "$1" "$2" "$3" "$4"
	note "step $1 link $2 now $5 was $was"
}
note_gone() { # step, path, expected type, expected digest or target
	prior "$1" "$2" "$3" "$4"
	note "step $1 gone $2 now - was $was"
}
note_unit() { # step, unit, service
	e=$(systemctl is-enabled "$2" 2>/dev/null) a=$(systemctl is-active "$2" 2>/dev/null) s=$(systemctl is-active "$3" 2>/dev/null)
	note "step $1 unit $2 ${3:--} was ${e:-unknown} ${a:-unknown} ${s:-unknown}"
}
note_activate() { # step, unit, how
	note "step $1 activate $2 $3 was $(systemctl is-active "$2" 2>/dev/null)"
}
check_ports() { # the firewall is still the one that the plan saw
	out=$(timeout 60 /bin/sh "$D/firewall.sh" check 2>&1 </dev/null) || fail "$out"
}
no_jobs() { # a restart would end them; nothing is touched yet
	j=$(grep -h -o "async='[^']*'" /run/libvirt/qemu/*.xml 2>/dev/null | grep -v "'none'" | head -n 1)
	[ -z "$j" ] || fail "moved: a guest is in a job ($j) since the last look, and the plan restarts the daemon"
}
arm() { # seconds; 0 for a switch that ends within this script
	printf '# What virtrust did here; docs/on-the-host.md tells how to read and undo it.\nrun %s of %s, fence %s, boot %s, at %s\n%s' "$R" "$O" "$F" "$boot" "$(date +%s)" "$notes" >"$D/journal" ||
		fail "cannot write $D/journal"
	ln -s "run-$R/journal" "$S/journal.new" && mv -fT "$S/journal.new" "$S/journal" || fail "cannot write $S/journal"
	mv -fT "$D/revert.sh" "$S/revert.sh" || fail "cannot write $S/revert.sh"
	if [ "$1" -gt 0 ]; then
		u=/etc/systemd/system/virtrust-revert.service
		if ! cmp -s "$D/unit" "$u"; then
			dress "$D/unit" root:root 0644 "$u"
			mv -fT "$D/unit" "$u" && mkdir -p /etc/systemd/system/sysinit.target.wants &&
				ln -sfn ../virtrust-revert.service /etc/systemd/system/sysinit.target.wants/virtrust-revert.service || fail "cannot install $u"
			durable "$u" /etc/systemd/system /etc/systemd/system/sysinit.target.wants
		fi
		systemd-run --quiet --collect --unit="virtrust-revert-$R" --on-active="$1" --timer-property=AccuracySec=1s /bin/sh "$S/revert.sh" timer "$R" >/dev/null 2>&1 </dev/null ||
			fail "cannot start the reverter's timer"
	fi
	journal "armed $1" || fail "cannot write $D/journal"
	printf '%s\n' "$D" >"$S/armed.new" && mv -f "$S/armed.new" "$S/armed" || fail "cannot write $S/armed"
	durable "$D/saved"/* "$D/journal" "$S/revert.sh" "$S/armed" "$D" "$D/saved" "$S"
	touched=yes
	[ "$1" -gt 0 ] || touched=alone
}
finish() { # what only changed files is committed here: nobody has to confirm it
	flush
	journal "switched at $(date +%s)"
	if [ "$touched" = alone ]; then
		journal "committed at $(date +%s)" || fail "cannot write $D/journal"
		durable "$D/journal"
		rm -f "$S/armed"
		durable "$S"
	fi
	say switched '' yes
}
held() { # a reverter that waited too long for this script has acted
	oneline "$S/armed"
	[ "$x" = "$D" ] || die failed "the reverter has acted" 20
}
do_dir() { # step, path, mode, owner:group
	held
	mkdir -m "$3" -- "$2" && chown "$4" "$2" && chmod "$3" "$2" || fail "cannot make $2"
	[ -e /sys/fs/selinux/enforce ] && command -v restorecon >/dev/null 2>&1 && restorecon "$2"
	synced="$synced
${2%/*}"
}
rename() { # from, to; mv of uutils 0.0.30 refuses a link over a link to a directory
	mv -fT -- "$1" "$2" 2>/dev/null || { [ -L "$1" ] && perl -e 'exit !rename $ARGV[0], $ARGV[1]' -- "$1" "$2" 2>/dev/null; }
}
do_put() { # step, staged, path
	held
	rename "$2" "$3" || fail "cannot rename into $3"
	synced="$synced
${3%/*}"
}
do_gone() { # step, path
	held
	rm -f -- "$2" || fail "cannot remove $2"
	synced="$synced
${2%/*}"
}
qemu() { # QEMU's program on this host; nothing when there is none
	for q in qemu-system-x86_64 /usr/libexec/qemu-kvm /usr/bin/qemu-kvm "qemu-system-$(uname -m)"; do
		command -v "$q" && return 0
	done
}
do_check() { # certificate, directory, user, group, ends: QEMU reads it as it will run
	flush
	q=$(qemu)
	[ -n "$q" ] || { say checked "$1" "not asked: QEMU is not installed"; return 0; }
	command -v setpriv >/dev/null 2>&1 || { say checked "$1" "not asked: setpriv is not installed"; return 0; }
	groups=--init-groups
	case $3 in *[!0-9]*) ;; *) groups=--clear-groups ;; esac
	for e in $5; do
		out=$(cd / && echo quit | timeout 60 setpriv --reuid="$3" --regid="$4" "$groups" "$q" -M none -nodefaults -display none -monitor stdio \
			-object "tls-creds-x509,id=t,dir=$2,endpoint=$e,verify-peer=on" 2>&1)
		status=$?
		[ "$status" != 124 ] || fail "QEMU, as $3, gave no answer within 60 s when it was to read $2 as a $e: is the host very busy?"
		[ "$status" = 0 ] && case $out in *"${q##*/}:"*) false ;; esac ||
			fail "QEMU, as $3, does not accept $2 as a $e: $(printf '%s\n' "$out" | grep -v -e '^QEMU ' -e '^(qemu)' | tail -n 3)"
	done
	say checked "$1" "$($q --version </dev/null 2>/dev/null | head -n 1) as $3"
}
synced=
flush() { # the renames so far reach the disk
	[ -n "$synced" ] || return 0
	IFS='
'
	durable $synced
	unset IFS
	synced=
}
do_unit() { # step, unit, service
	held
	flush
	systemctl enable "$2" >/dev/null 2>&1 </dev/null || fail "cannot enable $2"
	systemctl is-active --quiet "$2" && return 0
	if [ -z "$3" ] || ! systemctl is-active --quiet "$3"; then
		if out=$(timeout 60 systemctl start "$2" 2>&1 </dev/null); then
			[ -n "$3" ] || restarted="$restarted $2 "
			return 0
		fi
	fi
	if [ -z "$3" ]; then
		systemctl reset-failed "$2" >/dev/null 2>&1 </dev/null
		out=$(timeout 60 systemctl start "$2" 2>&1 </dev/null) || fail "$2 does not start: $out"
		restarted="$restarted $2 "
		return 0
	fi
	# A socket cannot be added while its service runs, and a client may wake
	# the service in between.
	systemctl reset-failed "$2" "$3" >/dev/null 2>&1 </dev/null
	for i in 1 2 3 4 5; do
		timeout 60 systemctl stop "$3" >/dev/null 2>&1 </dev/null
		out=$(timeout 60 systemctl start "$2" 2>&1 </dev/null) && break
	done
	restarted="$restarted $3 "
	systemctl is-active --quiet "$2" || fail "cannot start $2: $out"
	out=$(timeout 60 systemctl start "$3" 2>&1 </dev/null) || fail "$3 does not start: $out"
}
do_unit_off() { # step, unit, service
	flush
	systemctl disable "$2" >/dev/null 2>&1 </dev/null || fail "cannot disable $2"
	systemctl is-active --quiet "$2" || return 0
	if [ -n "$3" ] && systemctl is-active --quiet "$3"; then
		timeout 60 systemctl stop "$3" "$2" >/dev/null 2>&1 </dev/null
		# Not counted as the restart that reads files which later steps write.
		out=$(timeout 60 systemctl start "$3" 2>&1 </dev/null) || fail "$3 does not start: $out"
		return 0
	fi
	out=$(timeout 60 systemctl stop "$2" 2>&1 </dev/null) || fail "cannot stop $2: $out"
}
do_port() { # step, numbers of rules
	held
	shift
	out=$(timeout 90 /bin/sh "$D/firewall.sh" do "$@" 2>&1 </dev/null) || fail "the firewall does not take the rules: $out"
}
do_consoles() { # step; each running guest reads its console's certificate again
	held
	flush
	for g in /run/libvirt/qemu/*.xml; do
		case $g in *"/*.xml") break ;; esac
		g=${g##*/} g=${g%.xml}
		console "$g"
		case $? in
		0) say console '' "$g" ;;
		2) ;;
		3) say oldconsole '' "$g
$out" ;;
		*) fail "guest $g does not take the new certificate of its console: $out" ;;
		esac
	done
}
lingering() { # service: sockets that were masked and never stopped would be handed to it
	for s in "" -ro -admin -tls -tcp; do
		u=${1%.service}$s.socket
		case $(systemctl is-enabled "$u" 2>/dev/null) in masked*) ;; *) continue ;; esac
		systemctl is-active --quiet "$u" || continue
		timeout 60 systemctl stop "$1" "$u" >/dev/null 2>&1 </dev/null
	done
}
do_activate() { # step, unit, how
	held
	flush
	case $restarted in *" $2 "*) return 0 ;; esac
	case $(systemctl is-active "$2" 2>/dev/null) in
	active) ;;
	failed)
		systemctl reset-failed "$2" >/dev/null 2>&1 </dev/null
		out=$(timeout 60 systemctl start "$2" 2>&1 </dev/null) || fail "$2 does not start: $out"
		return 0
		;;
	*) return 0 ;;
	esac
	case $3 in
	reload) reload "$2" || fail "$2 does not take the new files: $out" ;;
	restart)
		systemctl reset-failed "$2" >/dev/null 2>&1 </dev/null
		lingering "$2"
		out=$(timeout 90 systemctl restart "$2" 2>&1 </dev/null) || fail "$2 does not come back: $out"
		restarted="$restarted $2 "
		;;
	esac
}
