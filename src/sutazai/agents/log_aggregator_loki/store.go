package log_aggregator_loki

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"net/url"
	"regexp"
	"sort"
	"strconv"
	"strings"
	"time"

	"sutazai/agent"
)

const (
	lineBytesMax   = 64 << 10
	stateBytesMax  = 700 << 10 // of the compressed lines; base64 adds a third, and a session's state holds 1 MB
	unpackedMax    = 64 << 20
	chunkLines     = 2000
	fleetLinesMost = 5000 // the control API's most
	linesMax       = 400_000
)

// entry is one line of one stream.
type entry struct {
	at     int64 // nanoseconds since 1970
	labels map[string]string
	line   string
}

var labelName = regexp.MustCompile(`^[a-zA-Z_][a-zA-Z0-9_]*$`)

// entriesOf checks what is pushed; all or nothing is taken.
func entriesOf(streams []pushedStream) ([]entry, error) {
	var out []entry
	for number, stream := range streams {
		if len(stream.Stream) == 0 {
			return nil, agent.InvalidInput("stream %d has no label: Loki wants at least one", number)
		}
		for label := range stream.Stream {
			if !labelName.MatchString(label) {
				return nil, agent.InvalidInput("stream %d: %q is no name of a label", number, label)
			}
		}
		for place, value := range stream.Values {
			one, err := entryOf(stream.Stream, value)
			if err != nil {
				return nil, agent.InvalidInput("stream %d, value %d: %v", number, place, err)
			}
			out = append(out, one)
		}
	}
	if len(out) > linesMax {
		return nil, agent.InvalidInput("%d lines at once; the most is %d", len(out), linesMax)
	}
	return out, nil
}

func entryOf(labels map[string]string, value []any) (entry, error) {
	if len(value) != 2 && len(value) != 3 { // the third is structured metadata, which is not kept
		return entry{}, fmt.Errorf("it is [time, line]")
	}
	text, timed := value[0].(string)
	line, said := value[1].(string)
	at, err := strconv.ParseInt(text, 10, 64)
	switch {
	case !timed || err != nil || at < 0:
		return entry{}, fmt.Errorf("its time %v is no text of nanoseconds since 1970", value[0])
	case !said:
		return entry{}, fmt.Errorf("its line is no text")
	case len(line) > lineBytesMax:
		return entry{}, fmt.Errorf("its line has %d bytes; the most is %d", len(line), lineBytesMax)
	}
	return entry{at, labels, line}, nil
}

// key names a stream: its labels in Prometheus' form, sorted.
func key(labels map[string]string) string {
	parts := make([]string, 0, len(labels))
	for label, value := range labels {
		parts = append(parts, label+"="+strconv.Quote(value))
	}
	sort.Strings(parts)
	return "{" + strings.Join(parts, ", ") + "}"
}

func sorted(set map[string]bool) []string {
	out := make([]string, 0, len(set))
	for one := range set {
		out = append(out, one)
	}
	sort.Strings(out)
	return out
}

// box is what a session keeps: lines in compressed chunks, the oldest first.
type box struct {
	entries []entry
	seen    map[string]bool
}

// chunk is a part of a session's lines, as it is stored: gzip of JSON [[nanoseconds, stream, line], …].
type chunk struct {
	Streams []map[string]string `json:"streams"`
	FromNS  int64               `json:"from_ns"`
	ToNS    int64               `json:"to_ns"`
	Lines   int                 `json:"lines"`
	Data    []byte              `json:"data"`
}

type state struct {
	Chunks []chunk `json:"chunks,omitempty"`
}

type packed struct {
	At     int64
	Stream int
	Line   string
}

func open(ctx *agent.Context) (*box, error) {
	var kept state
	if err := ctx.State(&kept); err != nil {
		return nil, err
	}
	out := &box{seen: map[string]bool{}}
	for _, one := range kept.Chunks {
		entries, err := unpack(one)
		if err != nil {
			return nil, agent.NonRetryable("the stored lines of this session are damaged: %v; run forget", err)
		}
		out.add(entries)
	}
	return out, nil
}

func unpack(one chunk) ([]entry, error) {
	reader, err := gzip.NewReader(bytes.NewReader(one.Data))
	if err != nil {
		return nil, err
	}
	data, err := io.ReadAll(io.LimitReader(reader, unpackedMax))
	if err != nil {
		return nil, err
	}
	var lines []packed
	if err = json.Unmarshal(data, &lines); err != nil {
		return nil, err
	}
	out := make([]entry, len(lines))
	for i, line := range lines {
		if line.Stream < 0 || line.Stream >= len(one.Streams) {
			return nil, fmt.Errorf("a line of no stream")
		}
		out[i] = entry{line.At, one.Streams[line.Stream], line.Line}
	}
	return out, nil
}

// add takes lines in; one with the same time, labels and text as another is the same line, as in Loki.
func (b *box) add(entries []entry) (duplicates int) {
	for _, one := range entries {
		mark := strconv.FormatInt(one.at, 10) + key(one.labels) + one.line
		if b.seen[mark] {
			duplicates++
			continue
		}
		b.seen[mark] = true
		b.entries = append(b.entries, one)
	}
	sort.SliceStable(b.entries, func(x, y int) bool { return b.entries[x].at < b.entries[y].at })
	return duplicates
}

func (b *box) lines() int { return len(b.entries) }

// save writes the lines, the newest first into chunks until the room is used; it gives how many had to go.
func (b *box) save(ctx *agent.Context) (dropped int, err error) {
	var chunks []chunk
	total, end := 0, len(b.entries)
	for end > 0 {
		begin := end - chunkLines
		if begin < 0 {
			begin = 0
		}
		one, err := pack(b.entries[begin:end])
		if err != nil {
			return 0, err
		}
		if total += len(one.Data); total > stateBytesMax {
			break
		}
		chunks = append([]chunk{one}, chunks...)
		end = begin
	}
	b.entries = b.entries[end:]
	return end, ctx.SetState(state{chunks})
}

func pack(entries []entry) (chunk, error) {
	out := chunk{Lines: len(entries), FromNS: entries[0].at, ToNS: entries[len(entries)-1].at}
	numbers, lines := map[string]int{}, make([]packed, len(entries))
	for i, one := range entries {
		number, known := numbers[key(one.labels)]
		if !known {
			number = len(out.Streams)
			numbers[key(one.labels)] = number
			out.Streams = append(out.Streams, one.labels)
		}
		lines[i] = packed{one.at, number, one.line}
	}
	data, err := json.Marshal(lines)
	if err != nil {
		return out, err
	}
	var buffer bytes.Buffer
	writer := gzip.NewWriter(&buffer)
	if _, err = writer.Write(data); err == nil {
		err = writer.Close()
	}
	out.Data = buffer.Bytes()
	return out, err
}

// gather collects the lines that a question is about, the oldest first. A zero time is no bound.
func gather(ctx *agent.Context, what about, start, end time.Time) ([]entry, error) {
	if what.recorded != nil {
		entries, err := entriesOf(what.recorded)
		sort.SliceStable(entries, func(x, y int) bool { return entries[x].at < entries[y].at })
		return entries, err
	}
	var out []entry
	if what.where != whereFleet && (ctx.Task.Session != "" || what.where == wherePushed) {
		kept, err := open(ctx)
		if err != nil {
			return nil, err
		}
		out = kept.entries
	}
	if what.where != wherePushed {
		found, err := fleetLines(ctx, start)
		if err != nil {
			return nil, err
		}
		out = append(out, found...)
	}
	sort.SliceStable(out, func(x, y int) bool { return out[x].at < out[y].at })
	if !end.IsZero() {
		out = between(out, start.UnixNano(), end.UnixNano()+1)
	}
	return out, nil
}

// between keeps the lines from start on and before end, nanoseconds.
func between(entries []entry, start, end int64) []entry {
	first := sort.Search(len(entries), func(i int) bool { return entries[i].at >= start })
	last := sort.Search(len(entries), func(i int) bool { return entries[i].at >= end })
	if first > last {
		return nil
	}
	return entries[first:last]
}

// fleetLines reads the fleet's own logs as streams: {source="fleet", process=…, level=…}.
func fleetLines(ctx *agent.Context, start time.Time) ([]entry, error) {
	query := url.Values{"limit": {strconv.Itoa(fleetLinesMost)}}
	if !start.IsZero() && start.UnixMilli() > 0 {
		query.Set("since_ms", strconv.FormatInt(start.UnixMilli(), 10))
	}
	var found struct {
		Lines []struct {
			AtMS    int64 `json:"at_wall_ms"`
			Process string
			Level   string
			Text    string
		}
	}
	if err := ctx.FleetGet("/v1/logs", query, &found); err != nil {
		return nil, err
	}
	out := make([]entry, len(found.Lines))
	for i, line := range found.Lines {
		labels := map[string]string{"source": "fleet", "process": line.Process, "level": line.Level}
		out[i] = entry{line.AtMS * int64(time.Millisecond), labels, line.Text}
	}
	return out, nil
}
