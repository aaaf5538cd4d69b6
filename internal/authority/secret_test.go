package authority

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/virtrust/virtrust/internal/ledger"
)

// contains reports which forms of a secret are in text.
func contains(text, secret []byte) bool {
	for _, form := range []string{string(secret), hex.EncodeToString(secret), base64.StdEncoding.EncodeToString(secret), base64.RawStdEncoding.EncodeToString(secret),
		fmt.Sprint(secret), strings.Trim(fmt.Sprint(secret), "[]"), fmt.Sprintf("%X", secret)} {
		if bytes.Contains(text, []byte(form)) {
			return true
		}
	}
	return false
}

func TestSecretIsNeverShown(t *testing.T) {
	s := NewSecret([]byte(canary))
	type holder struct {
		Public Secret
		hidden Secret
		List   []Secret
		Map    map[string]Secret
		ptr    *Secret
	}
	h := holder{s, s, []Secret{s}, map[string]Secret{"k": s}, &s}
	var all bytes.Buffer
	for _, v := range []any{s, &s, h, &h, []any{s}, Params{Passphrase: s}, struct{ s Secret }{s}} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%08b", "%o", "%c", "%U", "%T"} {
			fmt.Fprintf(&all, verb+"\n", v)
		}
		if text, err := json.Marshal(v); err == nil {
			all.Write(text)
		}
		if text, err := xml.Marshal(v); err == nil {
			all.Write(text)
		}
		slog.New(slog.NewTextHandler(&all, nil)).Info("x", "v", v)
		slog.New(slog.NewJSONHandler(&all, nil)).Info("x", "v", v)
		fmt.Fprintln(&all, fmt.Errorf("error with %v", v), errors.New(fmt.Sprint(v)))
	}
	if contains(all.Bytes(), []byte(canary)) {
		t.Errorf("the secret is shown in:\n%s", all.String())
	}
	if n := strings.Count(all.String(), redacted); n < 50 {
		t.Errorf("%s stands %d times", redacted, n)
	}
	raw := s.Bytes()
	copied := s
	s.Wipe()
	if !copied.Empty() || !bytes.Equal(raw, make([]byte, len(canary))) {
		t.Error("wiping left something")
	}
	Secret{}.Wipe()
}

// The passphrase and the key are in no file, error, log or formatted value.
func TestNothingLeaks(t *testing.T) {
	p := newPlace(t)
	var logged bytes.Buffer
	log := slog.New(slog.NewJSONHandler(&logged, &slog.HandlerOptions{Level: slog.LevelDebug}))
	note := func(v any) {
		log.Info("x", "v", v)
		fmt.Fprintf(&logged, "%v %+v %#v %s\n", v, v, v, v)
	}
	public := p.init(t, "libvirt")
	_, err := Init(t.Context(), p.params("libvirt"), p.l)
	note(err)
	note(public)
	note(p.params("libvirt"))
	a := p.unlocked(t, "libvirt")
	note(a)
	note(a.ledger)
	chain, err := a.Sign(t.Context(), p.request(t))
	note(chain)
	note(err)
	r := p.request(t)
	r.Profile.KeyAlgorithm = "rsa-3072"
	_, err = a.Sign(t.Context(), r)
	note(err)
	key := a.key.(*ecdsa.PrivateKey)
	secretKey, err := key.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	note(openWith(t, p, canary+"x"))
	if err := p.l.RecordFailure(t.Context(), ledger.Failure{Host: "kvm1", Certificate: "libvirt-server", Class: "signing", Text: fmt.Sprint(err), Run: p.run}); err != nil {
		t.Fatal(err)
	}

	searched := map[string]bool{}
	search := func() {
		err := filepath.WalkDir(p.root, func(path string, e fs.DirEntry, err error) error {
			if err != nil || e.IsDir() {
				return err
			}
			data, err := os.ReadFile(path)
			searched[filepath.Base(path)] = true
			if contains(data, []byte("CANARY")) || contains(data, secretKey) || bytes.Contains(data, []byte("PRIVATE KEY")) {
				t.Errorf("%s holds a secret", path)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	search()
	for _, name := range []string{"ledger.db", "g1.key.age", "g1.crt", "g1.crl"} {
		if !searched[name] {
			t.Errorf("%s was not searched: %v", name, searched)
		}
	}
	if contains(logged.Bytes(), []byte("CANARY")) || contains(logged.Bytes(), secretKey) || strings.Contains(logged.String(), key.D.String()) { //nolint:staticcheck // SA1019: the bytes themselves are what is looked for
		t.Errorf("a secret is shown in:\n%s", logged.String())
	}
	a.Close()
	if key.D.Sign() != 0 && len(bytes.Trim(key.D.Bytes(), "\x00")) != 0 { //nolint:staticcheck // SA1019: the bytes themselves are what is looked for
		t.Error("Close left the key in memory")
	}
}

func openWith(t *testing.T, p *place, text string) error {
	params := p.params("libvirt")
	a, err := Open(t.Context(), "libvirt", params.Dir, params.KeyDir, p.l, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	return a.Unlock(t.Context(), passphrase(text))
}

func TestResolve(t *testing.T) {
	dir := t.TempDir()
	file := func(name, text string, mode os.FileMode) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), mode); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(filepath.Join(dir, name), mode); err != nil {
			t.Fatal(err)
		}
	}
	file("good", canary+"\n", 0o600)
	file("two lines", canary+"\n\n", 0o400)
	file("dos", canary+"\r\n", 0o600)
	file("readable", canary, 0o640)
	file("empty", "\n", 0o600)
	file("full", strings.Repeat("x", maxSecret)+"\n", 0o600)
	file("large", strings.Repeat("x", maxSecret+1), 0o600)
	os.Symlink("good", filepath.Join(dir, "link"))
	os.Symlink("readable", filepath.Join(dir, "link to readable"))
	if err := syscall.Mkfifo(filepath.Join(dir, "pipe"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("RESOLVE_TEST", canary)
	t.Setenv("RESOLVE_EMPTY", "")
	t.Setenv("HOME", dir)
	prompt := func(_ context.Context, label string, confirm bool) (Secret, error) {
		return NewSecret(fmt.Appendf(nil, "%s %v", label, confirm)), nil
	}
	for _, c := range []struct {
		ref  string
		o    Options
		want string
		err  string
	}{
		{"prompt", Options{Prompt: prompt, Label: "L", Confirm: true}, "L true", ""},
		{"prompt", Options{}, "", "no terminal"},
		{"env:RESOLVE_TEST", Options{}, canary, ""},
		{"env:RESOLVE_EMPTY", Options{}, "", "empty"},
		{"env:RESOLVE_NONE", Options{}, "", "not set"},
		{"env:", Options{}, "", "a secret is"},
		{"file:good", Options{}, canary, ""},
		{"file:" + filepath.Join(dir, "good"), Options{Dir: "/nowhere"}, canary, ""},
		{"file:two lines", Options{}, canary + "\n", ""},
		{"file:dos", Options{}, canary, ""},
		{"file:link", Options{}, canary, ""},
		{"file:full", Options{}, strings.Repeat("x", maxSecret), ""},
		{"file:large", Options{}, "", "longer than 4096"},
		{"file:readable", Options{}, "", "chmod 600"},
		{"file:link to readable", Options{}, "", "chmod 600"},
		{"file:empty", Options{}, "", "empty"},
		{"file:none", Options{}, "", "no such file"},
		{"file:.", Options{}, "", "regular"},
		{"file:pipe", Options{}, "", "regular"},
		{"file:/dev/zero", Options{}, "", "regular"},
		{"command:cat good", Options{}, "", "--allow-exec"},
		{"command:cat good", Options{AllowExec: true}, canary, ""},
		{"command:cat 'two lines'", Options{AllowExec: true}, canary + "\n", ""},
		{"command:cat $HOME/good", Options{AllowExec: true}, canary, ""},
		{"command:cat ~/good", Options{AllowExec: true}, canary, ""},
		{"command:echo $RESOLVE_TEST", Options{AllowExec: true}, "", "only $HOME"},
		{"command:echo $(cat good)", Options{AllowExec: true}, "", "nothing of a shell"},
		{"command:echo 'a", Options{AllowExec: true}, "", "nothing of a shell"},
		{"command:echo a; echo b", Options{AllowExec: true}, "", "nothing of a shell"},
		{"command:echo a | cat", Options{AllowExec: true}, "", "nothing of a shell"},
		{"command:sh -c 'cat good >&2; cat good; exit 3'", Options{AllowExec: true}, "", "exit status 3"},
		{"command:no-such-program-here", Options{AllowExec: true}, "", "no-such-program-here"},
		{"command:true", Options{AllowExec: true}, "", "empty"},
		{"command:cat /dev/zero", Options{AllowExec: true}, "", "longer than 4096"},
		{"command:printenv RESOLVE_TEST", Options{AllowExec: true}, canary, ""},
		{"command:printenv RESOLVE_TEST", Options{AllowExec: true, HideEnv: []string{"RESOLVE_TEST"}}, "", "exit status 1"},
		{"command:", Options{AllowExec: true}, "", "a secret is"},
		{canary, Options{}, "", "a secret is"},
		{"", Options{}, "", "a secret is"},
	} {
		t.Run(c.ref, func(t *testing.T) {
			if c.o.Dir == "" {
				c.o.Dir = dir
			}
			s, err := Resolve(t.Context(), c.ref, c.o)
			if got := string(s.Bytes()); got != c.want {
				t.Errorf("got %.60q", got)
			}
			if c.err == "" && err != nil || c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err)) {
				t.Errorf("error %v", err)
			}
			if err != nil && strings.Contains(err.Error(), "CANARY") {
				t.Errorf("the error shows the secret: %v", err)
			}
		})
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := Resolve(ctx, "command:sleep 60", Options{AllowExec: true}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a command that hangs: %v", err)
	}
	if name, ok := EnvReference("env:A"); !ok || name != "A" {
		t.Errorf("%q, %v", name, ok)
	}
	if _, ok := EnvReference("prompt"); ok {
		t.Error("prompt names a variable")
	}
}
