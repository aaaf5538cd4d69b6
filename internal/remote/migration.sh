# Runs one migration on its source host, apart from the connection that asked
# for it. Before this text: D directory of this job, U the guest's UUID, LIMIT
# seconds, WATCH (slow the job until its parameters were seen) and the function
# migrate with virsh's arguments.
LC_ALL=C; PATH=/usr/sbin:/usr/bin:/sbin:/bin; export LC_ALL PATH
umask 077
set -u
cd "$D" || exit 1
exec </dev/null >/dev/null 2>&1
v='virsh -q -c qemu:///system'
now() { read -r t _ </proc/uptime; n=${t%.*}${t#*.}; } # hundredths of a second
nap() { sleep 0.1 2>/dev/null || sleep 1; }
echo $$ >pid
now; start=$n end=$((n + LIMIT * 100)) tried=0 seen=
[ -z "$WATCH" ] || timeout 20 $v migrate-setspeed "$U" 1
# One client asks all the time: starting one for each question takes longer
# than the job of a small guest.
active() { grep -q '"status": *"active"' watched; }
parameters() { grep '"tls-creds": *"[^"]' watched | tail -n 1; }
: >watched
[ -z "$WATCH" ] || {
	while [ ! -e code ] && [ ! -e parameters ]; do
		printf "qemu-monitor-command %s '{\"execute\":\"%s\"}'\n" "$U" query-migrate "$U" query-migrate-parameters
		sleep 0.05 2>/dev/null || sleep 1
	done | $v >watched 2>/dev/null
} &
( migrate >out 2>&1; echo $? >code.new; mv -f code.new code ) &
job=$!
while [ ! -e code ] && kill -0 "$job" 2>/dev/null; do
	now
	if [ ! -e why ]; then
		[ "$n" -lt "$end" ] || echo limit >why
		[ ! -e abort ] || echo asked >why
	fi
	# The job may not have begun yet, so it is asked to end until it has ended.
	# In post-copy libvirt refuses: the guest would be lost.
	if [ -e why ] && [ "$n" -ge "$tried" ]; then
		timeout 10 $v domjobabort "$U"
		tried=$((n + 100))
	fi
	if [ -n "$WATCH" ] && [ -z "$seen" ] && active && parameters >parameters.new && [ -s parameters.new ]; then
		mv -f parameters.new parameters
		seen=yes
		timeout 20 $v migrate-setspeed "$U" 65536
	fi
	nap
done
now
echo "$((n - start))" >took
# The job may have ended between two looks at what was asked.
[ -z "$WATCH" ] || [ -n "$seen" ] || { active && parameters >parameters; }
[ -e code ] || echo 255 >code
mv -f code done
