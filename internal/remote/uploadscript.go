package remote

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"

	"github.com/virtrust/virtrust/internal/facts"
)

const (
	base64Line  = 64       // that every decoder takes
	base64Piece = 48 << 10 // of content in one word: less than an argument may have
)

// uploadHead has the functions of an upload. A name is created exclusively,
// and has its mode before its content.
const uploadHead = `LC_ALL=C; PATH=/usr/sbin:/usr/bin:/sbin:/bin; export LC_ALL PATH
umask 077
say() { printf '%s %s %d %s\n%s\n' "$N" "$1" "${#3}" "$2" "$3"; }
if command -v base64 >/dev/null 2>&1; then
	decode() { base64 -d; }
else
	decode() { openssl base64 -d; }
fi
put() { # path, mode; the content comes in base64
	x=$({ (set -C; : >"$1") && chmod "$2" "$1" && decode >"$1"; } 2>&1) || { say failed "$1" "$x"; exit 20; }
}
`

// uploadByScript creates files through a script: as root also where the login
// is not, and on hosts without an SFTP server.
func (c *Conn) uploadByScript(ctx context.Context, files []Upload) error {
	nonce := Nonce()
	var b strings.Builder
	b.WriteString("N=" + nonce + "\n" + uploadHead)
	names := ""
	for _, f := range files {
		q := facts.Quote(f.Path)
		names += " " + q
		b.WriteString("{ :\n")
		for rest := f.Content; len(rest) > 0; {
			n := min(len(rest), base64Piece)
			text := base64.StdEncoding.EncodeToString(rest[:n])
			rest = rest[n:]
			b.WriteString("printf '%s\\n' '")
			for len(text) > base64Line {
				b.WriteString(text[:base64Line] + "\n")
				text = text[base64Line:]
			}
			b.WriteString(text + "'\n")
		}
		fmt.Fprintf(&b, "} | put %s %04o || exit 20\n", q, f.Mode)
	}
	fmt.Fprintf(&b, "sync%s 2>/dev/null || sync\nsay uploaded '' %d\n", names, len(files))
	out, err := c.Run(ctx, whole(b.String()), Limits{Timeout: uploadTimeout})
	if err != nil {
		return err
	}
	a := answer{frames: facts.Frames(nonce, out.Stdout)}
	if f, ok := a.get("failed"); ok {
		return &Error{Class: ClassFile, Host: c.host, Op: "uploading " + clean(f.Arg, 200), Err: errors.New(orNothing(string(f.Data))),
			Hint: "the file may exist already, or its file system may be full or read-only"}
	}
	if _, ok := a.get("uploaded"); !ok {
		return &Error{Class: ClassShell, Host: c.host, Op: "uploading", Err: fmt.Errorf("the script ended with status %d: %s", out.Exit, orNothing(string(out.Stderr))),
			Hint: shellHint}
	}
	return nil
}
