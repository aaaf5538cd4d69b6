package remote

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/virtrust/virtrust/internal/facts"
)

// Unlock drops the lease of a run, and of that run only.
func Unlock(ctx context.Context, c *Conn, host, run string) error {
	if run == "" || strings.Trim(run, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-") != "" {
		return &Error{Class: ClassConfiguration, Host: host, Op: "unlocking", Err: fmt.Errorf("%q is not the id of a run", run)}
	}
	s := &Session{conn: c, end: Endpoint{Name: host}, cfg: SessionConfig{Run: run, Owner: "unlock", Now: time.Now}}
	nonce := Nonce()
	a, err := s.run(ctx, "unlocking", runLimit, nonce, whole(s.head(nonce), fmt.Sprintf(`
[ -n "$lrun" ] || die failed "nobody holds a lease" 20
[ "$lrun" = %s ] || die failed "the lease is held by run $lrun of $lowner" 20
printf 'fence %%s\n' "$lfence" >"$L/lease.new" && mv -f "$L/lease.new" "$L/lease" || die failed "cannot write $L/lease" 70
say free '' yes`, facts.Quote(run))))
	if err != nil {
		return err
	}
	if _, ok := a.get("free"); !ok {
		return &Error{Class: ClassScript, Host: host, Op: "unlocking", Err: errors.New("the host did not say that it is free")}
	}
	return nil
}
