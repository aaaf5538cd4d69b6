package sshconfig

import (
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"regexp"
	"strings"
)

// Tokens are what % and a letter stand for: the letter, then its text.
type Tokens map[byte]string

// Expand replaces %x by tokens; %% is a percent sign. Another letter is an error.
func (t Tokens) Expand(text string) (string, error) {
	var b strings.Builder
	for i := 0; i < len(text); i++ {
		if text[i] != '%' {
			b.WriteByte(text[i])
			continue
		}
		if i++; i == len(text) {
			return "", fmt.Errorf("%q ends with %%", text)
		}
		if text[i] == '%' {
			b.WriteByte('%')
			continue
		}
		v, ok := t[text[i]]
		if !ok {
			return "", fmt.Errorf("%%%c in %q has no meaning there", text[i], text)
		}
		b.WriteString(v)
	}
	return b.String(), nil
}

var variable = regexp.MustCompile(`\$\{([A-Za-z_][A-Za-z0-9_]*)\}`)

// ExpandPath replaces tokens, ${VARIABLES} and a leading ~ or ~user.
func (t Tokens) ExpandPath(text, home string) (string, error) {
	var missing error
	text = variable.ReplaceAllStringFunc(text, func(m string) string {
		v, ok := os.LookupEnv(m[2 : len(m)-1])
		if !ok {
			missing = fmt.Errorf("the environment has no variable %s", m[2:len(m)-1])
		}
		return strings.ReplaceAll(v, "%", "%%")
	})
	if missing != nil {
		return "", missing
	}
	if rest, ok := strings.CutPrefix(text, "~"); ok {
		name, below, _ := strings.Cut(rest, "/")
		if name != "" {
			u, err := user.Lookup(name)
			if err != nil {
				return "", err
			}
			home = u.HomeDir
		}
		text = strings.ReplaceAll(home, "%", "%%") + "/" + below
	}
	out, err := t.Expand(text)
	if err != nil {
		return "", err
	}
	return filepath.Clean(out), nil
}
