module hpcc/test/golden/attest-go

go 1.22

require (
	github.com/in-toto/attestation v1.1.1
	github.com/secure-systems-lab/go-securesystemslib v0.9.0
	google.golang.org/protobuf v1.36.3
)

require (
	golang.org/x/crypto v0.31.0 // indirect
	golang.org/x/sys v0.28.0 // indirect
)
