package agent

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"math/big"
	"sort"
	"strings"
	"time"
	"unicode/utf8"

	"sutazai/wire"
)

const mistakesMax = 20

type mistakes []string

func (m *mistakes) add(path, format string, values ...any) {
	if path == "" {
		path = "it"
	}
	*m = append(*m, path+": "+fmt.Sprintf(format, values...))
}

// read checks a JSON value, fills in what is missing and makes a Go value of it. All mistakes are told at once.
func read[T any](schema *node, raw json.RawMessage, what string) (T, error) {
	var out T
	if len(raw) == 0 {
		raw = json.RawMessage("{}")
	}
	value, err := parse(raw)
	if err != nil {
		return out, InvalidInput("the %s is no JSON: %v", what, err)
	}
	var found mistakes
	value = schema.check(value, "", &found)
	if len(found) > 0 {
		more := ""
		if len(found) > mistakesMax {
			found, more = found[:mistakesMax], "; …"
		}
		return out, InvalidInput("the %s does not fit: %s%s", what, strings.Join(found, "; "), more)
	}
	data, err := wire.Marshal(value)
	if err == nil {
		err = json.Unmarshal(data, &out)
	}
	if err != nil {
		return out, InvalidInput("the %s does not fit: %v", what, err)
	}
	return out, nil
}

// parse reads JSON; numbers stay texts, so that none loses digits.
func parse(raw json.RawMessage) (any, error) {
	decoder := json.NewDecoder(bytes.NewReader(raw))
	decoder.UseNumber()
	var value any
	if err := decoder.Decode(&value); err != nil {
		return nil, err
	}
	if _, err := decoder.Token(); err != io.EOF {
		return nil, fmt.Errorf("something follows the value")
	}
	return value, nil
}

// check compares a value with a schema, notes the mistakes, and gives the value with defaults filled in.
func (n *node) check(value any, path string, found *mistakes) any {
	if value == nil {
		if !n.nullable && n.kind != kindAny {
			found.add(path, "must be %s, not null", n.article())
		}
		return nil
	}
	switch n.kind {
	case kindObject:
		if entries, ok := value.(map[string]any); ok {
			return n.checkObject(entries, path, found)
		}
	case kindMap:
		if entries, ok := value.(map[string]any); ok {
			n.count(len(entries), "entries", path, found)
			for _, name := range sortedKeys(entries) {
				entries[name] = n.item.check(entries[name], join(path, name), found)
			}
			return entries
		}
	case kindArray:
		if items, ok := value.([]any); ok {
			n.count(len(items), "items", path, found)
			for i, item := range items {
				items[i] = n.item.check(item, join(path, fmt.Sprint(i)), found)
			}
			return items
		}
	case kindString:
		if text, ok := value.(string); ok {
			n.checkText(text, path, found)
			return text
		}
	case kindInteger, kindNumber:
		if number, ok := value.(json.Number); ok {
			return n.checkNumber(number, path, found)
		}
	case kindBool:
		if truth, ok := value.(bool); ok {
			return truth
		}
	default:
		return value
	}
	found.add(path, "must be %s", n.article())
	return value
}

func (n *node) article() string {
	return map[kind]string{
		kindObject: "an object", kindMap: "an object", kindArray: "a list", kindString: "a text",
		kindInteger: "a whole number", kindNumber: "a number", kindBool: "true or false",
	}[n.kind]
}

func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}

func sortedKeys(entries map[string]any) []string {
	names := make([]string, 0, len(entries))
	for name := range entries {
		names = append(names, name)
	}
	sort.Strings(names)
	return names
}

func (n *node) checkObject(entries map[string]any, path string, found *mistakes) any {
	known := map[string]bool{}
	for _, part := range n.fields {
		known[part.name] = true
		value, there := entries[part.name]
		switch {
		case there && value == nil && part.fallback == nil && !part.required:
			delete(entries, part.name) // null in an optional field is as good as none
		case there:
			entries[part.name] = part.node.check(value, join(path, part.name), found)
		case part.fallback != nil:
			entries[part.name] = part.fallback
		case part.required:
			found.add(join(path, part.name), "is missing")
		}
	}
	for _, name := range sortedKeys(entries) {
		if !known[name] {
			found.add(join(path, name), "is not known here; there are %s", n.names())
		}
	}
	return entries
}

func (n *node) names() string {
	names := make([]string, len(n.fields))
	for i, part := range n.fields {
		names[i] = part.name
	}
	return strings.Join(names, ", ")
}

func (n *node) count(number int, what, path string, found *mistakes) {
	if n.least != nil && number < *n.least {
		found.add(path, "has %d %s; the least is %d", number, what, *n.least)
	}
	if n.most != nil && number > *n.most {
		found.add(path, "has %d %s; the most is %d", number, what, *n.most)
	}
}

func (n *node) checkText(text, path string, found *mistakes) {
	n.count(utf8.RuneCountInString(text), "characters", path, found)
	if n.pattern != nil && !n.pattern.MatchString(text) {
		found.add(path, "does not match %s", n.pattern)
	}
	switch n.format {
	case "date-time":
		if _, err := time.Parse(time.RFC3339, text); err != nil {
			found.add(path, "must be a time like 2026-01-31T12:00:00Z")
		}
	case "base64":
		if _, err := base64.StdEncoding.DecodeString(text); err != nil {
			found.add(path, "is no base64")
		}
	}
	if n.enum == nil {
		return
	}
	for _, allowed := range n.enum {
		if text == allowed {
			return
		}
	}
	found.add(path, "must be one of %s", strings.Join(n.enum, ", "))
}

func (n *node) checkNumber(number json.Number, path string, found *mistakes) any {
	value, err := number.Float64()
	if err != nil || math.IsInf(value, 0) {
		found.add(path, "is no number that a computer can hold")
		return number
	}
	if n.min != nil && value < *n.min {
		found.add(path, "must be at least %s", plain(*n.min))
	}
	if n.max != nil && value > *n.max {
		found.add(path, "must be at most %s", plain(*n.max))
	}
	if n.kind != kindInteger {
		return number
	}
	whole, ok := new(big.Float).SetPrec(256).SetString(number.String())
	if !ok || !whole.IsInt() {
		found.add(path, "must be a whole number")
		return number
	}
	exact, _ := whole.Int(nil)
	if n.unsigned && (exact.Sign() < 0 || exact.BitLen() > n.bits) || !n.unsigned && exact.BitLen() >= n.bits {
		found.add(path, "is too large: it has %d bits at most", n.bits)
	}
	return json.Number(exact.String())
}

func plain(value float64) string { return strings.TrimSuffix(fmt.Sprintf("%v", value), ".0") }

// filled makes lists and maps that are null empty ones, as the schema of a result promises: Go writes nil as null.
func filled(schema *node, data json.RawMessage) (json.RawMessage, error) {
	if !bytes.Contains(data, []byte("null")) {
		return data, nil
	}
	value, err := parse(data)
	if err != nil {
		return nil, err
	}
	return wire.Marshal(schema.fill(value))
}

func (n *node) fill(value any) any {
	switch found := value.(type) {
	case nil:
		if n.nullable {
			return nil
		}
		switch n.kind {
		case kindArray:
			return []any{}
		case kindMap:
			return map[string]any{}
		}
	case []any:
		if n.kind == kindArray {
			for i, item := range found {
				found[i] = n.item.fill(item)
			}
		}
	case map[string]any:
		for name, entry := range found {
			if inner := n.inner(name); inner != nil {
				found[name] = inner.fill(entry)
			}
		}
	}
	return value
}

func (n *node) inner(name string) *node {
	if n.kind == kindMap {
		return n.item
	}
	for _, part := range n.fields {
		if part.name == name {
			return part.node
		}
	}
	return nil
}
