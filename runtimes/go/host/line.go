package host

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"sutazai/wire"
)

const (
	lineBytesMax   = 256 << 10
	orphanDefault  = 30 * time.Second
	backoffFirst   = 20 * time.Millisecond
	backoffLongest = 500 * time.Millisecond
	writeTimeout   = 10 * time.Second
	guardFile      = "guard.pid"
)

// line is a connection to sutazaid's socket that comes back. A closed one means nothing: it tries again for ever, unless
// the fleet's guard is dead too.
type line struct {
	path   string
	orphan time.Duration

	mutex  sync.Mutex
	stream net.Conn
	reader *bufio.Reader
}

func newLine(path string, orphan time.Duration) *line {
	if orphan == 0 {
		orphan = orphanDefault
	}
	return &line{path: path, orphan: orphan}
}

// connect tries as long as the fleet may come back; false when it is gone.
func (l *line) connect() bool {
	began, wait := time.Now(), backoffFirst
	for {
		stream, err := net.DialTimeout("unix", l.path, writeTimeout)
		if err == nil {
			l.mutex.Lock()
			l.stream, l.reader = stream, bufio.NewReaderSize(stream, lineBytesMax)
			l.mutex.Unlock()
			return true
		}
		if time.Since(began) > l.orphan && !l.guardLives() {
			return false
		}
		time.Sleep(wait)
		if wait *= 2; wait > backoffLongest {
			wait = backoffLongest
		}
	}
}

// receive waits for the next line; only one goroutine reads.
func (l *line) receive() ([]byte, error) {
	data, err := l.reader.ReadSlice('\n')
	if err != nil {
		return nil, fmt.Errorf("sutazaid is away: %w", err)
	}
	return data, nil
}

// send writes one line; one that cannot be sent is dropped, and so is the connection.
func (l *line) send(message map[string]any) {
	data, err := wire.Marshal(message)
	if err != nil {
		return
	}
	l.mutex.Lock()
	defer l.mutex.Unlock()
	if l.stream == nil {
		return
	}
	_ = l.stream.SetWriteDeadline(time.Now().Add(writeTimeout))
	if _, err = l.stream.Write(append(data, '\n')); err != nil {
		_ = l.stream.Close()
	}
}

func (l *line) close() {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	if l.stream != nil {
		_ = l.stream.Close()
		l.stream = nil
	}
}

func (l *line) guardLives() bool { return guardIn(filepath.Dir(l.path)) == guardAlive }

// guardIsDead tells whether the fleet's guard is known to be dead.
func (l *line) guardIsDead() bool { return guardIn(filepath.Dir(l.path)) == guardDead }

type guardState int

const (
	guardUnknown guardState = iota
	guardAlive
	guardDead
)

// guardIn reads the guard's pid and start time in the fleet's run folder, and looks whether that process lives.
func guardIn(folder string) guardState {
	text, err := os.ReadFile(filepath.Join(folder, guardFile))
	words := strings.Fields(string(text))
	if err != nil || len(words) == 0 {
		return guardUnknown
	}
	pid, err := strconv.Atoi(words[0])
	if err != nil {
		return guardUnknown
	}
	now := startTicks(pid)
	if now == 0 {
		return guardDead
	}
	if len(words) > 1 && words[1] != "0" && words[1] != strconv.FormatUint(now, 10) {
		return guardDead
	}
	return guardAlive
}

// startTicks reads when a process started, clock ticks after boot; 0 when there is none, or only its remains.
func startTicks(pid int) uint64 {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
	if len(fields) < 20 || fields[0] == "Z" || fields[0] == "X" {
		return 0
	}
	ticks, _ := strconv.ParseUint(fields[19], 10, 64)
	return ticks
}
