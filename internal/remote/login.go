package remote

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/crypto/ssh"
)

// errRefusedQuestion means that a host asked for something that is not the
// password.
var errRefusedQuestion = errors.New("a question without an answer")

// passwords are the ways to log in with the endpoint's password. Both take it
// once: a second try of the same text is only counted against the account.
func (h *handshake) passwords(ctx context.Context) []ssh.AuthMethod {
	if h.way.Password == nil {
		return nil
	}
	return []ssh.AuthMethod{
		ssh.PasswordCallback(func() (string, error) { return h.tell(ctx) }),
		ssh.KeyboardInteractive(func(_, _ string, questions []string, echos []bool) ([]string, error) {
			answers := make([]string, len(questions))
			for i, q := range questions {
				// PAM's own question; a second factor has other words or is shown.
				if len(questions) > 1 || echos[i] || !strings.Contains(strings.ToLower(q), "password") {
					h.mu.Lock()
					h.asked = fmt.Errorf("the host asks \"%s\", and there is a password only: %w", clean(q, 100), errRefusedQuestion)
					h.mu.Unlock()
					return nil, errRefusedQuestion
				}
				text, err := h.tell(ctx)
				if err != nil {
					return nil, err
				}
				answers[i] = text
			}
			return answers, nil
		}),
	}
}

// tell gives the password for one try.
func (h *handshake) tell(ctx context.Context) (string, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.over {
		return "", context.Canceled
	}
	if h.told {
		return "", fmt.Errorf("%w already", errRejected)
	}
	var text []byte
	var settle func(verdict)
	var err error
	h.waiting(func() { text, settle, err = h.way.Password.take(ctx, h.way.label()) })
	if err != nil {
		h.asked = err
		return "", err
	}
	h.told, h.settle = true, settle
	return string(text), nil
}

// settled says what came of the password, if the host was told it. After that
// the host is told nothing.
func (h *handshake) settled(v verdict) {
	h.mu.Lock()
	h.over = true
	settle := h.settle
	h.mu.Unlock()
	if settle != nil {
		settle(v)
	}
}
