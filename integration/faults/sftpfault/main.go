// Command sftpfault is an SFTP server that fails.
package main

func main() {}
