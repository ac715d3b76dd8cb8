package agent

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"time"
)

type inner struct {
	Port  int      `json:"port" min:"1" max:"65535" doc:"where"`
	Names []string `json:"names,omitempty" maxlen:"2"`
}

type wide struct {
	Text    string             `json:"text" minlen:"1" maxlen:"5" pattern:"^[a-zé]+$"`
	Kind    string             `json:"kind" enum:"ssh|http" default:"ssh"`
	Ratio   float64            `json:"ratio" default:"0.5" min:"0" max:"1"`
	Count   uint8              `json:"count" default:"3"`
	Where   *inner             `json:"where"`
	Several []inner            `json:"several,omitempty"`
	Weights map[string]float64 `json:"weights,omitempty"`
	Any     any                `json:"any,omitempty"`
	Raw     json.RawMessage    `json:"raw,omitempty"`
	At      *time.Time         `json:"at"`
	Data    []byte             `json:"data,omitempty"`
	hidden  int
	Left    int `json:"-"`
}

func TestASchemaSaysWhatAStructSays(t *testing.T) {
	schema, err := schemaOf(reflect.TypeOf(wide{}), true)
	if err != nil {
		t.Fatal(err)
	}
	data, err := json.Marshal(schema.schema())
	if err != nil {
		t.Fatal(err)
	}
	var got, want map[string]any
	mustRead(t, string(data), &got)
	mustRead(t, `{"type": "object", "additionalProperties": false, "required": ["text"], "properties": {
		"text": {"type": "string", "minLength": 1, "maxLength": 5, "pattern": "^[a-zé]+$"},
		"kind": {"type": "string", "enum": ["ssh", "http"], "default": "ssh"},
		"ratio": {"type": "number", "minimum": 0, "maximum": 1, "default": 0.5},
		"count": {"type": "integer", "minimum": 0, "default": 3},
		"where": {"anyOf": [{"type": "object", "additionalProperties": false, "required": ["port"], "properties": {
			"port": {"type": "integer", "minimum": 1, "maximum": 65535, "description": "where"},
			"names": {"type": "array", "items": {"type": "string"}, "maxItems": 2}}}, {"type": "null"}]},
		"several": {"type": "array", "items": {"type": "object", "additionalProperties": false, "required": ["port"],
			"properties": {"port": {"type": "integer", "minimum": 1, "maximum": 65535, "description": "where"},
			"names": {"type": "array", "items": {"type": "string"}, "maxItems": 2}}}},
		"weights": {"type": "object", "additionalProperties": {"type": "number"}},
		"any": {}, "raw": {},
		"at": {"anyOf": [{"type": "string", "format": "date-time"}, {"type": "null"}]},
		"data": {"type": "string", "contentEncoding": "base64"}}}`, &want)
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
}

func mustRead(t *testing.T, text string, into any) {
	t.Helper()
	if err := json.Unmarshal([]byte(text), into); err != nil {
		t.Fatal(err)
	}
}

func TestAnInputIsReadWithItsDefaults(t *testing.T) {
	schema, _ := schemaOf(reflect.TypeOf(wide{}), true)
	got, err := read[wide](schema, json.RawMessage(`{"text": "é", "where": {"port": 8.0e1}, "weights": {"a": 1},
		"any": [1, null], "raw": {"x": 12345678901234567890}, "count": 255, "at": null, "data": "aGk="}`), "input")
	if err != nil {
		t.Fatal(err)
	}
	if got.Text != "é" || got.Kind != "ssh" || got.Ratio != 0.5 || got.Count != 255 || got.Where.Port != 80 ||
		got.Weights["a"] != 1 || string(got.Data) != "hi" || string(got.Raw) != `{"x":12345678901234567890}` {
		t.Errorf("%+v", got)
	}
	if _, err = read[wide](schema, nil, "input"); err == nil || !strings.Contains(err.Error(), "text: is missing") {
		t.Errorf("no input at all: %v", err)
	}
}

func TestEveryMistakeOfAnInputIsToldWithItsPlace(t *testing.T) {
	schema, _ := schemaOf(reflect.TypeOf(wide{}), true)
	for input, wants := range map[string][]string{
		`{"text": "toolong", "kind": "ftp", "ratio": 1.5, "count": 256, "new": 1}`: {
			"text: has 7 characters; the most is 5", "kind: must be one of ssh, http", "ratio: must be at most 1",
			"count: is too large", "new: is not known here; there are text, kind"},
		`{"text": "A"}`:              {"text: does not match ^[a-zé]+$"},
		`{"text": ""}`:               {"text: has 0 characters; the least is 1"},
		`{"text": 5}`:                {"text: must be a text"},
		`{"text": null}`:             {"text: must be a text, not null"},
		`{"text": "a", "where": {}}`: {"where.port: is missing"},
		`{"text": "a", "several": [{"port": 0}]}`: {"several.0.port: must be at least 1"},
		`{"text": "a", "several": {}}`:            {"several: must be a list"},
		`{"text": "a", "count": 1.5}`:             {"count: must be a whole number"},
		`{"text": "a", "count": -1}`:              {"count: must be at least 0"},
		`{"text": "a", "ratio": 1e999}`:           {"ratio: is no number"},
		`{"text": "a", "weights": {"k": "v"}}`:    {"weights.k: must be a number"},
		`{"text": "a", "at": "yesterday"}`:        {"at: must be a time"},
		`{"text": "a", "data": "%"}`:              {"data: is no base64"},
		`[]`:                                      {"it: must be an object"},
		`{"text": "a"} x`:                         {"is no JSON"},
		`{"text": "a", "where": {"port": 1, "names": ["a", "b", "c"]}}`: {"where.names: has 3 items; the most is 2"},
	} {
		_, err := read[wide](schema, json.RawMessage(input), "input")
		known, ok := err.(*Error)
		if !ok || known.Code != "invalid-input" || known.Retryable {
			t.Errorf("%s: %v", input, err)
			continue
		}
		for _, want := range wants {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %q is not in %q", input, want, err)
			}
		}
	}
}

type selfish struct {
	Inner []selfish `json:"inner"`
}

func TestATypeWithoutASchemaIsAMistakeOfTheDeclaration(t *testing.T) {
	for want, sample := range map[string]any{
		"holds itself": selfish{},
		"no JSON schema": struct {
			C chan int `json:"c"`
		}{},
		"has no name": struct{ A int }{},
		"no strings": struct {
			M map[int]int `json:"m"`
		}{},
		"embeds": struct{ inner }{},
		"its default": struct {
			A int `json:"a" default:"x"`
		}{},
		"its default 9": struct {
			A int `json:"a" default:"9" max:"3"`
		}{},
		"pattern": struct {
			A string `json:"a" pattern:"("`
		}{},
		"min": struct {
			A int `json:"a" min:"low"`
		}{},
	} {
		if _, err := schemaOf(reflect.TypeOf(sample), true); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
}
