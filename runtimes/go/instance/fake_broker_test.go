package instance

import (
	"context"
	"io"
	"net"
	"path/filepath"
	"testing"
	"time"

	"sutazai/agent"
	"sutazai/conformance"
	"sutazai/wire"
)

const longEnough = 10 * time.Second

// fakeBroker is a socket whose other end the test plays.
type fakeBroker struct {
	t        *testing.T
	path     string
	listener net.Listener
}

func newFakeBroker(t *testing.T) *fakeBroker {
	t.Helper()
	broker := &fakeBroker{t: t, path: filepath.Join(t.TempDir(), "b.sock")}
	broker.listen()
	return broker
}

func (b *fakeBroker) listen() {
	listener, err := net.Listen("unix", b.path)
	if err != nil {
		b.t.Fatal(err)
	}
	b.listener = listener
	b.t.Cleanup(func() { _ = listener.Close() })
}

// peer is one connection, from the broker's side.
type peer struct {
	t       *testing.T
	stream  net.Conn
	decoder *wire.Decoder
	hello   fields
}

type fields = map[string]any

// accept takes the next connection and its hello, and welcomes it.
func (b *fakeBroker) accept() *peer {
	b.t.Helper()
	p := b.acceptSilently()
	p.send(fields{"t": "welcome", "re": p.hello["id"], "v": 1, "lease_ms": 400, "heartbeat_ms": 50})
	return p
}

func (b *fakeBroker) acceptSilently() *peer {
	b.t.Helper()
	_ = b.listener.(*net.UnixListener).SetDeadline(time.Now().Add(longEnough))
	stream, err := b.listener.Accept()
	if err != nil {
		b.t.Fatal("nobody connects: ", err)
	}
	b.t.Cleanup(func() { _ = stream.Close() })
	p := &peer{t: b.t, stream: stream, decoder: wire.NewDecoder(stream)}
	p.hello = p.expect("hello")
	return p
}

func (p *peer) send(message fields) {
	p.t.Helper()
	data, err := wire.Encode(message)
	if err != nil {
		p.t.Fatal(err)
	}
	if _, err = p.stream.Write(data); err != nil {
		p.t.Fatal(err)
	}
}

func (p *peer) read() (fields, error) {
	_ = p.stream.SetReadDeadline(time.Now().Add(longEnough))
	message, err := p.decoder.Read()
	if err != nil {
		return nil, err
	}
	var out fields
	return out, message.Decode(&out)
}

// expect reads until a message of this type comes; heartbeats in between are answered.
func (p *peer) expect(kind string) fields {
	p.t.Helper()
	for {
		message, err := p.read()
		if err != nil {
			p.t.Fatalf("instead of %q: %v", kind, err)
		}
		if message["t"] == kind {
			return message
		}
		switch message["t"] {
		case "heartbeat":
			p.send(fields{"t": "lease", "ok": true, "cancel": false, "task": message["task"], "fence": message["fence"]})
		case "pull":
		default:
			p.t.Fatalf("instead of %q: %v", kind, message)
		}
	}
}

func (p *peer) turn(id string, fence int, skill string, input fields, more fields) {
	task := fields{"id": id, "agent": "conformance", "skill": skill, "input": input, "session": nil, "attempt": 1}
	message := fields{"t": "turn", "task": task, "fence": fence, "lease_ms": 400, "deadline_left_ms": 60_000}
	for name, value := range more {
		if name == "session" {
			task[name] = value
		} else {
			message[name] = value
		}
	}
	p.send(message)
}

func (p *peer) committed(commit fields, status string) {
	p.send(fields{"t": "committed", "re": commit["id"], "status": status, "state_version": 1})
}

// bye lets the instance go, when it asks.
func (p *peer) bye() { p.send(fields{"t": "bye", "re": p.expect("hibernate")["id"]}) }

// start runs an instance; the channel gives how it ended.
func start(t *testing.T, broker *fakeBroker, change func(*Options)) (<-chan End, context.CancelFunc) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	options := Options{
		Agent: conformance.Agent, Broker: broker.path, Keep: time.Hour, Log: agent.NewLog(io.Discard),
		Identity: Identity{"conformance", "k_1", "secret"}, Patience: 300 * time.Millisecond,
	}
	if change != nil {
		change(&options)
	}
	ended := make(chan End, 1)
	over := make(chan struct{})
	go func() { ended <- Run(ctx, options); close(over) }()
	t.Cleanup(func() { cancel(); <-over })
	return ended, cancel
}

func await(t *testing.T, ended <-chan End) End {
	t.Helper()
	select {
	case end := <-ended:
		return end
	case <-time.After(longEnough):
		t.Fatal("the instance does not end")
		return End{}
	}
}
