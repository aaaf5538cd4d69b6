// Package hostile runs the program against three hosts of which one does what
// no honest host would: the run survives, the others are read, the terminal
// stays clean and the memory bounded. The hosts are SSH servers in the test's
// process; the honest ones run scripts on this machine, which only look.
package hostile
