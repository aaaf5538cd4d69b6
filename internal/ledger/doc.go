// Package ledger records what was issued, revoked, proved and run, in one
// SQLite database beside the configuration. It holds no secret: no method
// takes one, and no column could hold one.
//
// The database uses SQLite's rollback journal, not the write-ahead log: between
// transactions the one file is the whole ledger, so a copy of it is usable, and
// it can be read from a read-only place. Transactions are short; other processes
// wait for them up to ten seconds.
//
// Text that came from a host is stored bounded and as valid UTF-8, but not made
// safe for a terminal.
package ledger
