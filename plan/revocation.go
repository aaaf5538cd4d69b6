package plan

import (
	"fmt"
	"time"
)

// A Revocation is a certificate that is to be refused from now on. It changes no
// host by itself: the list that has it does.
type Revocation struct {
	Authority   string    `json:"authority"`
	Generation  int       `json:"generation"`
	Serial      string    `json:"serial"` // hex
	Host        string    `json:"host,omitempty"`
	Certificate string    `json:"certificate,omitempty"`
	NotAfter    time.Time `json:"not_after,omitzero"`
	InUse       bool      `json:"in_use,omitempty"` // its host was confirmed with it and with none since
	Reason      string    `json:"reason,omitempty"`
}

// What names the certificate for people.
func (r Revocation) What() string {
	text := "not issued through this ledger"
	if r.Host != "" {
		text = r.Certificate + " of " + r.Host
		if !r.InUse {
			text = "a former " + text
		}
	}
	if !r.NotAfter.IsZero() {
		text += fmt.Sprintf(", until %s", r.NotAfter.UTC().Format("2006-01-02"))
	}
	return text
}
