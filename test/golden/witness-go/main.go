// Verifies checkpoints that a log and a witness have signed, with an implementation of cosignatures that is not hpcc's.
// Usage: witness-go LOG-KEY WITNESS-KEY CHECKPOINT...
package main

import (
	"fmt"
	"os"

	"github.com/transparency-dev/formats/log"
	fnote "github.com/transparency-dev/formats/note"
	"golang.org/x/mod/sumdb/note"
)

func check(logKey, witnessKey, file string) error {
	verifier, err := note.NewVerifier(logKey)
	if err != nil {
		return err
	}
	witness, err := fnote.NewVerifierForCosignatureV1(witnessKey)
	if err != nil {
		return err
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	checkpoint, _, opened, err := log.ParseCheckpoint(text, verifier.Name(), verifier, witness)
	if err != nil {
		return err
	}
	for _, sig := range opened.Sigs {
		if sig.Hash != witness.KeyHash() || sig.Name != witness.Name() {
			continue
		}
		when, err := fnote.CoSigV1Timestamp(sig)
		if err != nil {
			return err
		}
		fmt.Printf("%s %d %d\n", checkpoint.Origin, checkpoint.Size, when.Unix())
		return nil
	}
	return fmt.Errorf("%s has no cosignature of the witness", file)
}

func main() {
	if len(os.Args) < 4 {
		fmt.Fprintln(os.Stderr, "usage: witness-go LOG-KEY WITNESS-KEY CHECKPOINT...")
		os.Exit(2)
	}
	for _, file := range os.Args[3:] {
		if err := check(os.Args[1], os.Args[2], file); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
}
