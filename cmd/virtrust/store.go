package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/virtrust/virtrust/internal/authority"
	"github.com/virtrust/virtrust/internal/keystore"
)

// formatPEM is the form of what is no store.
const formatPEM = "pem"

// formatFor is the form of an output: what is asked for, or what the name of its
// file says.
func formatFor(asked, file string) (string, error) {
	switch asked {
	case "":
		if f, ok := keystore.FormatOf(file); ok {
			return string(f), nil
		}
		return formatPEM, nil
	case formatPEM, string(keystore.PKCS12), string(keystore.JKS):
		return asked, nil
	}
	return "", fmt.Errorf("--format is pem, pkcs12 or jks, not %q", asked)
}

// storePassword is that of a new store: of a file, or a person is asked twice.
func (a *app) storePassword(ctx context.Context, file, what string) (authority.Secret, error) {
	var s authority.Secret
	var err error
	switch {
	case file != "":
		s, err = authority.Resolve(ctx, "file:"+file, authority.Options{Dir: "."})
	case !a.inTerm:
		err = &hinted{fmt.Errorf("%s needs a password and there is no terminal to ask on", what), "give --password-file FILE"}
	default:
		s, err = a.prompt(ctx, "Password of "+what, true)
	}
	if err == nil && len(s.Bytes()) < keystore.MinPassword {
		s.Wipe()
		err = fmt.Errorf("the password of %s is shorter than %d characters, and many programs refuse that", what, keystore.MinPassword)
	}
	return s, err
}

// writeOut makes a file that must not exist; without a name it prints, which a
// store is not made for.
func (a *app) writeOut(file, format string, data []byte, mode os.FileMode) error {
	if file == "" {
		if format != formatPEM && a.outTerm {
			return &hinted{errors.New("a store is no text for a terminal"), "give --out FILE"}
		}
		_, err := a.out.Write(data)
		return err
	}
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	if _, err := f.Write(data); err != nil {
		f.Close()
		return err
	}
	return f.Close()
}
