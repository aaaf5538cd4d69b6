package lab

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestMain also is the owner that TestSweep starts and kills.
func TestMain(m *testing.M) {
	if os.Getenv("LAB_TEST_OWNER") == "1" {
		if err := ownLab(context.Background()); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
	}
	os.Exit(m.Run())
}

func ownLab(ctx context.Context) error {
	l, err := New(ctx, Config{})
	if err != nil {
		return err
	}
	if _, err := l.Start(ctx, HostSpec{}, HostSpec{Cheap: true}); err != nil {
		return err
	}
	if _, err := l.Capture(ctx, Management, "", filepath.Join(l.dir, "pcap")); err != nil {
		return err
	}
	fmt.Printf("lab=%s\n", l.ID)
	time.Sleep(time.Hour)
	return nil
}

func TestSweep(t *testing.T) {
	Require(t)
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), "LAB_TEST_OWNER=1")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Process.Kill()
	id, said := "", ""
	buf := make([]byte, 4096)
	for id == "" {
		n, err := out.Read(buf)
		said += string(buf[:n])
		if _, after, ok := strings.Cut(said, "lab="); ok && strings.Contains(after, "\n") {
			id, _, _ = strings.Cut(after, "\n")
		} else if err != nil {
			t.Fatalf("the owner ended: %s", said)
		}
	}
	if err := Sweep(t.Context(), testLog(t)); err != nil {
		t.Fatal(err)
	}
	if left := traces(t, id); len(left) < 5 {
		t.Fatalf("a lab with a living owner was swept; left are %q", left)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	cmd.Process.Wait()
	if err := Sweep(t.Context(), testLog(t)); err != nil {
		t.Fatal(err)
	}
	if left := traces(t, id); len(left) > 0 {
		t.Errorf("sweeping left:\n%s", strings.Join(left, "\n"))
	}
}

func TestProcessIdentity(t *testing.T) {
	me, err := findProcess(os.Getpid())
	if err != nil || !me.alive() {
		t.Fatalf("this process: %+v, %v", me, err)
	}
	for _, other := range []process{
		{PID: me.PID, Start: me.Start + 1, Boot: me.Boot},
		{PID: me.PID, Start: me.Start, Boot: "another"},
		{},
	} {
		if other.alive() {
			t.Errorf("%+v is taken for this process %+v", other, me)
		}
		if err := other.kill(); err != nil {
			t.Errorf("%+v: %v", other, err)
		}
	}
}
