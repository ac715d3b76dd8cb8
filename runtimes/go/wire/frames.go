// Package wire cuts a stream of bytes into messages and writes messages as frames.
//
// Why it exists: a stream has no messages; frames give it some, and refuse what is too large or no frame. The format is
// docs/reference/protocol.md: a 4-byte big-endian length, one byte for the kind, the payload. Kind 1 is a JSON object
// with its type in "t"; kind 2 is raw bytes that belong to the JSON message before them, which counts them in "blobs".
package wire

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

const (
	// FrameBytesMax is the largest payload of one frame, in bytes.
	FrameBytesMax = 8 << 20
	// MessageBytesMax is the largest message together with its raw bytes.
	MessageBytesMax = 32 << 20
	// BlobsMax is how many raw parts one message may have.
	BlobsMax = 16

	kindJSON    = 0x01
	kindBlob    = 0x02
	headerBytes = 5
	readAtOnce  = 64 << 10
)

// ProtocolError says that the other side does not speak the protocol: its connection cannot be read on.
type ProtocolError struct{ Text string }

func (e *ProtocolError) Error() string { return e.Text }

func protocolError(format string, values ...any) error {
	return &ProtocolError{fmt.Sprintf(format, values...)}
}

// IsProtocol tells whether an error is a ProtocolError.
func IsProtocol(err error) bool {
	var found *ProtocolError
	return errors.As(err, &found)
}

// Message is one message as it came: its type, the request that it answers, its JSON, its raw bytes.
type Message struct {
	Type    string
	Re      int64
	IsReply bool
	JSON    []byte
	Blobs   [][]byte
}

// Decode reads the message's fields into a struct.
func (m Message) Decode(into any) error {
	if err := json.Unmarshal(m.JSON, into); err != nil {
		return protocolError("the message %q makes no sense: %v", m.Type, err)
	}
	return nil
}

// Encode writes one message and its raw bytes as frames.
//
// The message must be written as a JSON object with "t"; when there are blobs, it must say their number in "blobs".
func Encode(message any, blobs ...[]byte) ([]byte, error) {
	payload, err := Marshal(message)
	if err != nil {
		return nil, protocolError("the message cannot be written as JSON: %v", err)
	}
	if len(blobs) > BlobsMax {
		return nil, protocolError("%d raw parts are above the limit of %d for a message", len(blobs), BlobsMax)
	}
	total := 0
	for _, part := range append([][]byte{payload}, blobs...) {
		if len(part) > FrameBytesMax {
			return nil, protocolError("a frame of %d bytes is above the limit of %d: send a file's path", len(part), FrameBytesMax)
		}
		total += headerBytes + len(part)
	}
	if total > MessageBytesMax {
		return nil, protocolError("a message of %d bytes is above the limit of %d", total, MessageBytesMax)
	}
	out := make([]byte, 0, total)
	out = appendFrame(out, kindJSON, payload)
	for _, blob := range blobs {
		out = appendFrame(out, kindBlob, blob)
	}
	return out, nil
}

func appendFrame(out []byte, kind byte, payload []byte) []byte {
	out = binary.BigEndian.AppendUint32(out, uint32(len(payload)))
	out = append(out, kind)
	return append(out, payload...)
}

// Marshal writes a value as JSON without the escapes that only HTML needs.
func Marshal(value any) ([]byte, error) {
	var buffer bytes.Buffer
	encoder := json.NewEncoder(&buffer)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(value); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(buffer.Bytes(), []byte("\n")), nil
}

// Decoder reads messages off a stream. After a ProtocolError every later Read gives it again.
type Decoder struct {
	reader *bufio.Reader
	broken error
}

// NewDecoder makes a decoder of a stream.
func NewDecoder(stream io.Reader) *Decoder {
	return &Decoder{reader: bufio.NewReaderSize(stream, readAtOnce)}
}

// Read waits for the next message.
//
// It gives io.EOF when the stream ended between two messages, io.ErrUnexpectedEOF when it ended inside of one, and a
// *ProtocolError when the bytes are no frames, no JSON object with "t", or too large.
func (d *Decoder) Read() (Message, error) {
	if d.broken != nil {
		return Message{}, d.broken
	}
	message, err := d.read()
	if err != nil {
		d.broken = err
	}
	return message, err
}

func (d *Decoder) read() (Message, error) {
	kind, payload, err := d.frame()
	if err != nil {
		return Message{}, err
	}
	if kind != kindJSON {
		return Message{}, protocolError("raw bytes without a message that announces them")
	}
	message, count, err := parse(payload)
	if err != nil {
		return Message{}, err
	}
	held := len(payload)
	for i := 0; i < count; i++ {
		kind, payload, err = d.frame()
		if errors.Is(err, io.EOF) {
			return Message{}, io.ErrUnexpectedEOF
		}
		if err != nil {
			return Message{}, err
		}
		if kind != kindBlob {
			return Message{}, protocolError("a message in the place of raw bytes that were announced")
		}
		if held += len(payload); held > MessageBytesMax {
			return Message{}, protocolError("a message of more than %d bytes", MessageBytesMax)
		}
		message.Blobs = append(message.Blobs, payload)
	}
	return message, nil
}

func (d *Decoder) frame() (byte, []byte, error) {
	var header [headerBytes]byte
	if _, err := io.ReadFull(d.reader, header[:]); err != nil {
		return 0, nil, err
	}
	length, kind := binary.BigEndian.Uint32(header[:4]), header[4]
	if kind != kindJSON && kind != kindBlob {
		return 0, nil, protocolError("a frame of the unknown kind %d: the other side speaks another protocol", kind)
	}
	if length > FrameBytesMax {
		return 0, nil, protocolError("a frame of %d bytes is above the limit of %d", length, FrameBytesMax)
	}
	payload, err := d.payload(int(length))
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return kind, payload, err
}

// payload reads a frame's bytes; a large one grows with what really comes, whatever its header says.
func (d *Decoder) payload(length int) ([]byte, error) {
	if length <= readAtOnce {
		payload := make([]byte, length)
		_, err := io.ReadFull(d.reader, payload)
		return payload, err
	}
	var buffer bytes.Buffer
	_, err := io.CopyN(&buffer, d.reader, int64(length))
	return buffer.Bytes(), err
}

func parse(payload []byte) (Message, int, error) {
	var head map[string]json.RawMessage
	if err := json.Unmarshal(payload, &head); err != nil {
		return Message{}, 0, protocolError("a message is no JSON object: %v", err)
	}
	message := Message{JSON: payload}
	if json.Unmarshal(orNull(head["t"]), &message.Type) != nil || isNull(head["t"]) {
		return Message{}, 0, protocolError("a message is a JSON object with its type in 't'")
	}
	if !isNull(head["re"]) {
		if json.Unmarshal(head["re"], &message.Re) != nil {
			return Message{}, 0, protocolError("'re' in the message %q is no number", message.Type)
		}
		message.IsReply = true
	}
	count := 0
	if raw, there := head["blobs"]; there {
		if isNull(raw) || json.Unmarshal(raw, &count) != nil || count < 0 || count > BlobsMax {
			return Message{}, 0, protocolError("'blobs' must be a number from 0 to %d", BlobsMax)
		}
	}
	return message, count, nil
}

func orNull(raw json.RawMessage) json.RawMessage {
	if len(raw) == 0 {
		return json.RawMessage("null")
	}
	return raw
}

func isNull(raw json.RawMessage) bool {
	return len(raw) == 0 || bytes.Equal(raw, []byte("null"))
}
