// Runs a command. Your turn: make it a container, step by step.
package main

import (
	"fmt"
	"os"
	"os/exec"
)

func main() {
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, "usage: run COMMAND [ARG...]")
		os.Exit(2)
	}
	command := exec.Command(os.Args[1], os.Args[2:]...)
	command.Stdin, command.Stdout, command.Stderr = os.Stdin, os.Stdout, os.Stderr
	// Step 1 asks for more: how the command has ended is lost here, for Run says it and nobody
	// listens. And who sends us a signal means the command, which does not get it.
	//
	// A Go program has several threads, and unshare(2) moves one: let SysProcAttr.Cloneflags make
	// the namespaces, with the command.
	command.Run()
}
