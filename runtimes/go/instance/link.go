package instance

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"sutazai/wire"
)

const (
	dialTimeout    = 5 * time.Second
	helloTimeout   = 10 * time.Second
	writeTimeout   = 20 * time.Second
	unsentMax      = 64
	unreadMax      = 1024
	backoffFirst   = 2 * time.Millisecond
	backoffLongest = time.Second
)

// ErrAway says that the connection was lost before the answer came, or that there is none.
var ErrAway = errors.New("the broker is away")

// Identity is who an instance is towards the broker.
type Identity struct{ Agent, Ticket, Token string }

// event is what a link tells its instance: a message, or (empty) that there is a new connection.
type event struct{ message *wire.Message }

// link keeps one identity towards the broker over as many connections as it takes.
//
// Each connection begins with the same hello: ticket, token, pid, and the turn that is still held. The turn is noted by
// the reader, before anybody acts on it, so that a new connection never denies it.
type link struct {
	path     string
	identity Identity
	patience time.Duration
	gone     func() bool // whether the fleet is gone
	note     func(text string, err error)

	nextID  atomic.Int64
	wake    chan struct{}
	mutex   sync.Mutex
	current *connection
	changed chan struct{} // closed when current changes
	held    *wire.Held
	idleAt  time.Time // since when nothing is held
	events  []event
	welcome wire.Welcome
	over    bool
}

func newLink(path string, identity Identity, patience time.Duration) *link {
	return &link{
		path: path, identity: identity, patience: patience, gone: func() bool { return false },
		note: func(string, error) {}, wake: make(chan struct{}, 1), changed: make(chan struct{}),
		idleAt: time.Now(), welcome: wire.Welcome{LeaseMS: 10_000, HeartbeatMS: 2_500},
	}
}

// keep holds the connection until the context ends, or the broker does not come back.
func (l *link) keep(ctx context.Context) {
	defer l.finish()
	lostAt, wait := time.Now(), backoffFirst
	for ctx.Err() == nil {
		conn, err := l.connect(ctx)
		if err == nil {
			err = l.serve(ctx, conn)
			lostAt, wait = time.Now(), backoffFirst
			if wire.IsProtocol(err) {
				l.note("the broker does not speak the protocol", err)
				wait = backoffLongest / 4
			}
		} else {
			l.note("the broker cannot be reached", err)
		}
		if l.givesUp(lostAt) {
			return
		}
		select {
		case <-time.After(jittered(wait)):
		case <-ctx.Done():
		}
		if wait *= 2; wait > backoffLongest {
			wait = backoffLongest
		}
	}
}

func jittered(wait time.Duration) time.Duration {
	return wait/2 + time.Duration(time.Now().UnixNano()%int64(wait/2+1))
}

func (l *link) givesUp(lostAt time.Time) bool {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	since := lostAt
	if l.idleAt.After(since) {
		since = l.idleAt
	}
	return l.held == nil && (l.gone() || time.Since(since) > l.patience)
}

func (l *link) finish() {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	l.over = true
	l.turnOver()
}

// turnOver tells all who wait that something changed; the mutex is held.
func (l *link) turnOver() {
	close(l.changed)
	l.changed = make(chan struct{})
	l.poke()
}

func (l *link) poke() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

func (l *link) connect(ctx context.Context) (*connection, error) {
	dialer := net.Dialer{Timeout: dialTimeout}
	stream, err := dialer.DialContext(ctx, "unix", l.path)
	if err != nil {
		return nil, err
	}
	conn := newConnection(stream)
	greeted := make(chan struct{})
	go conn.closeWith(ctx, greeted)
	welcome, err := l.greet(conn)
	close(greeted)
	if err != nil {
		conn.close()
		return nil, err
	}
	l.mutex.Lock()
	defer l.mutex.Unlock()
	if welcome.HeartbeatMS > 0 {
		l.welcome = welcome
	}
	return conn, nil
}

func (l *link) greet(conn *connection) (wire.Welcome, error) {
	var welcome wire.Welcome
	hello := &wire.Hello{
		Head: wire.Head{Type: "hello"}, Version: wire.Version, Role: "instance",
		Agent: l.identity.Agent, Ticket: l.identity.Ticket, Token: l.identity.Token, PID: os.Getpid(), Held: l.holds(),
	}
	hello.SetID(l.nextID.Add(1))
	data, err := wire.Encode(hello)
	if err != nil {
		return welcome, err
	}
	_ = conn.stream.SetDeadline(time.Now().Add(helloTimeout))
	if _, err = conn.stream.Write(data); err != nil {
		return welcome, err
	}
	message, err := conn.decoder.Read()
	if err != nil {
		return welcome, err
	}
	if err = wire.Check(message); err != nil {
		return welcome, err
	}
	if message.Type == "error" {
		return welcome, refusal(message)
	}
	if message.Type != "welcome" {
		return welcome, &wire.ProtocolError{Text: fmt.Sprintf("a hello was answered with %q", message.Type)}
	}
	_ = conn.stream.SetDeadline(time.Time{})
	return welcome, message.Decode(&welcome)
}

// serve reads a connection until it ends.
func (l *link) serve(ctx context.Context, conn *connection) error {
	defer conn.close()
	stop := make(chan struct{})
	defer close(stop)
	go conn.write(stop)
	go conn.closeWith(ctx, stop)
	l.set(conn)
	defer l.unset(conn)
	for {
		message, err := conn.decoder.Read()
		if err != nil {
			return err
		}
		if err = wire.Check(message); err != nil {
			return err
		}
		if err = l.take(conn, message); err != nil {
			return err
		}
	}
}

func (l *link) set(conn *connection) {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	l.current = conn
	l.events = append(l.events, event{})
	l.turnOver()
}

func (l *link) unset(conn *connection) {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	if l.current == conn {
		l.current = nil
	}
	conn.lose()
	l.turnOver()
}

func (l *link) take(conn *connection, message wire.Message) error {
	if message.IsReply && conn.answer(message) {
		return nil
	}
	if message.Type == "error" {
		l.note("the broker refused", refusal(message))
		return nil
	}
	l.mutex.Lock()
	defer l.mutex.Unlock()
	if message.Type == "turn" {
		turn, err := wire.ReadTurn(message)
		if err != nil {
			return err
		}
		l.held = &wire.Held{Task: turn.Task.ID, Fence: turn.Fence}
	}
	if len(l.events) >= unreadMax {
		return &wire.ProtocolError{Text: "the broker sends more than is read"}
	}
	l.events = append(l.events, event{&message})
	l.poke()
	return nil
}

// next takes the oldest event.
func (l *link) next() (event, bool) {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	if len(l.events) == 0 {
		return event{}, false
	}
	first := l.events[0]
	l.events = l.events[1:]
	return first, true
}

// isOver tells whether the link has given up.
func (l *link) isOver() bool {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	return l.over
}

func (l *link) holds() *wire.Held {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	return l.held
}

// release says that a turn is over; a newer one that came meanwhile stays.
func (l *link) release(turn wire.Held) {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	if l.held != nil && *l.held == turn {
		l.held, l.idleAt = nil, time.Now()
	}
}

func (l *link) heartbeatEvery() time.Duration {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	return time.Duration(l.welcome.HeartbeatMS) * time.Millisecond
}

// wait gives the connection, as soon as there is one.
func (l *link) wait(ctx context.Context) (*connection, error) {
	for {
		l.mutex.Lock()
		conn, changed, over := l.current, l.changed, l.over
		l.mutex.Unlock()
		if conn != nil {
			return conn, nil
		}
		if over {
			return nil, ErrAway
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// send sends a message that is not answered, if there is a connection.
func (l *link) send(message any) {
	l.mutex.Lock()
	conn := l.current
	l.mutex.Unlock()
	if conn == nil {
		return
	}
	if data, err := wire.Encode(message); err == nil {
		conn.post(data)
	}
}

// request sends a request on the connection that there is, and waits for its reply.
//
// It gives *wire.Error when the broker refuses, ErrAway when the connection is lost meanwhile or the answer does not come
// in time (then the connection is dropped), the context's error when that ends first.
func (l *link) request(ctx context.Context, message wire.Request, patience time.Duration) (wire.Message, error) {
	conn, err := l.wait(ctx)
	if err != nil {
		return wire.Message{}, err
	}
	id := l.nextID.Add(1)
	message.SetID(id)
	data, err := wire.Encode(message)
	if err != nil {
		return wire.Message{}, err
	}
	replies := conn.expect(id)
	defer conn.forget(id)
	conn.post(data)
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case reply := <-replies:
		if reply.Type == "error" {
			return reply, refusal(reply)
		}
		return reply, nil
	case <-conn.lost:
		return wire.Message{}, ErrAway
	case <-timer.C:
		conn.close()
		return wire.Message{}, ErrAway
	case <-ctx.Done():
		return wire.Message{}, ctx.Err()
	}
}

func refusal(message wire.Message) error {
	found := &wire.Error{}
	if err := json.Unmarshal(message.JSON, found); err != nil {
		return &wire.ProtocolError{Text: err.Error()}
	}
	return found
}
