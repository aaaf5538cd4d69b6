package report

import "time"

// Options say how a text is written.
type Options struct {
	Width   int       // columns to wrap at; below 40 counts as 80
	Color   bool      // ANSI colours; the text reads the same without
	Now     time.Time // what "in 12 days" counts from; zero leaves such words out
	Verbose bool      // name every host, directory, proof and note
}
