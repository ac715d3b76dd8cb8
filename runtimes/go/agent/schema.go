package agent

import (
	"encoding/json"
	"fmt"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"time"
)

type kind int

const (
	kindAny kind = iota
	kindObject
	kindMap
	kindArray
	kindString
	kindInteger
	kindNumber
	kindBool
)

var typeNames = map[kind]string{
	kindObject: "object", kindMap: "object", kindArray: "array", kindString: "string", kindInteger: "integer",
	kindNumber: "number", kindBool: "boolean",
}

// node is one place of a schema: what JSON may stand there. Schemas are written from it and inputs are checked against
// it, so the two cannot differ.
type node struct {
	kind     kind
	nullable bool
	doc      string
	fields   []field
	item     *node // of an array or map
	min, max *float64
	least    *int // characters, items or keys
	most     *int
	enum     []string
	pattern  *regexp.Regexp
	format   string
	bits     int // of an integer
	unsigned bool
}

type field struct {
	name     string
	node     *node
	required bool
	fallback json.RawMessage // what stands for a field that is missing; nil for none
}

var (
	rawType  = reflect.TypeOf(json.RawMessage{})
	timeType = reflect.TypeOf(time.Time{})
	blobType = reflect.TypeOf([]byte{})
)

// schemaOf reads a type. The tags of a struct's fields:
//
//	json:"name,omitempty"  its name; with omitempty, a pointer or a default it need not be given
//	doc:"…"                what it is, for people and for models
//	default:"5"            what stands for it when it is missing (JSON; a bare text for strings)
//	min:"1" max:"9"        bounds of a number
//	minlen:"1" maxlen:"9"  bounds of a text's characters, or of a list's or map's entries
//	enum:"a|b|c"           the texts that it may be
//	pattern:"^a"           regular expression (RE2) that a text matches
func schemaOf(t reflect.Type, isInput bool) (*node, error) { return build(t, isInput, nil) }

func build(t reflect.Type, isInput bool, above []reflect.Type) (*node, error) {
	for _, outer := range above {
		if outer == t {
			return nil, fmt.Errorf("the type %s holds itself: use json.RawMessage there", t)
		}
	}
	switch {
	case t == rawType:
		return &node{kind: kindAny}, nil
	case t == timeType:
		return &node{kind: kindString, format: "date-time"}, nil
	case t == blobType:
		return &node{kind: kindString, format: "base64"}, nil
	}
	above = append(above, t)
	switch t.Kind() {
	case reflect.Interface:
		return &node{kind: kindAny}, nil
	case reflect.Bool:
		return &node{kind: kindBool}, nil
	case reflect.String:
		return &node{kind: kindString}, nil
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return &node{kind: kindInteger, bits: t.Bits()}, nil
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return &node{kind: kindInteger, bits: t.Bits(), unsigned: true, min: new(float64)}, nil
	case reflect.Float32, reflect.Float64:
		return &node{kind: kindNumber}, nil
	case reflect.Pointer:
		inner, err := build(t.Elem(), isInput, above)
		if err == nil {
			inner.nullable = true
		}
		return inner, err
	case reflect.Slice:
		inner, err := build(t.Elem(), isInput, above)
		return &node{kind: kindArray, item: inner}, err
	case reflect.Map:
		if t.Key().Kind() != reflect.String {
			return nil, fmt.Errorf("the keys of %s are no strings", t)
		}
		inner, err := build(t.Elem(), isInput, above)
		return &node{kind: kindMap, item: inner}, err
	case reflect.Struct:
		return buildStruct(t, isInput, above)
	default:
		return nil, fmt.Errorf("the type %s has no JSON schema: use JSON types", t)
	}
}

func buildStruct(t reflect.Type, isInput bool, above []reflect.Type) (*node, error) {
	out := &node{kind: kindObject}
	for i := 0; i < t.NumField(); i++ {
		part := t.Field(i)
		name, options, _ := strings.Cut(part.Tag.Get("json"), ",")
		if part.Anonymous {
			return nil, fmt.Errorf("%s embeds %s: write its fields out", t, part.Type)
		}
		if !part.IsExported() || name == "-" {
			continue
		}
		if name == "" {
			return nil, fmt.Errorf(`the field %s.%s has no name: write json:"name"`, t, part.Name)
		}
		inner, err := build(part.Type, isInput, above)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		made := field{name: name, node: inner}
		optional := strings.Contains(options, "omitempty")
		made.required = !optional && !(isInput && inner.nullable)
		if err = readTags(part.Tag, &made); err != nil {
			return nil, fmt.Errorf("the field %s.%s: %w", t, part.Name, err)
		}
		out.fields = append(out.fields, made)
	}
	return out, nil
}

func readTags(tag reflect.StructTag, made *field) error {
	inner := made.node
	inner.doc = tag.Get("doc")
	for name, place := range map[string]**float64{"min": &inner.min, "max": &inner.max} {
		if text, there := tag.Lookup(name); there {
			value, err := strconv.ParseFloat(text, 64)
			if err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			*place = &value
		}
	}
	for name, place := range map[string]**int{"minlen": &inner.least, "maxlen": &inner.most} {
		if text, there := tag.Lookup(name); there {
			value, err := strconv.Atoi(text)
			if err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			*place = &value
		}
	}
	if text, there := tag.Lookup("enum"); there {
		inner.enum = strings.Split(text, "|")
	}
	if text, there := tag.Lookup("pattern"); there {
		pattern, err := regexp.Compile(text)
		if err != nil {
			return fmt.Errorf("pattern: %w", err)
		}
		inner.pattern = pattern
	}
	if text, there := tag.Lookup("default"); there {
		made.required = false
		made.fallback = json.RawMessage(text)
		if inner.kind == kindString {
			made.fallback, _ = json.Marshal(text)
		}
		var mistakes mistakes
		if value, err := parse(made.fallback); err != nil || inner.check(value, "default", &mistakes) == nil || len(mistakes) > 0 {
			return fmt.Errorf("its default %s does not fit its own type %s", text, strings.Join(mistakes, "; "))
		}
	}
	return nil
}

// schema writes JSON Schema (draft 2020-12).
func (n *node) schema() map[string]any {
	out := map[string]any{}
	if name, there := typeNames[n.kind]; there {
		out["type"] = name
	}
	switch n.kind {
	case kindObject:
		properties, required := map[string]any{}, []string{}
		for _, part := range n.fields {
			inner := part.node.schema()
			if part.fallback != nil {
				inner["default"] = part.fallback
			}
			properties[part.name] = inner
			if part.required {
				required = append(required, part.name)
			}
		}
		out["properties"], out["additionalProperties"] = properties, false
		if len(required) > 0 {
			out["required"] = required
		}
	case kindArray:
		out["items"] = n.item.schema()
		n.lengths(out, "minItems", "maxItems")
	case kindMap:
		out["additionalProperties"] = n.item.schema()
		n.lengths(out, "minProperties", "maxProperties")
	case kindString:
		n.lengths(out, "minLength", "maxLength")
		n.texts(out)
	case kindInteger, kindNumber:
		if n.min != nil {
			out["minimum"] = *n.min
		}
		if n.max != nil {
			out["maximum"] = *n.max
		}
	}
	if n.nullable && n.kind != kindAny {
		out = map[string]any{"anyOf": []any{out, map[string]any{"type": "null"}}}
	}
	if n.doc != "" {
		out["description"] = n.doc
	}
	return out
}

func (n *node) lengths(out map[string]any, least, most string) {
	if n.least != nil {
		out[least] = *n.least
	}
	if n.most != nil {
		out[most] = *n.most
	}
}

func (n *node) texts(out map[string]any) {
	if n.enum != nil {
		out["enum"] = n.enum
	}
	if n.pattern != nil {
		out["pattern"] = n.pattern.String()
	}
	switch n.format {
	case "base64":
		out["contentEncoding"] = n.format
	case "":
	default:
		out["format"] = n.format
	}
}
