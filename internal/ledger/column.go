package ledger

import (
	"fmt"
	"strings"
	"time"
	"unicode/utf8"
)

// timeLayout has one width, so that times sort as text.
const timeLayout = "2006-01-02T15:04:05.000000Z"

func stamp(t time.Time) string { return t.UTC().Format(timeLayout) }

// instant scans a time column; NULL is the zero time.
type instant struct{ t *time.Time }

func (i instant) Scan(v any) error {
	switch v := v.(type) {
	case nil:
		*i.t = time.Time{}
		return nil
	case string:
		t, err := time.Parse(timeLayout, v)
		*i.t = t
		return err
	}
	return fmt.Errorf("a time is stored as %T", v)
}

// maxText bounds text from outside, in bytes.
const maxText = 4096

// bounded makes text valid UTF-8 of at most maxText bytes.
func bounded(s string) string {
	s = strings.ToValidUTF8(s, "\uFFFD")
	if len(s) <= maxText {
		return s
	}
	s = s[:maxText-len("…")]
	for !utf8.ValidString(s) {
		s = s[:len(s)-1]
	}
	return s + "…"
}
