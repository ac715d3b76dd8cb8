package instance

import (
	"context"
	"net"
	"sync"
	"time"

	"sutazai/wire"
)

// connection is one connection to the broker. One goroutine writes it, so that a broker that does not read blocks nobody.
type connection struct {
	stream  net.Conn
	decoder *wire.Decoder
	unsent  chan []byte
	lost    chan struct{} // closed when nothing will be answered any more

	mutex   sync.Mutex
	waiting map[int64]chan wire.Message
	closed  sync.Once
	losing  sync.Once
}

func newConnection(stream net.Conn) *connection {
	return &connection{
		stream: stream, decoder: wire.NewDecoder(stream), unsent: make(chan []byte, unsentMax),
		lost: make(chan struct{}), waiting: map[int64]chan wire.Message{},
	}
}

func (c *connection) close() { c.closed.Do(func() { _ = c.stream.Close() }) }

// closeWith closes when the context ends before the channel is closed: nobody waits then for what a dead broker says.
func (c *connection) closeWith(ctx context.Context, over <-chan struct{}) {
	select {
	case <-ctx.Done():
		c.close()
	case <-over:
	}
}

// lose tells all who wait for an answer that none will come.
func (c *connection) lose() { c.losing.Do(func() { close(c.lost) }) }

// write sends what is posted, until the connection is done.
func (c *connection) write(stop <-chan struct{}) {
	for {
		select {
		case data := <-c.unsent:
			_ = c.stream.SetWriteDeadline(time.Now().Add(writeTimeout))
			if _, err := c.stream.Write(data); err != nil {
				c.close()
				return
			}
		case <-stop:
			return
		}
	}
}

// post queues a message; a connection that takes none is closed, and the message lost with it, as if it had been sent.
func (c *connection) post(data []byte) {
	select {
	case c.unsent <- data:
	default:
		c.close()
	}
}

func (c *connection) expect(id int64) <-chan wire.Message {
	replies := make(chan wire.Message, 1)
	c.mutex.Lock()
	defer c.mutex.Unlock()
	c.waiting[id] = replies
	return replies
}

func (c *connection) forget(id int64) {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	delete(c.waiting, id)
}

// answer hands a reply to whoever waits for it; false when nobody does.
func (c *connection) answer(message wire.Message) bool {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	replies, there := c.waiting[message.Re]
	if there {
		delete(c.waiting, message.Re)
		replies <- message
	}
	return there
}
