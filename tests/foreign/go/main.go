// Checks receipts, consistency proofs and tiles of a log with Go's own packages: golang.org/x/mod/sumdb/note and /tlog.
//
// The cryptography and the tree are theirs. What is written here is how their parts are put together: the text of a checkpoint
// (c2sp.org/tlog-checkpoint), of a proof (c2sp.org/tlog-proof), and where in a receipt they stand. docs/log-formats.md says more.
//
//	receipts VKEY...      each line of the standard input is a receipt
//	consistency VKEY...   each line is {"old": NOTE, "new": NOTE, "proof": [BASE64, ...]}
//	notes VKEY...         each line is {"note": NOTE}
//	tiles VKEY FOLDER     FOLDER holds the files of a log as it serves them under /log/
//
// Prints a line for each line, "ok" or why not; ends with 1 if one was not.
package main

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

const (
	proofHeader = "c2sp.org/tlog-proof@v1"
	tileHeight  = 8
	longestLine = 16 << 20
)

type checkpoint struct {
	origin string
	tree   tlog.Tree
}

func main() {
	if len(os.Args) < 3 {
		fail(2, errors.New("usage: receipts|consistency|notes VKEY... < LINES, or tiles VKEY FOLDER"))
	}
	mode, arguments := os.Args[1], os.Args[2:]
	if mode == "tiles" {
		if len(arguments) != 2 {
			fail(2, errors.New("usage: tiles VKEY FOLDER"))
		}
		said, err := checkTiles(verifiersOf(arguments[:1]), arguments[1])
		if err != nil {
			fail(1, err)
		}
		fmt.Println(said)
		return
	}
	checks := map[string]func(note.Verifiers, []byte) error{
		"receipts": checkReceipt, "consistency": checkConsistency, "notes": checkNote,
	}
	check, known := checks[mode]
	if !known {
		fail(2, fmt.Errorf("no such check: %s", mode))
	}
	if !eachLine(verifiersOf(arguments), check) {
		os.Exit(1)
	}
}

func verifiersOf(keys []string) note.Verifiers {
	var found []note.Verifier
	for _, key := range keys {
		verifier, err := note.NewVerifier(key)
		if err != nil {
			fail(2, fmt.Errorf("%s: %v", key, err))
		}
		found = append(found, verifier)
	}
	return note.VerifierList(found...)
}

func eachLine(known note.Verifiers, check func(note.Verifiers, []byte) error) bool {
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, longestLine)
	out := bufio.NewWriter(os.Stdout)
	defer out.Flush()
	good := true
	for lines.Scan() {
		if err := check(known, lines.Bytes()); err != nil {
			good = false
			fmt.Fprintf(out, "refused: %s\n", strings.ReplaceAll(err.Error(), "\n", " "))
		} else {
			fmt.Fprintln(out, "ok")
		}
	}
	if err := lines.Err(); err != nil {
		out.Flush()
		fail(2, err)
	}
	return good
}

func checkReceipt(known note.Verifiers, line []byte) error {
	var receipt struct {
		Record *string `json:"record"`
		Proof  *string `json:"tlog_proof"`
	}
	if err := json.Unmarshal(line, &receipt); err != nil {
		return err
	}
	if receipt.Record == nil || receipt.Proof == nil {
		return errors.New("not a receipt")
	}
	head, signed, found := strings.Cut(*receipt.Proof, "\n\n")
	lines := strings.Split(head, "\n")
	if !found || len(lines) < 2 || lines[0] != proofHeader || !strings.HasPrefix(lines[1], "index ") {
		return errors.New("not a proof")
	}
	index, err := number(strings.TrimPrefix(lines[1], "index "))
	if err != nil {
		return err
	}
	hashes, err := hashesOf(lines[2:])
	if err != nil {
		return err
	}
	covering, err := openCheckpoint(known, signed)
	if err != nil {
		return err
	}
	if index >= covering.tree.N {
		return errors.New("the entry lies beyond the checkpoint")
	}
	leaf := tlog.RecordHash([]byte(*receipt.Record))
	return tlog.CheckRecord(hashes, covering.tree.N, covering.tree.Hash, index, leaf)
}

func checkConsistency(known note.Verifiers, line []byte) error {
	var said struct {
		Old, New string
		Proof    []string
	}
	if err := json.Unmarshal(line, &said); err != nil {
		return err
	}
	older, err := openCheckpoint(known, said.Old)
	if err != nil {
		return err
	}
	newer, err := openCheckpoint(known, said.New)
	if err != nil {
		return err
	}
	if older.origin != newer.origin {
		return errors.New("two logs")
	}
	hashes, err := hashesOf(said.Proof)
	if err != nil {
		return err
	}
	return tlog.CheckTree(hashes, newer.tree.N, newer.tree.Hash, older.tree.N, older.tree.Hash)
}

func checkNote(known note.Verifiers, line []byte) error {
	var said struct{ Note string }
	if err := json.Unmarshal(line, &said); err != nil {
		return err
	}
	_, err := openCheckpoint(known, said.Note)
	return err
}

func openCheckpoint(known note.Verifiers, signed string) (checkpoint, error) {
	opened, err := note.Open([]byte(signed), known)
	if err != nil {
		return checkpoint{}, err
	}
	lines := strings.Split(opened.Text, "\n")
	if len(lines) < 4 || lines[0] == "" {
		return checkpoint{}, errors.New("not a checkpoint")
	}
	size, err := number(lines[1])
	if err != nil {
		return checkpoint{}, err
	}
	root, err := tlog.ParseHash(lines[2])
	if err != nil {
		return checkpoint{}, err
	}
	for _, signature := range opened.Sigs {
		if signature.Name == lines[0] {
			return checkpoint{lines[0], tlog.Tree{N: size, Hash: root}}, nil
		}
	}
	return checkpoint{}, errors.New("the log itself has not signed it")
}

func hashesOf(lines []string) ([]tlog.Hash, error) {
	var found []tlog.Hash
	for _, line := range lines {
		hash, err := tlog.ParseHash(line)
		if err != nil {
			return nil, err
		}
		if base64.StdEncoding.EncodeToString(hash[:]) != line {
			return nil, errors.New("not canonical base64")
		}
		found = append(found, hash)
	}
	return found, nil
}

func number(text string) (int64, error) {
	value, err := strconv.ParseInt(text, 10, 64)
	if err != nil || value < 0 || strconv.FormatInt(value, 10) != text {
		return 0, fmt.Errorf("not a number: %q", text)
	}
	return value, nil
}

// files reads tiles as they lie in a folder. Go's package has a path of its own for them, with the height in it.
type files struct{ folder string }

func (f files) Height() int { return tileHeight }

func (f files) SaveTiles([]tlog.Tile, [][]byte) {}

func (f files) ReadTiles(tiles []tlog.Tile) ([][]byte, error) {
	var found [][]byte
	for _, tile := range tiles {
		data, err := os.ReadFile(f.path(tile))
		if err != nil {
			return nil, err
		}
		found = append(found, data)
	}
	return found, nil
}

func (f files) path(tile tlog.Tile) string {
	kind := fmt.Sprintf("tile/%d/", tileHeight)
	rest := strings.TrimPrefix(tile.Path(), kind)
	if tile.L < 0 {
		rest = "entries/" + strings.TrimPrefix(rest, "data/")
	}
	return filepath.Join(f.folder, "tile", rest)
}

// checkTiles derives the root from the tiles, and each entry that is there from its tile.
func checkTiles(known note.Verifiers, folder string) (string, error) {
	signed, err := os.ReadFile(filepath.Join(folder, "checkpoint"))
	if err != nil {
		return "", err
	}
	newest, err := openCheckpoint(known, string(signed))
	if err != nil {
		return "", err
	}
	reader := files{folder}
	hashes := tlog.TileHashReader(newest.tree, reader)
	root, err := tlog.TreeHash(newest.tree.N, hashes)
	if err != nil {
		return "", err
	}
	if root != newest.tree.Hash {
		return "", errors.New("the tiles lead to another root")
	}
	entries := int64(0)
	for first := int64(0); first < newest.tree.N; first += 1 << tileHeight {
		width := newest.tree.N - first
		if width > 1<<tileHeight {
			width = 1 << tileHeight
		}
		indexes := make([]int64, width)
		for i := range indexes {
			indexes[i] = tlog.StoredHashIndex(0, first+int64(i))
		}
		leaves, err := hashes.ReadHashes(indexes)
		if err != nil {
			return "", err
		}
		bundle, err := os.ReadFile(reader.path(tlog.Tile{H: tileHeight, L: -1, N: first >> tileHeight, W: int(width)}))
		if errors.Is(err, os.ErrNotExist) {
			continue
		} else if err != nil {
			return "", err
		}
		rest := bytes.NewReader(bundle)
		for i, leaf := range leaves {
			var length uint16
			if err := binary.Read(rest, binary.BigEndian, &length); err != nil {
				return "", fmt.Errorf("entry %d: %v", first+int64(i), err)
			}
			entry := make([]byte, length)
			if _, err := io.ReadFull(rest, entry); err != nil {
				return "", fmt.Errorf("entry %d: %v", first+int64(i), err)
			}
			if tlog.RecordHash(entry) != leaf {
				return "", fmt.Errorf("entry %d is not the one in the tree", first+int64(i))
			}
			entries++
		}
		if rest.Len() != 0 {
			return "", errors.New("a bundle goes on after its entries")
		}
	}
	return fmt.Sprintf("ok: %s, %d entries in the tree, %d compared with it", newest.origin, newest.tree.N, entries), nil
}

func fail(code int, err error) {
	fmt.Fprintln(os.Stderr, err)
	os.Exit(code)
}
