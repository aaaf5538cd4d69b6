// Package report turns plans, reports and rows of what was seen into text for
// terminals, Markdown and JSON. It is pure: it reads no clock, no environment
// and no terminal; width, colour and moment are options. Everything that a
// host said goes through Safe before it is written.
package report
