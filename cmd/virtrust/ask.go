package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
	"golang.org/x/term"

	"github.com/virtrust/virtrust/internal/authority"
)

// answer waits for what read gives, or for the end of ctx: a person who
// presses Ctrl-C at a question has given no answer. A read that nobody waits
// for any longer is left to the end of the program.
func answer[T any](ctx context.Context, a *app, read func() (T, error)) (T, error) {
	type result struct {
		v   T
		err error
	}
	a.asking.Add(1)
	defer a.asking.Add(-1)
	done := make(chan result, 1)
	go func() {
		v, err := read()
		done <- result{v, err}
	}()
	select {
	case r := <-done:
		return r.v, r.err
	case <-ctx.Done():
		fmt.Fprintln(a.err)
		var none T
		return none, context.Cause(ctx)
	}
}

// ask puts a question and gives the line that was typed. The error is io.EOF
// at the end of the input, or the cause of ctx's end.
func (a *app) ask(ctx context.Context, question string) (string, error) {
	if err := context.Cause(ctx); err != nil {
		return "", err
	}
	fmt.Fprint(a.err, question)
	if a.lines == nil {
		a.lines = bufio.NewReader(a.in)
	}
	line, err := answer(ctx, a, func() (string, error) { return a.lines.ReadString('\n') })
	if err != nil && (line == "" || !errors.Is(err, io.EOF)) {
		return "", err
	}
	return strings.TrimSpace(line), nil
}

// approve asks for a plain yes.
func (a *app) approve(ctx context.Context, question string) error {
	if !a.inTerm {
		return &exitCode{exitNotApproved, &hinted{errors.New("not approved: there is no terminal to ask on"), "read what would be done, and give --yes"}}
	}
	text, err := a.ask(ctx, "\n"+question+" Only \"yes\" goes on: ")
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if text != "yes" {
		return &exitCode{exitNotApproved, errors.New("not approved: nothing was changed")}
	}
	return nil
}

// prompt asks a person for a secret on the terminal.
func (a *app) prompt(ctx context.Context, label string, confirm bool) (authority.Secret, error) {
	if !a.inTerm {
		return authority.Secret{}, &hinted{fmt.Errorf("%s: there is no terminal to ask on", label),
			`set passphrase_from = "env:NAME" or "file:PATH" in the authority block`}
	}
	first, err := a.hidden(ctx, label)
	if err != nil {
		return authority.Secret{}, err
	}
	secret := authority.NewSecret(first)
	if !confirm {
		return secret, nil
	}
	again, err := a.hidden(ctx, "Once more")
	if err != nil {
		secret.Wipe()
		return authority.Secret{}, err
	}
	second := authority.NewSecret(again)
	defer second.Wipe()
	if string(secret.Bytes()) != string(second.Bytes()) {
		secret.Wipe()
		return authority.Secret{}, errors.New("the two answers differ: nothing was made")
	}
	return secret, nil
}

// hidden reads a line without showing it.
func (a *app) hidden(ctx context.Context, label string) ([]byte, error) {
	if err := context.Cause(ctx); err != nil {
		return nil, err
	}
	fd := int(a.in.Fd())
	before, err := term.GetState(fd)
	if err != nil {
		return nil, err
	}
	// Before the question: whoever types at once is not shown either. After an
	// interrupted read nobody else makes the terminal show typing again.
	defer func() { _ = term.Restore(fd, before) }()
	if err := silence(fd); err != nil {
		return nil, err
	}
	fmt.Fprint(a.err, label+": ")
	b, err := answer(ctx, a, func() ([]byte, error) { return term.ReadPassword(fd) })
	if err != nil {
		return nil, err
	}
	fmt.Fprintln(a.err)
	return b, nil
}

// silence stops a terminal from showing what is typed.
func silence(fd int) error {
	t, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err != nil {
		return err
	}
	t.Lflag &^= unix.ECHO
	return unix.IoctlSetTermios(fd, unix.TCSETS, t)
}

// told are passphrases that a person is asked for once, by what they are for.
type told struct {
	mu   sync.Mutex
	have map[string]authority.Secret
}

// once asks a person for a secret the first time, and gives a copy of the answer
// from then on. The answer is kept until the end of the program.
func (a *app) once(ctx context.Context, key, label string, confirm bool) (authority.Secret, error) {
	a.told.mu.Lock()
	defer a.told.mu.Unlock()
	if _, ok := a.told.have[key]; !ok {
		s, err := a.prompt(ctx, label, confirm)
		if err != nil {
			return s, err
		}
		if a.told.have == nil {
			a.told.have = map[string]authority.Secret{}
		}
		a.told.have[key] = s
	}
	return authority.NewSecret(slices.Clone(a.told.have[key].Bytes())), nil
}
