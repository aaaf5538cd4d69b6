package tasks

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// ProofPrefix begins the name of every throw-away guest of a proof.
const ProofPrefix = "virtrust-proof-"

// machineVersion reads pc-i440fx-7.2, pc-q35-10.0, pc-i440fx-rhel7.6.0.
var machineVersion = regexp.MustCompile(`^(pc-i440fx|pc-q35)-(rhel)?([0-9]{1,3})\.([0-9]{1,3})(?:\.([0-9]{1,3}))?$`)

// ProofMachine chooses the machine type of a throw-away guest: the oldest
// versioned one that both hosts have, because a guest cannot move to a QEMU
// that does not know its type (verified.md §1). Those of the old chipset come
// first: the guest has no device that would need the newer one.
func ProofMachine(a, b []string) (string, error) {
	type machine struct {
		name    string
		q35     bool
		version [3]int
	}
	var both []machine
	for _, name := range a {
		m := machineVersion.FindStringSubmatch(name)
		if m == nil || !slices.Contains(b, name) {
			continue
		}
		x := machine{name: name, q35: m[1] == "pc-q35"}
		for i := range x.version {
			x.version[i], _ = strconv.Atoi(m[3+i])
		}
		both = append(both, x)
	}
	if len(both) == 0 {
		return "", errors.New("the two hosts have no versioned pc-i440fx or pc-q35 machine type in common")
	}
	return slices.MinFunc(both, func(x, y machine) int {
		if x.q35 != y.q35 {
			if x.q35 {
				return 1
			}
			return -1
		}
		return slices.Compare(x.version[:], y.version[:])
	}).name, nil
}

// ProofType chooses the domain type: emulated where both hosts can, because
// that needs no processor feature in common.
func ProofType(a, b []string) (string, error) {
	for _, t := range []string{"qemu", "kvm"} {
		if slices.Contains(a, t) && slices.Contains(b, t) {
			return t, nil
		}
	}
	return "", errors.New("the two hosts have neither qemu nor kvm in common as a domain type")
}

// ProofGuest is the domain of a throw-away guest: 64 MiB, no disk, no network.
func ProofGuest(name, domainType, machine string) string {
	return fmt.Sprintf(`<domain type="%s">
  <name>%s</name>
  <memory unit="MiB">64</memory>
  <os><type arch="x86_64" machine="%s">hvm</type></os>
  <devices>
    <controller type="usb" model="none"/>
    <memballoon model="none"/>
  </devices>
</domain>
`, domainType, name, machine)
}

var proofName = regexp.MustCompile(`^` + ProofPrefix + `([0-9]{8}t[0-9]{6}z)-[0-9a-f]{8}(?:-[0-9]{1,4})?$`)

// ProofLeftovers picks the guests of proofs that began more than age ago. The
// moment is read from the name; other names are never picked.
func ProofLeftovers(names []string, now time.Time, age time.Duration) []string {
	var out []string
	for _, n := range names {
		m := proofName.FindStringSubmatch(n)
		if m == nil {
			continue
		}
		began, err := time.Parse("20060102t150405z", m[1])
		if err == nil && now.Sub(began) > age && !strings.ContainsAny(n, "/\n") {
			out = append(out, n)
		}
	}
	return out
}
