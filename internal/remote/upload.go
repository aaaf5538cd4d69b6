package remote

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strings"
	"sync"
	"time"

	"github.com/pkg/sftp"
	"golang.org/x/crypto/ssh"
	"golang.org/x/sync/errgroup"
)

// Upload is one file to create on a host.
type Upload struct {
	Path    string // absolute and clean; nothing may be there yet
	Mode    fs.FileMode
	Content []byte
}

const (
	uploadsAtOnce = 8
	chunk         = 32 << 10 // what every SFTP server takes in one packet
)

// Upload creates files: exclusively, with their mode before their content,
// synced where the server can. It does so over SFTP, several at a time, or
// through a script where the login is not root's or the host has no SFTP. SFTP
// as we have it cannot create a file with a mode, so the directory must be one
// that only we may enter (0700), or a file is open to others for a moment.
//
// On an error some of the files may exist, in part or whole. A context that
// ends, or 60 s, closes the connection.
func (c *Conn) Upload(ctx context.Context, files []Upload) error {
	for _, f := range files {
		if !path.IsAbs(f.Path) || path.Clean(f.Path) != f.Path || strings.ContainsRune(f.Path, 0) {
			return &Error{Class: ClassConfiguration, Host: c.host, Op: "uploading", Err: fmt.Errorf("%q is not an absolute, clean path", f.Path)}
		}
		if f.Mode&^fs.ModePerm != 0 {
			return &Error{Class: ClassConfiguration, Host: c.host, Op: "uploading " + f.Path, Err: fmt.Errorf("mode %s has more than permission bits", f.Mode)}
		}
	}
	if len(files) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, uploadTimeout)
	defer cancel()
	if c.become == BecomeSudo {
		return c.uploadByScript(ctx, files)
	}
	defer c.guard(ctx)()
	client, done, err := c.openSFTP(ctx)
	if ClassOf(err) == ClassShell {
		c.log.Debug("no SFTP: files go through a script", "host", c.host, "reason", err.Error())
		return c.uploadByScript(ctx, files)
	}
	if err != nil {
		return err
	}
	defer done()
	var group errgroup.Group
	group.SetLimit(uploadsAtOnce)
	for _, f := range files {
		group.Go(func() error {
			if err := create(client, f); err != nil {
				return c.fileError(ctx, "uploading "+f.Path, err)
			}
			return nil
		})
	}
	return group.Wait()
}

// create guards against a panic of the SFTP client over a malformed reply.
func create(client *sftp.Client, u Upload) (err error) {
	defer recovered(&err)
	f, err := client.OpenFile(u.Path, os.O_WRONLY|os.O_CREATE|os.O_EXCL)
	if err != nil {
		return err
	}
	if err := fill(client, f, u); err != nil {
		_ = f.Close()
		return err
	}
	return f.Close()
}

func fill(client *sftp.Client, f *sftp.File, u Upload) error {
	if err := f.Chmod(u.Mode); err != nil {
		return fmt.Errorf("setting its mode: %w", err)
	}
	// One write at a time: OpenSSH does not undo what was written after a write
	// that failed.
	for rest := u.Content; len(rest) > 0; {
		n := min(len(rest), chunk)
		if _, err := f.Write(rest[:n]); err != nil {
			return fmt.Errorf("writing: %w", err)
		}
		rest = rest[n:]
	}
	if _, ok := client.HasExtension("fsync@openssh.com"); ok {
		if err := f.Sync(); err != nil {
			return fmt.Errorf("syncing: %w", err)
		}
	}
	return nil
}

// openSFTP starts the SFTP subsystem at its first use; later uses share it.
// done tells that the caller needs it no more. A host that has none, or whose
// login prints something into it, is an error of [ClassShell], now and later.
func (c *Conn) openSFTP(ctx context.Context) (client *sftp.Client, done func(), err error) {
	c.sftpMu.Lock()
	defer c.sftpMu.Unlock()
	if c.sftpErr != nil {
		return nil, nil, c.sftpErr
	}
	if c.sftp == nil {
		if err := c.startSFTP(ctx); err != nil {
			if err.Class == ClassShell {
				c.sftpErr = err
			}
			return nil, nil, err
		}
	}
	c.sftpUsers++
	return c.sftp, sync.OnceFunc(func() {
		c.sftpMu.Lock()
		c.sftpUsers--
		c.sftpMu.Unlock()
		if c.sessions.areTight() {
			c.dropIdleSFTP()
		}
	}), nil
}

// dropIdleSFTP ends SFTP when nobody uses it, so that its session serves
// others.
func (c *Conn) dropIdleSFTP() {
	if !c.sftpMu.TryLock() {
		return // somebody is about to use it
	}
	defer c.sftpMu.Unlock()
	if c.sftp == nil || c.sftpUsers > 0 {
		return
	}
	_ = c.sftp.Close()
	c.sftpDone()
	c.sftp = nil
}

func (c *Conn) startSFTP(ctx context.Context) *Error {
	const op = "starting SFTP"
	ch, reqs, done, err := c.session(ctx)
	if err != nil {
		return c.sessionError(ctx, op, err)
	}
	go ssh.DiscardRequests(reqs)
	go discard(ch.Stderr())
	refused, err := start(ch, "subsystem", ssh.Marshal(struct{ Name string }{"sftp"}))
	if err != nil {
		_ = ch.Close()
		done()
		return c.fail(ctx, ClassProtocol, op, err, "")
	}
	client, err := newSFTP(ch)
	if err != nil {
		_ = ch.Close()
		done()
		select {
		case no := <-refused:
			if no {
				return &Error{Class: ClassShell, Host: c.host, Op: op, Err: errors.New("sshd has no SFTP subsystem"),
					Hint: "enable `Subsystem sftp internal-sftp` in the host's sshd_config"}
			}
		case <-ctx.Done():
		case <-time.After(time.Second):
		}
		out := c.fail(ctx, ClassShell, op, err, "does the login shell's start-up file print something?")
		if c.alive() && ctx.Err() == nil {
			// The channel ended, not the connection.
			out.Class = ClassShell
			out.Err = fmt.Errorf("what answers is no SFTP server: %w", err)
		}
		return out
	}
	c.sftp, c.sftpDone = client, done
	return nil
}

func newSFTP(ch ssh.Channel) (client *sftp.Client, err error) {
	defer recovered(&err)
	return sftp.NewClientPipe(ch, ch, sftp.UseConcurrentWrites(false), sftp.UseConcurrentReads(false), sftp.MaxPacketChecked(chunk))
}

func recovered(err *error) {
	if p := recover(); p != nil {
		*err = fmt.Errorf("malformed SFTP reply: %v", p)
	}
}

func (c *Conn) fileError(ctx context.Context, op string, err error) error {
	var status *sftp.StatusError
	switch {
	case errors.As(err, &status), errors.Is(err, fs.ErrNotExist), errors.Is(err, fs.ErrPermission):
		hint := ""
		if status != nil && status.FxCode() == sftp.ErrSSHFxFailure {
			hint = "the file may exist already, or its file system may be full or read-only"
		}
		return &Error{Class: ClassFile, Host: c.host, Op: op, Err: err, Hint: hint}
	case errors.Is(err, sftp.ErrSSHFxConnectionLost):
		return c.fail(ctx, ClassLost, op, err, "")
	}
	return c.fail(ctx, ClassProtocol, op, err, "")
}
