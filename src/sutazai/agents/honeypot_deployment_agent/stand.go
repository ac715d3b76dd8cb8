package honeypot_deployment_agent

import (
	"net"
	"strconv"
	"time"

	"sutazai/agent"
)

const (
	talkTime     = 20 * time.Second // a connection may last so long
	talkersMax   = 64               // at once; more are closed as they come, and counted
	newestKept   = 100
	acceptPause  = 50 * time.Millisecond
	loopbackOnly = "127.0.0.1"
)

// stand is a decoy that listens.
type stand struct {
	ctx      *agent.Context
	order    order
	life     life
	decoy    decoy
	listener net.Listener

	newest  []Contact
	unsaved []Contact
	savedAt time.Time
	last    time.Time
}

// listen takes a port, or the first free one.
func listen(port, first, last int) (net.Listener, int, error) {
	if port != 0 {
		listener, err := bind(port)
		if err != nil {
			return nil, 0, taken(port, err)
		}
		return listener, port, nil
	}
	for port = first; port <= last; port++ {
		if listener, err := bind(port); err == nil {
			return listener, port, nil
		}
	}
	return nil, 0, agent.Unavailable("no port from %d to %d is free", first, last)
}

func bind(port int) (net.Listener, error) {
	return net.Listen("tcp", net.JoinHostPort(loopbackOnly, strconv.Itoa(port)))
}

// run listens until the time is over, nobody comes any more, or enough came.
func (s *stand) run() (Report, error) {
	s.last, s.savedAt = time.Now(), time.Now()
	if err := s.save(); err != nil { // from here on a killed turn comes back to this port
		return Report{}, err
	}
	s.ctx.Log.Info(summary(s.order.Kind, s.life.Port))
	arrived, seen, stop := make(chan net.Conn), make(chan Contact, talkersMax), make(chan struct{})
	defer close(stop)
	go accept(s.listener, arrived, stop)
	talkers := make(chan struct{}, talkersMax)
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case conn := <-arrived:
			select {
			case talkers <- struct{}{}:
				go s.talk(conn, seen, talkers, stop)
			default:
				s.note(s.contact(conn, "info", "one of too many connections at once; it was closed", nil, 0))
				_ = conn.Close()
			}
		case contact := <-seen:
			s.note(contact)
		case <-tick.C:
			if ended := s.over(); ended != "" {
				return s.finish(ended, seen, talkers)
			}
			if err := s.saveWhenDue(); err != nil {
				return Report{}, err
			}
		case <-s.ctx.Done():
			return Report{}, s.ctx.Err()
		}
	}
}

func accept(listener net.Listener, arrived chan<- net.Conn, stop <-chan struct{}) {
	for {
		conn, err := listener.Accept()
		if err != nil {
			select {
			case <-stop:
				return
			case <-time.After(acceptPause): // too many open files: it passes
				continue
			}
		}
		select {
		case arrived <- conn:
		case <-stop:
			_ = conn.Close()
			return
		}
	}
}

// talk lets the decoy speak with one visitor. Whatever it is sent, it only reads.
func (s *stand) talk(conn net.Conn, seen chan<- Contact, talkers <-chan struct{}, stop <-chan struct{}) {
	defer func() { <-talkers }()
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(talkTime))
	visitor := newVisitor(conn)
	guard(visitor, s.decoy)
	contact := s.contact(conn, visitor.severity, visitor.what, visitor.details, visitor.read)
	select {
	case seen <- contact:
	case <-stop:
	}
}

// guard keeps a decoy's mistake on hostile bytes from ending the worker.
func guard(visitor *visitor, decoy decoy) {
	defer func() {
		if caught := recover(); caught != nil {
			visitor.note("warning", "sent what the decoy could not take")
		}
	}()
	decoy(visitor)
}

func (s *stand) contact(conn net.Conn, severity, what string, details map[string]string, read int) Contact {
	if details == nil {
		details = map[string]string{}
	}
	return Contact{
		AtMS: time.Now().UnixMilli(), Kind: s.order.Kind, Port: s.life.Port, Remote: conn.RemoteAddr().String(),
		Severity: severity, What: what, Details: details, Bytes: read,
	}
}

func (s *stand) note(contact Contact) {
	s.last = time.Now()
	s.life.Count++
	if contact.Severity != "info" {
		s.life.Alerts++
	}
	s.unsaved = append(s.unsaved, contact)
	if s.newest = append(s.newest, contact); len(s.newest) > newestKept {
		s.newest = s.newest[1:]
	}
	s.ctx.Progress(float64(s.life.Count)/float64(s.order.Most), summary(s.order.Kind, s.life.Port)+": "+strconv.Itoa(s.life.Count)+" contacts")
}

// over says why the decoy is to be taken down; empty while it may stand.
func (s *stand) over() string {
	switch {
	case time.Now().UnixMilli() >= s.life.UntilMS:
		return "time"
	case s.life.Count >= s.order.Most:
		return "contacts"
	case s.order.Idle > 0 && time.Since(s.last) > time.Duration(s.order.Idle)*time.Second:
		return "idle"
	case s.ctx.DeadlineLeft() < endMargin:
		return "deadline"
	}
	return ""
}

// finish takes the decoy down, waits a moment for who is still talking, and hands over what is not stored yet.
func (s *stand) finish(ended string, seen <-chan Contact, talkers chan struct{}) (Report, error) {
	_ = s.listener.Close()
	until := time.NewTimer(time.Second)
	defer until.Stop()
	for len(talkers) > 0 || len(seen) > 0 {
		select {
		case contact := <-seen:
			s.note(contact)
			continue
		case <-until.C:
		case <-time.After(10 * time.Millisecond):
			continue
		}
		break
	}
	if err := s.emit(); err != nil {
		return Report{}, err
	}
	return s.report(ended), nil
}

func (s *stand) saveWhenDue() error {
	if len(s.unsaved) == 0 || time.Since(s.savedAt) < saveEvery {
		return nil
	}
	return s.save()
}

// save stores the life and hands the alerts on, in one commit; only a session can.
func (s *stand) save() error {
	s.savedAt = time.Now()
	if s.ctx.Task.Session == "" {
		return nil
	}
	if err := s.ctx.SetState(s.life); err != nil {
		return err
	}
	if err := s.emit(); err != nil {
		return err
	}
	return s.ctx.Checkpoint()
}

func (s *stand) emit() error {
	if len(s.unsaved) == 0 {
		return nil
	}
	_, err := s.ctx.Emit(name, "record", batch{Contacts: s.unsaved}, agent.Session(alertsSession))
	s.unsaved = nil
	return err
}
