package authority

import (
	"fmt"
	"io"
	"log/slog"
)

const redacted = "[redacted]"

// A Secret is a passphrase. However it is formatted, logged or marshalled, it
// shows as "[redacted]"; only Bytes gives it out. The zero Secret is empty.
type Secret struct {
	// Where a Secret is an unexported field of another struct, fmt does not ask
	// its methods. It follows one pointer then, never two.
	v **secretValue
}

type secretValue struct{ b []byte }

// NewSecret takes b over as a secret: Wipe will clear it.
func NewSecret(b []byte) Secret {
	v := &secretValue{b}
	return Secret{&v}
}

// Bytes is the secret itself, not a copy.
func (s Secret) Bytes() []byte {
	if s.v == nil {
		return nil
	}
	return (*s.v).b
}

// Empty reports whether there is nothing in it.
func (s Secret) Empty() bool { return len(s.Bytes()) == 0 }

// Wipe overwrites the secret with zeros and empties it, for every copy of s.
func (s Secret) Wipe() {
	if s.v != nil {
		v := *s.v
		clear(v.b[:cap(v.b)])
		v.b = nil
	}
}

// String returns "[redacted]".
func (Secret) String() string { return redacted }

// GoString returns "[redacted]".
func (Secret) GoString() string { return redacted }

// Format writes "[redacted]" for every verb.
func (Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, redacted) }

// MarshalText returns "[redacted]".
func (Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// MarshalJSON returns "[redacted]" as a JSON string.
func (Secret) MarshalJSON() ([]byte, error) { return []byte(`"` + redacted + `"`), nil }

// LogValue returns "[redacted]".
func (Secret) LogValue() slog.Value { return slog.StringValue(redacted) }
