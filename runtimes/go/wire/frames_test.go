package wire

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

func frame(kind byte, payload string) []byte {
	return append(append(binary.BigEndian.AppendUint32(nil, uint32(len(payload))), kind), payload...)
}

func TestWhatIsWrittenIsReadWhateverThePiecesItComesIn(t *testing.T) {
	large := strings.Repeat("é", 200_000)
	var stream []byte
	for _, part := range []any{
		&Hello{Head: Head{Type: "hello", ID: 7}, Version: 1, Role: "instance", Held: &Held{"t_1", 1 << 62}},
		map[string]any{"t": "x", "text": large + "<&>"},
	} {
		data, err := Encode(part)
		if err != nil {
			t.Fatal(err)
		}
		stream = append(stream, data...)
	}
	blobs, err := Encode(map[string]any{"t": "y", "blobs": 2, "re": 9}, []byte{0, 1}, nil)
	if err != nil {
		t.Fatal(err)
	}
	stream = append(stream, blobs...)
	for name, reader := range map[string]io.Reader{
		"whole": bytes.NewReader(stream), "bytes": iotest.OneByteReader(bytes.NewReader(stream)),
		"halves": iotest.HalfReader(bytes.NewReader(stream)),
	} {
		decoder := NewDecoder(reader)
		first, err := decoder.Read()
		var hello Hello
		if err != nil || first.Type != "hello" || first.Decode(&hello) != nil || hello.Held.Fence != 1<<62 {
			t.Fatalf("%s: %v %v", name, first, err)
		}
		second, err := decoder.Read()
		var said struct{ Text string }
		if err != nil || second.Decode(&said) != nil || said.Text != large+"<&>" {
			t.Fatalf("%s: a large text came otherwise: %v", name, err)
		}
		third, err := decoder.Read()
		if err != nil || third.Re != 9 || !third.IsReply || len(third.Blobs) != 2 || !bytes.Equal(third.Blobs[0], []byte{0, 1}) {
			t.Fatalf("%s: %v %v", name, third, err)
		}
		if _, err = decoder.Read(); !errors.Is(err, io.EOF) {
			t.Fatalf("%s: %v at the end", name, err)
		}
	}
}

func TestWhatIsNoFrameIsRefused(t *testing.T) {
	for name, stream := range map[string][]byte{
		"unknown kind":         frame(9, "{}"),
		"too long":             {0xff, 0xff, 0xff, 0xff, 1},
		"no JSON":              frame(1, "{"),
		"no object":            frame(1, `["t"]`),
		"null":                 frame(1, `null`),
		"no type":              frame(1, `{"x": 1}`),
		"type is no text":      frame(1, `{"t": 1}`),
		"reply to a text":      frame(1, `{"t": "x", "re": "1"}`),
		"raw bytes alone":      frame(2, "x"),
		"too many blobs":       frame(1, `{"t": "x", "blobs": 17}`),
		"blobs no number":      frame(1, `{"t": "x", "blobs": true}`),
		"blobs half":           frame(1, `{"t": "x", "blobs": 1.5}`),
		"message for a blob":   append(frame(1, `{"t": "x", "blobs": 1}`), frame(1, `{"t": "y"}`)...),
		"something behind":     frame(1, `{"t": "x"} {}`),
		"two megabytes of [":   frame(1, strings.Repeat("[", 2<<20)),
		"not even a text in t": frame(1, `{"t": null}`),
	} {
		decoder := NewDecoder(bytes.NewReader(stream))
		_, err := decoder.Read()
		if !IsProtocol(err) {
			t.Errorf("%s: %v", name, err)
		}
		if _, again := decoder.Read(); !errors.Is(again, err) {
			t.Errorf("%s: it reads on behind what it cannot read", name)
		}
	}
}

func TestAStreamThatStopsInTheMiddleSaysSo(t *testing.T) {
	whole := append(frame(1, `{"t": "x", "blobs": 1}`), frame(2, "abc")...)
	for end := 1; end < len(whole); end++ {
		if _, err := NewDecoder(bytes.NewReader(whole[:end])).Read(); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Fatalf("after %d bytes: %v", end, err)
		}
	}
}

func TestWhatIsTooLargeIsNotWritten(t *testing.T) {
	if _, err := Encode(map[string]any{"t": strings.Repeat("x", FrameBytesMax)}); !IsProtocol(err) {
		t.Errorf("a frame that is too large: %v", err)
	}
	if _, err := Encode(map[string]any{"t": "x"}, make([][]byte, BlobsMax+1)...); !IsProtocol(err) {
		t.Errorf("too many blobs: %v", err)
	}
	big := make([]byte, FrameBytesMax)
	if _, err := Encode(map[string]any{"t": "x"}, big, big, big, big); !IsProtocol(err) {
		t.Errorf("a message that is too large: %v", err)
	}
	if _, err := Encode(map[string]any{"t": func() {}}); !IsProtocol(err) {
		t.Errorf("no JSON: %v", err)
	}
}

func TestMessagesOfABrokerAreChecked(t *testing.T) {
	for text, good := range map[string]bool{
		`{"t": "rest"}`: true, `{"t": "rest", "new": 1}`: true, `{"t": "cancel", "task": "t", "fence": 3}`: true,
		`{"t": "cancel", "task": "t"}`: false, `{"t": "cancel", "task": "t", "fence": "3"}`: false,
		`{"t": "cancel", "task": "t", "fence": 1.5}`: false, `{"t": "cancel", "task": null, "fence": 1}`: false,
		`{"t": "submit", "id": 1, "tasks": []}`: false, `{"t": "owned", "re": 1, "tasks": {}}`: false,
		`{"t": "lease", "ok": 1, "cancel": false}`: false, `{"t": "acted", "re": 1, "done": []}`: false,
	} {
		message, err := NewDecoder(bytes.NewReader(frame(1, text))).Read()
		if err != nil {
			t.Fatal(err)
		}
		if (Check(message) == nil) != good {
			t.Errorf("%s: %v", text, Check(message))
		}
	}
}

// FuzzDecoder feeds garbage: it may be refused, it may not break the process or give a message without a type.
func FuzzDecoder(f *testing.F) {
	f.Add(frame(1, `{"t": "turn", "task": {"id": "t"}, "fence": 1, "lease_ms": 1, "deadline_left_ms": 1}`))
	f.Add(append(frame(1, `{"t": "x", "blobs": 1}`), frame(2, "abc")...))
	f.Add([]byte{0, 0, 0, 1, 1})
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 2})
	f.Fuzz(func(t *testing.T, stream []byte) {
		decoder := NewDecoder(iotest.HalfReader(bytes.NewReader(stream)))
		for {
			message, err := decoder.Read()
			if err != nil {
				return
			}
			if len(message.JSON)+len(message.Blobs)*headerBytes > len(stream) {
				t.Fatalf("%d bytes of a message out of %d", len(message.JSON), len(stream))
			}
			if Check(message) == nil && message.Type == "turn" {
				_, _ = ReadTurn(message)
			}
		}
	})
}
