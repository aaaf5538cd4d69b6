package remote

import (
	"context"
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/virtrust/virtrust/internal/facts"
)

// ThrowAway is a guest that exists for a proof alone: transient, without a
// disk. A guard on each host removes it when nobody renews it any more.
type ThrowAway struct {
	Name string // [a-z0-9-]
	XML  string // of the domain
}

// guardAge is after how many seconds without Renew a guard removes the guest.
const guardAge = 30

// guardScript removes a throw-away guest whose owner is gone. It ends with its
// directory.
const guardScript = `LC_ALL=C; PATH=/usr/sbin:/usr/bin:/sbin:/bin; export LC_ALL PATH
exec </dev/null >/dev/null 2>&1
v='timeout 20 virsh -q -c qemu:///system'
while sleep 2; [ -e "$D/alive" ]; do
	read -r up _ </proc/uptime; read -r last <"$D/alive" || continue
	[ $((${up%.*} - last)) -gt "$A" ] || continue
	for j in "$D"-*; do [ ! -d "$j" ] || : >"$j/abort"; done
	$v domjobabort "$G"
	$v destroy "$G"
	sleep 2
	$v destroy "$G"
	rm -rf "$D" "$D"-*
done
`

func (t ThrowAway) script(nonce, body string) []byte {
	return whole("N="+nonce+" D="+facts.Quote(jobDir(t.Name))+" G="+facts.Quote(t.Name), migrationHead,
		"alive() { read -r up _ </proc/uptime; echo \"${up%.*}\" >\"$D/alive.new\" && mv -f \"$D/alive.new\" \"$D/alive\"; }", body)
}

func (t ThrowAway) run(ctx context.Context, c *Conn, op, body string) (Output, error) {
	if !jobName.MatchString(t.Name) {
		return Output{}, &Error{Class: ClassConfiguration, Host: c.host, Op: op, Err: fmt.Errorf("%q is no name of a throw-away guest", t.Name)}
	}
	out, err := c.Run(ctx, t.script(Nonce(), body), Limits{Timeout: 60 * time.Second})
	if err == nil && out.Exit != 0 {
		err = &Error{Class: ClassScript, Host: c.host, Op: op, Err: fmt.Errorf("%s", clean(lastError(string(out.Stderr)), 300)), Hint: "look at `journalctl -u libvirtd -u virtqemud` on the host"}
	}
	return out, err
}

// Guard starts the guard of the guest on a host; the guest need not be there.
func (t ThrowAway) Guard(ctx context.Context, c *Conn) error {
	_, err := t.run(ctx, c, "guarding a throw-away guest", `mkdir -p -m 0700 /run/virtrust && mkdir "$D" && alive || exit 70
printf %s `+facts.Quote(fmt.Sprintf("D=%s G=%s A=%d\n%s", facts.Quote(jobDir(t.Name)), facts.Quote(t.Name), guardAge, guardScript))+` >"$D/guard.sh" || exit 70
systemd-run --quiet --collect --unit="virtrust-guard-$G" /bin/sh "$D/guard.sh" </dev/null
`)
	return err
}

// Create starts the guest on a host that has its guard.
func (t ThrowAway) Create(ctx context.Context, c *Conn) error {
	_, err := t.run(ctx, c, "starting a throw-away guest", `printf %s `+facts.Quote(t.XML)+` >"$D/creating" || exit 70
[ -e "$D/alive" ] || { rm -f "$D/creating"; echo "error: it has no guard" >&2; exit 70; }
timeout 50 virsh -q -c qemu:///system create "$D/creating" </dev/null >/dev/null
r=$?
rm -f "$D/creating"
exit $r
`)
	return err
}

// Renew tells a host's guard that the guest's owner is there. It fails when
// the guard has acted.
func (t ThrowAway) Renew(ctx context.Context, c *Conn) error {
	_, err := t.run(ctx, c, "renewing a throw-away guest", `[ -e "$D/alive" ] || { echo "error: its guard removed it" >&2; exit 70; }
alive
`)
	return err
}

// Remove removes the guest and everything of it from a host and fails when it
// is still there.
func (t ThrowAway) Remove(ctx context.Context, c *Conn) error {
	_, err := t.run(ctx, c, "removing a throw-away guest", `v='timeout 20 virsh -q -c qemu:///system'
for j in "$D"-*; do [ ! -d "$j" ] || : >"$j/abort"; done
f=/run/libvirt/qemu/$G.xml
# A cut connection may have left Create at work: without alive it begins no
# more, and what has begun is waited for.
rm -f "$D/alive"
for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
	[ -e "$D/creating" ] || break
	sleep 1
done
for i in 1 2 3; do
	[ -f "$f" ] || break
	$v domjobabort "$G" >/dev/null 2>&1 </dev/null
	$v destroy "$G" >/dev/null 2>&1 </dev/null
done
rm -rf "$D"
systemctl stop "virtrust-guard-$G.service" >/dev/null 2>&1 </dev/null
for i in 1 2 3 4 5 6 7 8 9 10; do
	wait=
	for j in "$D"-*; do [ ! -d "$j" ] || [ -e "$j/done" ] || wait=yes; done
	[ -n "$wait" ] || break
	sleep 0.3 2>/dev/null || sleep 1
done
rm -rf "$D"-*
[ ! -f "$f" ] || { echo "error: $G is still there" >&2; exit 70; }
`)
	return err
}

// VirtualMachines is what a host's libvirt can run.
type VirtualMachines struct {
	Types    []string // domain types: qemu, kvm
	Machines []string // machine types, versioned and aliases
	// ThrowAways are names of throw-away guests that are there now.
	ThrowAways []string
}

var (
	domainType  = regexp.MustCompile(`<domain type='([a-z]{1,20})'`)
	machineType = regexp.MustCompile(`<machine[^>]*>([A-Za-z0-9._-]{1,64})</machine>`)
)

// CanRun asks a host's libvirt what it can run, and which guests whose names
// begin with prefix run there.
func CanRun(ctx context.Context, c *Conn, prefix string) (VirtualMachines, error) {
	const op = "asking libvirt what it can run"
	nonce := Nonce()
	out, err := c.Run(ctx, whole("N="+nonce+" P="+facts.Quote(prefix), migrationHead, `set +f
for f in /run/libvirt/qemu/"$P"*.xml; do f=${f##*/}; [ "$f" = "$P*.xml" ] || say old '' "${f%.xml}"; done
x=$(timeout 30 virsh -q -c qemu:///system capabilities </dev/null) || exit 70
say capabilities '' "$x"
`), Limits{Timeout: 40 * time.Second})
	if err != nil {
		return VirtualMachines{}, err
	}
	var v VirtualMachines
	for _, f := range facts.Frames(nonce, out.Stdout) {
		switch f.Kind {
		case "old":
			v.ThrowAways = append(v.ThrowAways, string(f.Data))
		case "capabilities":
			for _, m := range domainType.FindAllSubmatch(f.Data, -1) {
				v.Types = append(v.Types, string(m[1]))
			}
			for _, m := range machineType.FindAllSubmatch(f.Data, -1) {
				v.Machines = append(v.Machines, string(m[1]))
			}
		}
	}
	if out.Exit != 0 || len(v.Types) == 0 {
		return v, &Error{Class: ClassScript, Host: c.host, Op: op, Err: fmt.Errorf("%s", clean(strings.TrimSpace(lastError(string(out.Stderr))), 200)), Hint: "look at `virsh -c qemu:///system capabilities` on the host"}
	}
	return v, nil
}
