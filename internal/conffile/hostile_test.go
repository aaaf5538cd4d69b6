package conffile

import (
	"strconv"
	"strings"
	"testing"
	"time"
)

// TestHostileFilesAreCheap holds the work on the worst files of full size far below
// what a quadratic step would take (minutes).
func TestHostileFilesAreCheap(t *testing.T) {
	var keys strings.Builder
	for i := 0; keys.Len() < MaxSize-16; i++ {
		keys.WriteString("k" + strconv.Itoa(i) + "=1\n")
	}
	for name, src := range map[string]string{
		"one line":      strings.Repeat("a=1;", MaxSize/8),
		"one key":       strings.Repeat("a=1\n", MaxSize/8),
		"many keys":     keys.String(),
		"one long key":  strings.Repeat("k", MaxSize-32) + "=1\n",
		"long list":     "a=[" + strings.Repeat("1,\n", MaxSize/4-4) + "]",
		"only comments": strings.Repeat("#a=[\n", MaxSize/8),
	} {
		t.Run(name, func(t *testing.T) {
			begin := time.Now()
			f := mustParse(t, src)
			schema(t, "/etc/libvirt/qemu.conf").Lint(f)
			if err := f.Set("a", Int(2)); err != nil {
				t.Fatal(err)
			}
			if err := f.Unset("a"); err != nil {
				t.Fatal(err)
			}
			if d := time.Since(begin); d > 20*time.Second {
				t.Errorf("took %v", d)
			}
		})
	}
}
