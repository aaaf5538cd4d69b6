package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
)

// progress shows the lab's log as short lines on standard error.
type progress struct{ attrs []slog.Attr }

// Enabled leaves out details.
func (progress) Enabled(_ context.Context, level slog.Level) bool { return level >= slog.LevelInfo }

// Handle prints one line.
func (p progress) Handle(_ context.Context, r slog.Record) error {
	line := "  " + r.Message
	add := func(a slog.Attr) bool {
		line += fmt.Sprintf(" %s=%v", a.Key, a.Value)
		return true
	}
	for _, a := range p.attrs {
		add(a)
	}
	r.Attrs(add)
	_, err := fmt.Fprintln(os.Stderr, line)
	return err
}

// WithAttrs remembers attributes for every line.
func (p progress) WithAttrs(attrs []slog.Attr) slog.Handler {
	return progress{append(p.attrs[:len(p.attrs):len(p.attrs)], attrs...)}
}

// WithGroup is not needed by the lab.
func (p progress) WithGroup(string) slog.Handler { return p }
