// Package migrate tests encrypted live migration with the program, on hosts of
// three releases.
package migrate
