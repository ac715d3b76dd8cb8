package host

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"sutazai/agent"
	"sutazai/conformance"
	"sutazai/wire"
)

const longEnough = 10 * time.Second

type fields = map[string]any

// fakeSutazaid is a socket whose other end the test plays.
type fakeSutazaid struct {
	t        *testing.T
	folder   string
	listener net.Listener
	stream   net.Conn
	lines    *bufio.Scanner
}

func newFakeSutazaid(t *testing.T) *fakeSutazaid {
	t.Helper()
	s := &fakeSutazaid{t: t, folder: t.TempDir()}
	s.listen()
	s.guard(os.Getpid())
	return s
}

func (s *fakeSutazaid) guard(pid int) {
	text := fmt.Sprintf("%d %d\n", pid, startTicks(pid))
	if err := os.WriteFile(filepath.Join(s.folder, guardFile), []byte(text), 0o600); err != nil {
		s.t.Fatal(err)
	}
}

func (s *fakeSutazaid) listen() {
	listener, err := net.Listen("unix", filepath.Join(s.folder, "s.sock"))
	if err != nil {
		s.t.Fatal(err)
	}
	s.listener = listener
	s.t.Cleanup(func() { _ = listener.Close() })
}

func (s *fakeSutazaid) accept() {
	s.t.Helper()
	_ = s.listener.(*net.UnixListener).SetDeadline(time.Now().Add(longEnough))
	stream, err := s.listener.Accept()
	if err != nil {
		s.t.Fatal("nobody connects: ", err)
	}
	s.t.Cleanup(func() { _ = stream.Close() })
	s.stream, s.lines = stream, bufio.NewScanner(stream)
}

func (s *fakeSutazaid) send(message fields) {
	s.t.Helper()
	data, _ := json.Marshal(message)
	if _, err := s.stream.Write(append(data, '\n')); err != nil {
		s.t.Fatal(err)
	}
}

func (s *fakeSutazaid) expect(op string) fields {
	s.t.Helper()
	_ = s.stream.SetReadDeadline(time.Now().Add(longEnough))
	if !s.lines.Scan() {
		s.t.Fatalf("instead of %q: %v", op, s.lines.Err())
	}
	var message fields
	if err := json.Unmarshal(s.lines.Bytes(), &message); err != nil || message["op"] != op {
		s.t.Fatalf("instead of %q: %s", op, s.lines.Bytes())
	}
	return message
}

func (s *fakeSutazaid) work() <-chan int {
	done := make(chan int, 1)
	go func() {
		done <- Run(Options{
			Name: "go-0", Supervisor: filepath.Join(s.folder, "s.sock"), Broker: filepath.Join(s.folder, "b.sock"),
			Agents: map[string]*agent.Agent{"conformance": conformance.Agent}, Log: agent.NewLog(io.Discard),
			Started: time.Now(), Orphan: 100 * time.Millisecond,
		})
	}()
	return done
}

func (s *fakeSutazaid) end(done <-chan int) int {
	s.t.Helper()
	_ = s.listener.Close()
	if s.stream != nil {
		_ = s.stream.Close()
	}
	_ = os.Remove(filepath.Join(s.folder, guardFile))
	select {
	case code := <-done:
		return code
	case <-time.After(longEnough):
		s.t.Fatal("the worker does not leave")
		return -1
	}
}

func TestAWorkerRegistersHostsAndTellsWhatEnded(t *testing.T) {
	s := newFakeSutazaid(t)
	broker, err := net.Listen("unix", filepath.Join(s.folder, "b.sock"))
	if err != nil {
		t.Fatal(err)
	}
	defer broker.Close()
	done := s.work()
	s.accept()
	if hello := s.expect("hello"); hello["process"] != "go-0" {
		t.Errorf("%v", hello)
	}
	if said := s.expect("register"); said["hosts"] != true || said["pid"] != float64(os.Getpid()) || said["worker"] != "go-0" {
		t.Errorf("%v", said)
	}
	if said := s.expect("hosting"); len(said["tickets"].([]any)) != 0 {
		t.Errorf("%v", said)
	}
	s.send(fields{"id": 1, "ok": true})
	s.send(fields{"push": "host", "ticket": "k_0", "agent": "nobody", "token": "x"})
	if said := s.expect("fork-failed"); said["ticket"] != "k_0" {
		t.Errorf("%v", said)
	}
	s.send(fields{"push": "host", "ticket": "k_1", "agent": "conformance", "token": "secret", "keep_ms": 60_000})
	if said := s.expect("hosted"); said["ticket"] != "k_1" || said["pid"] != float64(os.Getpid()) {
		t.Errorf("%v", said)
	}
	stream, err := broker.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Close()
	message, err := wire.NewDecoder(stream).Read()
	var hello wire.Hello
	if err != nil || message.Decode(&hello) != nil || hello.Ticket != "k_1" || hello.Token != "secret" || hello.PID != os.Getpid() {
		t.Fatalf("%+v %v", hello, err)
	}
	_ = s.stream.Close() // sutazaid dies; what is hosted lives on
	s.accept()
	s.expect("hello")
	s.expect("register")
	if said := s.expect("hosting"); fmt.Sprint(said["tickets"]) != "[map[agent:conformance ticket:k_1]]" {
		t.Errorf("%v", said)
	}
	s.send(fields{"push": "host", "ticket": "k_1", "agent": "conformance", "token": "secret"})
	s.expect("hosted") // the same again
	s.send(fields{"push": "end", "ticket": "k_1"})
	if said := s.expect("ended"); said["ticket"] != "k_1" || said["reason"] != "ok" || said["status"] != 0.0 {
		t.Errorf("%v", said)
	}
	s.send(fields{"push": "end", "ticket": "k_1"})
	s.expect("ended") // asked again, answered again
	if code := s.end(done); code != ExitGone {
		t.Error(code)
	}
}

func TestAWorkerThatIsNotWantedLeaves(t *testing.T) {
	s := newFakeSutazaid(t)
	done := s.work()
	s.accept()
	s.expect("hello")
	s.expect("register")
	s.send(fields{"id": 1, "ok": false, "error": "go-0 is no worker"})
	select {
	case code := <-done:
		if code != ExitRefused {
			t.Error(code)
		}
	case <-time.After(longEnough):
		t.Fatal("it stays")
	}
}

func TestAWorkerOutlivesSutazaidAsLongAsTheGuardLives(t *testing.T) {
	s := newFakeSutazaid(t)
	done := s.work()
	s.accept()
	s.expect("hello")
	_ = s.stream.Close()
	_ = s.listener.Close()
	select {
	case <-done:
		t.Fatal("it left although the guard lives")
	case <-time.After(300 * time.Millisecond): // three times as long as it waits for an orphan
	}
	s.listen()
	s.accept()
	s.expect("hello")
	s.end(done)
}

func TestLimitsAreReadFromEveryKindOfCgroup(t *testing.T) {
	for name, files := range map[string]map[string]string{
		"0::/a/b\n": {"a/b/memory.max": "max\n", "a/memory.max": "1000\n", "a/b/cpu.max": "150000 100000\n", "a/cpu.max": "max 100000\n"},
		"4:memory:/a\n3:cpu,cpuacct:/c\n0::/\n": {
			"memory/a/memory.limit_in_bytes": "1000\n", "memory/memory.limit_in_bytes": "9223372036854771712\n",
			"cpu,cpuacct/c/cpu.cfs_quota_us": "150000\n", "cpu,cpuacct/c/cpu.cfs_period_us": "100000\n",
			"cpu,cpuacct/cpu.cfs_quota_us": "-1\n", "cpu,cpuacct/cpu.cfs_period_us": "100000\n"},
	} {
		root := t.TempDir()
		files["membership"] = name
		for path, text := range files {
			if err := os.MkdirAll(filepath.Dir(filepath.Join(root, path)), 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(root, path), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if memory, cores := limitsIn(filepath.Join(root, "membership"), root); memory != 1000 || cores != 1.5 {
			t.Errorf("%s: %d bytes, %v cores", name, memory, cores)
		}
	}
	if memory, cores := limitsIn("/nowhere", "/nowhere"); memory != 0 || cores != 0 {
		t.Error("limits out of nothing")
	}
}
