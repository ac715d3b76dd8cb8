// Package ids names tasks that a turn emits.
//
// Why it exists: a retried turn must make the same identifiers again, in every language: sutazai.ids in Python is the
// other half, tests/conformance holds the vectors.
package ids

import (
	"crypto/sha256"
	"math/big"
	"strconv"
)

const (
	alphabet   = "0123456789abcdefghjkmnpqrstvwxyz" // Crockford's base 32: no i, l, o, u
	hashDigits = 26                                 // 130 bits
)

// ChildTaskID makes the identifier of a task that a turn emits.
//
// It depends on nothing but its arguments: the emitting task, the place in the code, and how many tasks this place has
// emitted before. So a turn that is executed twice names the same children.
func ChildTaskID(parent, callSite string, index int) string {
	digest := sha256.Sum256([]byte(parent + "\x00" + callSite + "\x00" + strconv.Itoa(index)))
	number := new(big.Int).SetBytes(digest[:17])
	number.Rsh(number, 6)
	var digits [hashDigits]byte
	base, rest := big.NewInt(int64(len(alphabet))), new(big.Int)
	for place := hashDigits - 1; place >= 0; place-- {
		number.DivMod(number, base, rest)
		digits[place] = alphabet[rest.Int64()]
	}
	return "t_" + string(digits[:])
}

// NamedChildID makes the identifier of a task that another emits under a name of its own, whatever turn does it.
func NamedChildID(parent, name string) string { return ChildTaskID(parent, "\x1e"+name, 0) }
