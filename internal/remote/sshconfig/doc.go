// Package sshconfig reads OpenSSH's client configuration, ssh_config(5), and
// answers what it says of one host: each value with the file and line it came
// from. It reads files and nothing else: it runs no command and asks no DNS.
//
// It follows OpenSSH 10: the first value found wins, IdentityFile and
// CertificateFile add up, Host and Match blocks, Include, and the second pass
// that "Match final" asks for. What would have to run a program, such as
// "Match exec", is an error where it would decide a value that matters.
package sshconfig
