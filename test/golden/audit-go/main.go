// Verifies a folder of tlog-tiles with the Go project's own implementation of signed notes and transparency logs: the checkpoint's
// signature, every tile, that each entry is the leaf that the tiles say, an inclusion proof for each entry, and tlog-proof files.
// Usage: audit-go FOLDER VKEY [PROOF...]
package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

const height = 8

// tilePath is the path of C2SP's tlog-tiles, which leaves out the height.
func tilePath(t tlog.Tile) string {
	return strings.Replace(t.Path(), fmt.Sprintf("tile/%d/", height), "tile/", 1)
}

func entriesPath(index int64, width int) string {
	t := tlog.Tile{H: height, L: -1, N: index, W: width}
	return strings.Replace(t.Path(), fmt.Sprintf("tile/%d/data/", height), "tile/entries/", 1)
}

type reader struct{ folder string }

func (r reader) Height() int { return height }
func (r reader) ReadTiles(tiles []tlog.Tile) ([][]byte, error) {
	var all [][]byte
	for _, t := range tiles {
		b, err := os.ReadFile(filepath.Join(r.folder, tilePath(t)))
		if err != nil {
			return nil, err
		}
		all = append(all, b)
	}
	return all, nil
}
func (r reader) SaveTiles([]tlog.Tile, [][]byte) {}

func openCheckpoint(text []byte, verifier note.Verifier) (tlog.Tree, error) {
	n, err := note.Open(text, note.VerifierList(verifier))
	if err != nil {
		return tlog.Tree{}, err
	}
	lines := strings.Split(n.Text, "\n")
	if len(lines) != 4 || lines[0] != verifier.Name() || lines[3] != "" {
		return tlog.Tree{}, fmt.Errorf("not a checkpoint of %s", verifier.Name())
	}
	size, err := strconv.ParseInt(lines[1], 10, 64)
	if err != nil {
		return tlog.Tree{}, err
	}
	hash, err := tlog.ParseHash(lines[2])
	return tlog.Tree{N: size, Hash: hash}, err
}

func checkEntries(folder string, tree tlog.Tree) error {
	hashes := tlog.TileHashReader(tree, reader{folder})
	root, err := tlog.TreeHash(tree.N, hashes)
	if err != nil {
		return err
	}
	if root != tree.Hash {
		return fmt.Errorf("the tiles give another root")
	}
	for first := int64(0); first < tree.N; first += 1 << height {
		width := 1 << height
		if tree.N-first < 1<<height {
			width = int(tree.N - first)
		}
		bundle, err := os.ReadFile(filepath.Join(folder, entriesPath(first>>height, width)))
		if err != nil {
			return err
		}
		for i := first; i < first+int64(width); i++ {
			if len(bundle) < 2 || len(bundle) < 2+int(binary.BigEndian.Uint16(bundle)) {
				return fmt.Errorf("the bundle of entry %d is too short", i)
			}
			length := 2 + int(binary.BigEndian.Uint16(bundle))
			entry := bundle[2:length]
			bundle = bundle[length:]
			proof, err := tlog.ProveRecord(tree.N, i, hashes)
			if err != nil {
				return err
			}
			if err := tlog.CheckRecord(proof, tree.N, tree.Hash, i, tlog.RecordHash(entry)); err != nil {
				return fmt.Errorf("entry %d: %v", i, err)
			}
			if want := sha256.Sum256(append([]byte{0}, entry...)); tlog.RecordHash(entry) != tlog.Hash(want) {
				return fmt.Errorf("entry %d is hashed otherwise", i)
			}
		}
		if len(bundle) != 0 {
			return fmt.Errorf("the bundle from entry %d is too long", first)
		}
	}
	return nil
}

// checkProof verifies a tlog-proof of the entry that the bundles have at its index.
func checkProof(folder string, tree tlog.Tree, file string, verifier note.Verifier) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	head, checkpoint, found := bytes.Cut(text, []byte("\n\n"))
	lines := strings.Split(string(head), "\n")
	if !found || lines[0] != "c2sp.org/tlog-proof@v1" || !strings.HasPrefix(lines[1], "index ") {
		return fmt.Errorf("not a tlog-proof")
	}
	index, err := strconv.ParseInt(strings.TrimPrefix(lines[1], "index "), 10, 64)
	if err != nil {
		return err
	}
	var proof tlog.RecordProof
	for _, line := range lines[2:] {
		hash, err := tlog.ParseHash(line)
		if err != nil {
			return fmt.Errorf("not a hash: %s", line)
		}
		proof = append(proof, hash)
	}
	signed, err := openCheckpoint(checkpoint, verifier)
	if err != nil {
		return err
	}
	leaf, err := tlog.TileHashReader(tree, reader{folder}).ReadHashes([]int64{tlog.StoredHashIndex(0, index)})
	if err != nil {
		return err
	}
	if err := tlog.CheckRecord(proof, signed.N, signed.Hash, index, leaf[0]); err != nil {
		return err
	}
	consistency, err := tlog.ProveTree(tree.N, signed.N, tlog.TileHashReader(tree, reader{folder}))
	if err != nil {
		return err
	}
	return tlog.CheckTree(consistency, tree.N, tree.Hash, signed.N, signed.Hash)
}

func run(folder, vkey string, proofs []string) (tlog.Tree, error) {
	verifier, err := note.NewVerifier(vkey)
	if err != nil {
		return tlog.Tree{}, err
	}
	checkpoint, err := os.ReadFile(filepath.Join(folder, "checkpoint"))
	if err != nil {
		return tlog.Tree{}, err
	}
	tree, err := openCheckpoint(checkpoint, verifier)
	if err != nil {
		return tlog.Tree{}, err
	}
	if err := checkEntries(folder, tree); err != nil {
		return tree, err
	}
	for _, file := range proofs {
		if err := checkProof(folder, tree, file, verifier); err != nil {
			return tree, fmt.Errorf("%s: %v", file, err)
		}
	}
	return tree, nil
}

func main() {
	if len(os.Args) < 3 {
		fmt.Fprintln(os.Stderr, "usage: audit-go FOLDER VKEY [PROOF...]")
		os.Exit(2)
	}
	tree, err := run(os.Args[1], os.Args[2], os.Args[3:])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Printf("%d entries and %d proofs verified\n", tree.N, len(os.Args)-3)
}
