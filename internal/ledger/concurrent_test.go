package ledger

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

// The test binary runs itself as the second process: with this variable set it
// issues from the ledger named there until it is killed.
const childLedger = "LEDGER_TEST_CHILD"

func TestMain(m *testing.M) {
	if path := os.Getenv(childLedger); path != "" {
		child(path)
	}
	os.Exit(m.Run())
}

// child records intents with the serials 1, 2, 3 …, of which every second is
// taken back, and prints each after it is committed.
func child(path string) {
	ctx := context.Background()
	die := func(err error) {
		if err != nil {
			fmt.Println("error", err)
			os.Exit(1)
		}
	}
	l, err := Open(ctx, path, Existing)
	die(err)
	run, err := l.StartRun(ctx, Run{Command: "apply", Operator: "child"})
	die(err)
	for n := 1; n <= 100000; n++ {
		id, err := l.BeginIssuance(ctx, Intent{Run: run, Authority: "libvirt", Generation: 1, Serial: fmt.Sprintf("%x", n), Host: "kvm1",
			Certificate: "libvirt-server", Profile: profile, SPKISHA256: digest([]byte{byte(n)})})
		if errors.Is(err, ErrSerialTaken) {
			continue
		}
		die(err)
		if n%2 == 0 {
			die(l.AbandonIssuance(ctx, id, "test"))
		}
		fmt.Println("committed", n)
	}
	os.Exit(0)
}

func startChild(t *testing.T, path string) (*exec.Cmd, *bufio.Reader) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childLedger+"="+path)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return cmd, bufio.NewReader(out)
}

// Two processes and eight goroutines fight for the same serials: each serial is
// given once and no audit row is lost.
func TestConcurrentIssuing(t *testing.T) {
	f, ctx := newFleet(t), t.Context()
	cmd, out := startChild(t, f.path)
	for range 5 {
		line, err := out.ReadString('\n')
		if err != nil || line[0] != 'c' {
			t.Fatalf("the child says %q, %v", line, err)
		}
	}
	second := open(t, f.path, Existing)
	var group sync.WaitGroup
	var mu sync.Mutex
	mine := map[string]int{}
	for g := range 8 {
		l := []*Ledger{f.Ledger, second}[g%2]
		group.Go(func() {
			for n := 1; n <= 60; n++ {
				i := f.intent(newCSR(t), fmt.Sprintf("%x", n))
				_, err := l.BeginIssuance(ctx, i)
				if errors.Is(err, ErrSerialTaken) {
					continue
				}
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				mine[i.Serial]++
				mu.Unlock()
			}
		})
	}
	group.Wait()
	cmd.Process.Kill()
	io.Copy(io.Discard, out)
	cmd.Wait()
	for serial, n := range mine {
		if n != 1 {
			t.Errorf("serial %s was given %d times", serial, n)
		}
	}
	all, err := f.Issuances(ctx, Filter{})
	if err != nil {
		t.Fatal(err)
	}
	seen, ours := map[string]bool{}, 0
	for _, i := range all {
		if seen[i.Serial] {
			t.Errorf("serial %s is there twice", i.Serial)
		}
		seen[i.Serial] = true
		if i.Run == f.run {
			ours++
		}
	}
	if ours != len(mine) {
		t.Errorf("%d issuances of ours are recorded, %d were made", ours, len(mine))
	}
	for n := 1; n <= 60; n++ {
		if !seen[fmt.Sprintf("%x", n)] {
			t.Errorf("serial %x is missing", n)
		}
	}
	var intents int
	if err := f.db.QueryRow("SELECT count(*) FROM audit WHERE action = 'issuance.intent'").Scan(&intents); err != nil || intents != len(all) {
		t.Errorf("%d audit rows for %d issuances, %v", intents, len(all), err)
	}
	if err := f.Verify(ctx); err != nil {
		t.Error(err)
	}
}

// Several that create one ledger at once make one ledger.
func TestConcurrentCreate(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ledger.db")
	ids := make([]string, 6)
	var group sync.WaitGroup
	for i := range ids {
		group.Go(func() {
			l, err := Open(t.Context(), path, Create)
			if err != nil {
				t.Error(err)
				return
			}
			defer l.Close()
			ids[i] = l.ID()
			if _, err := l.StartRun(t.Context(), Run{Command: "ca init"}); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	for _, id := range ids {
		if id != ids[0] {
			t.Errorf("ids %v", ids)
		}
	}
	if err := open(t, path, ReadOnly).Verify(t.Context()); err != nil {
		t.Error(err)
	}
}

// A process killed at any moment leaves a consistent ledger, loses nothing that
// it was told is committed, and its intents become orphans.
func TestKilledProcess(t *testing.T) {
	f, ctx := newFleet(t), t.Context()
	last := 0
	for round := range 6 {
		cmd, out := startChild(t, f.path)
		before := last
		for last < before+3 {
			if _, err := fmt.Fscanf(out, "committed %d\n", &last); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(time.Duration(round*3) * time.Millisecond)
		cmd.Process.Kill()
		for {
			if _, err := fmt.Fscanf(out, "committed %d\n", &last); err != nil {
				break
			}
		}
		cmd.Wait()

		// The reader finds what the killed process left, before any writer does.
		if r, err := Open(ctx, f.path, ReadOnly); err != nil {
			t.Fatalf("round %d: %v", round, err)
		} else {
			r.Close()
		}
		l, err := Open(ctx, f.path, Existing)
		if err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		if err := l.Verify(ctx); err != nil {
			t.Errorf("round %d: %v", round, err)
		}
		if left, err := l.Issuances(ctx, Filter{State: StateIntent}); err != nil || len(left) != 0 {
			t.Errorf("round %d: %d intents left, %v", round, len(left), err)
		}
		all, err := l.Issuances(ctx, Filter{State: StateOrphan})
		if err != nil {
			t.Fatal(err)
		}
		seen := map[string]bool{}
		for _, i := range all {
			seen[i.Serial] = true
		}
		for n := 1; n <= last; n++ {
			if !seen[fmt.Sprintf("%x", n)] {
				t.Errorf("round %d: serial %x was committed and is gone", round, n)
			}
		}
		l.Close()
	}
	if last < 18 {
		t.Errorf("only %d commits were seen", last)
	}
}
