package facts

import (
	_ "embed"
	"fmt"
	"strings"
)

//go:embed script.sh
var scriptBody string

// Version is the version of the script's answers. Parse refuses others.
const Version = 1

// Script renders the one script that answers the queries. It is meant for
// `/bin/sh -s` on standard input and changes nothing on the host. The nonce
// frames the output; it must be fresh and unguessable (32 hex digits).
func Script(nonce string, queries []Query) ([]byte, error) {
	if len(nonce) < 16 || strings.Trim(nonce, "0123456789abcdef") != "" {
		return nil, fmt.Errorf("facts: nonce %q is not at least 16 hexadecimal digits", nonce)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "N=%s V=%d C=%d M=%d D=%d E=%d\n", nonce, Version, MaxContent, MaxPaths, MaxDepth, MaxEntries)
	b.WriteString("set --")
	letters := map[Kind]string{KindStat: "s", KindContent: "c", KindKey: "k", KindDir: "d", KindUnit: "u", KindFirewall: "w", KindConsoles: "v", KindListening: "t", KindAddresses: "n"}
	for _, q := range Merge(queries) {
		if err := q.Check(); err != nil {
			return nil, err
		}
		b.WriteString(" \\\n ")
		b.WriteString(Quote(letters[q.Kind] + q.Subject))
		for _, k := range q.Follow {
			b.WriteString(" \\\n ")
			b.WriteString(Quote("f" + k + " " + q.Subject))
		}
	}
	b.WriteString("\n")
	b.WriteString(scriptBody)
	return []byte(b.String()), nil
}

// Quote renders s as one word of a POSIX shell. A NUL cannot be expressed and
// is dropped; callers check their values before.
func Quote(s string) string {
	s = strings.ReplaceAll(s, "\x00", "")
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
