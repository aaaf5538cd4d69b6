package report

import "time"

// The states of a certificate in a status table.
const (
	StateOK         = "ok"
	StateDue        = "due"        // renewal is due, the certificate works
	StateExpiring   = "expiring"   // below the threshold that was asked for
	StateExpired    = "expired"    // no longer valid
	StateMissing    = "missing"    // there is no certificate in place
	StateNotServed  = "not served" // in place, and no listener shows it
	StateDiffers    = "differs"    // the listener shows another one
	StateUnreadable = "unreadable" // the host or the certificate could not be read
)

// StatusRow is one certificate of one host as it was seen. A host that could
// not be read has one row without certificate.
type StatusRow struct {
	Host        string    `json:"host"`
	Certificate string    `json:"certificate,omitempty"`
	Subject     string    `json:"subject,omitempty"`
	Issuer      string    `json:"issuer,omitempty"`
	Serial      string    `json:"serial,omitempty"`  // hex
	Served      string    `json:"served,omitempty"`  // short sha256 of the leaf that the listener shows, or "-"
	OnDisk      string    `json:"on_disk,omitempty"` // short sha256 of the leaf in place, or "-"
	NotAfter    time.Time `json:"not_after,omitzero"`
	DaysLeft    int       `json:"days_left"`    // whole days until NotAfter, negative after it
	Due         time.Time `json:"due,omitzero"` // when renewal is due
	State       string    `json:"state"`
	Note        string    `json:"note,omitempty"`
}

// CheckRow is one thing that was checked on one host.
type CheckRow struct {
	Host string `json:"host"`
	What string `json:"what"` // what was checked, a noun phrase
	OK   bool   `json:"ok"`
	Text string `json:"text,omitempty"` // what was seen
	Hint string `json:"hint,omitempty"` // what to do, one sentence
}

// VerifyRow is one host's dial of another with its own client certificate.
type VerifyRow struct {
	From    string `json:"from"`
	To      string `json:"to"`
	Address string `json:"address"` // host:port that was dialled
	OK      bool   `json:"ok"`      // the other end accepted
	Text    string `json:"text,omitempty"`
}
