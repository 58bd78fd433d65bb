// Verifies attestations with the in-toto project's own libraries: the DSSE envelope with go-securesystemslib, the statement and its SLSA
// provenance with in-toto's attestation, of which no unknown field is taken. Prints what a consumer looks at.
// Usage: attest-go BUNDLE PUBLIC-KEY
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"

	provenance "github.com/in-toto/attestation/go/predicates/provenance/v1"
	statement "github.com/in-toto/attestation/go/v1"
	"github.com/secure-systems-lab/go-securesystemslib/dsse"
	"github.com/secure-systems-lab/go-securesystemslib/signerverifier"
	"google.golang.org/protobuf/encoding/protojson"
)

func verify(line []byte, verifier *dsse.EnvelopeVerifier) error {
	var envelope dsse.Envelope
	if err := json.Unmarshal(line, &envelope); err != nil {
		return err
	}
	if envelope.PayloadType != "application/vnd.in-toto+json" {
		return fmt.Errorf("payload of type %s", envelope.PayloadType)
	}
	if _, err := verifier.Verify(context.Background(), &envelope); err != nil {
		return err
	}
	payload, err := envelope.DecodeB64Payload()
	if err != nil {
		return err
	}
	var said statement.Statement
	if err := protojson.Unmarshal(payload, &said); err != nil {
		return err
	}
	if err := said.Validate(); err != nil {
		return err
	}
	if said.GetPredicateType() != "https://slsa.dev/provenance/v1" {
		return fmt.Errorf("predicate of type %s", said.GetPredicateType())
	}
	predicate, err := protojson.Marshal(said.GetPredicate())
	if err != nil {
		return err
	}
	var made provenance.Provenance
	if err := protojson.Unmarshal(predicate, &made); err != nil {
		return err
	}
	if err := made.Validate(); err != nil {
		return err
	}
	builder := made.GetRunDetails().GetBuilder().GetId()
	for _, subject := range said.GetSubject() {
		fmt.Printf("%s %s %s %s\n", subject.GetDigest()["sha256"], subject.GetName(), builder, made.GetBuildDefinition().GetBuildType())
	}
	return nil
}

func run(bundle, keyFile string) error {
	pem, err := os.ReadFile(keyFile)
	if err != nil {
		return err
	}
	key, err := signerverifier.LoadKey(pem)
	if err != nil {
		return err
	}
	signer, err := signerverifier.NewED25519SignerVerifierFromSSLibKey(key)
	if err != nil {
		return err
	}
	verifier, err := dsse.NewEnvelopeVerifier(signer)
	if err != nil {
		return err
	}
	text, err := os.ReadFile(bundle)
	if err != nil {
		return err
	}
	for at, line := range bytes.Split([]byte(strings.TrimSuffix(string(text), "\n")), []byte("\n")) {
		if err := verify(line, verifier); err != nil {
			return fmt.Errorf("attestation %d: %w", at+1, err)
		}
	}
	return nil
}

func main() {
	if err := run(os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
