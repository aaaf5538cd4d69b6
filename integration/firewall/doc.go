// Package firewall proves on real hosts that virtrust opens a port in each of
// the four firewalls, to those who should and to nobody else, for good, and
// that a change which cuts SSH comes back.
package firewall
