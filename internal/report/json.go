package report

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
)

// JSON writes v as indented JSON without escaping HTML. Characters that could
// mislead a terminal are written as \uXXXX, which loses nothing. The error is
// the encoder's or the writer's.
func JSON(w io.Writer, v any) error { return encode(w, v, "  ") }

// JSONLine is JSON on one line, for a stream of events.
func JSONLine(w io.Writer, v any) error { return encode(w, v, "") }

func encode(w io.Writer, v any, indent string) error {
	var raw bytes.Buffer
	e := json.NewEncoder(&raw)
	e.SetEscapeHTML(false)
	e.SetIndent("", indent)
	if err := e.Encode(v); err != nil {
		return err
	}
	var b bytes.Buffer
	for _, r := range raw.String() {
		switch {
		// Outside of strings JSON has no character that is unsafe but these.
		case r == '\n' || r == ' ' || !unsafe(r):
			b.WriteRune(r)
		case r >= 0x10000:
			r -= 0x10000
			fmt.Fprintf(&b, `\u%04x\u%04x`, 0xD800+(r>>10), 0xDC00+(r&0x3FF))
		default:
			fmt.Fprintf(&b, `\u%04x`, r)
		}
	}
	_, err := w.Write(b.Bytes())
	return err
}
