// Package faults breaks the host transaction in every way that the lab can
// break it and compares what is true afterwards with what virtrust said. Its
// observers, in observer/, run on the hosts and share no code with virtrust.
package faults
