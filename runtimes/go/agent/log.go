package agent

import (
	"io"
	"time"

	"sutazai/wire"
)

const lineBytesMax = 256 << 10

// Log writes JSON lines that carry fixed fields, each with one write, so that lines of several instances do not mix.
type Log struct {
	out    io.Writer
	fields map[string]any
}

// NewLog makes a log without fixed fields.
func NewLog(out io.Writer) *Log { return &Log{out: out} }

// With makes a log with more fixed fields: names and values in turn.
func (l *Log) With(pairs ...any) *Log { return &Log{l.out, merged(l.fields, pairs)} }

func merged(fields map[string]any, pairs []any) map[string]any {
	out := make(map[string]any, len(fields)+len(pairs)/2)
	for name, value := range fields {
		out[name] = value
	}
	for i := 0; i+1 < len(pairs); i += 2 {
		if name, ok := pairs[i].(string); ok {
			out[name] = pairs[i+1]
		}
	}
	return out
}

// Info writes what happened; names and values in turn follow the text.
func (l *Log) Info(text string, pairs ...any) { l.write("info", text, pairs) }

// Warning writes what is not as it should be, while the work goes on.
func (l *Log) Warning(text string, pairs ...any) { l.write("warning", text, pairs) }

// Error writes what failed.
func (l *Log) Error(text string, pairs ...any) { l.write("error", text, pairs) }

func (l *Log) write(level, text string, pairs []any) {
	if len(text) > lineBytesMax/16 {
		text = text[:lineBytesMax/16]
	}
	line := merged(l.fields, pairs)
	line["at_wall_ms"], line["level"], line["text"] = time.Now().UnixMilli(), level, text
	for name, value := range line {
		if err, ok := value.(error); ok {
			line[name] = err.Error()
		}
	}
	data, err := wire.Marshal(line)
	if err != nil || len(data) >= lineBytesMax {
		data, _ = wire.Marshal(map[string]any{"at_wall_ms": line["at_wall_ms"], "level": level, "text": text, "cut": true})
	}
	_, _ = l.out.Write(append(data, '\n')) // a full disk must not end the work
}
