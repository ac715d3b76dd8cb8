package wire

import (
	"encoding/json"
	"fmt"
)

// Version is the protocol's; both sides say it.
const Version = 1

// What the broker may send to an instance, with the fields that must be there and their JSON types: one letter each for
// s(tring), i(nteger), b(ool), o(bject), l(ist), n(umber).
var fromBroker = map[string]map[string]byte{
	"welcome":   {"v": 'i'},
	"error":     {"code": 's', "detail": 's'},
	"turn":      {"task": 'o', "fence": 'i', "lease_ms": 'i', "deadline_left_ms": 'i'},
	"lease":     {"ok": 'b', "cancel": 'b'},
	"committed": {"re": 'i', "status": 's'},
	"acted":     {"re": 'i', "done": 'o'},
	"owned":     {"re": 'i', "tasks": 'l'},
	"recalled":  {"re": 'i', "values": 'o', "results": 'l'},
	"rest":      {},
	"bye":       {},
	"stay":      {},
	"cancel":    {"task": 's', "fence": 'i'},
	"drain":     {},
}

// Check sees that a message is one that the broker sends to instances, with its fields. Unknown fields are fine.
func Check(message Message) error {
	fields, known := fromBroker[message.Type]
	if !known {
		return protocolError("a broker does not send %q to an instance", message.Type)
	}
	var found map[string]json.RawMessage
	if err := message.Decode(&found); err != nil {
		return err
	}
	for name, kind := range fields {
		raw, there := found[name]
		if !there {
			return protocolError("the message %q lacks %q", message.Type, name)
		}
		if !fits(raw, kind) {
			return protocolError("%q in the message %q is of the wrong type", name, message.Type)
		}
	}
	return nil
}

func fits(raw json.RawMessage, kind byte) bool {
	if isNull(raw) {
		return false
	}
	switch kind {
	case 's':
		var value string
		return json.Unmarshal(raw, &value) == nil
	case 'i':
		var value int64
		return json.Unmarshal(raw, &value) == nil
	case 'b':
		var value bool
		return json.Unmarshal(raw, &value) == nil
	case 'o':
		return raw[0] == '{'
	default:
		return raw[0] == '['
	}
}

// Head is the part that all messages to the broker have in common.
type Head struct {
	Type string `json:"t"`
	ID   int64  `json:"id,omitempty"`
}

// SetID gives a request its number.
func (h *Head) SetID(id int64) { h.ID = id }

// Request is a message that is answered.
type Request interface{ SetID(id int64) }

// Held names the turn that an instance still runs.
type Held struct {
	Task  string `json:"task"`
	Fence int64  `json:"fence"`
}

// Hello is the first message of a connection.
type Hello struct {
	Head
	Version int    `json:"v"`
	Role    string `json:"role"`
	Agent   string `json:"agent"`
	Ticket  string `json:"ticket"`
	Token   string `json:"token"`
	PID     int    `json:"pid"`
	Held    *Held  `json:"held"`
}

// Heartbeat says that a turn is alive.
type Heartbeat struct {
	Head
	Held
	Progress *Progress `json:"progress"`
}

// Progress is how far a turn is.
type Progress struct {
	Fraction float64 `json:"fraction"`
	Text     string  `json:"text"`
}

// Commit ends a turn, or a part of it (outcome "checkpoint").
type Commit struct {
	Head
	Held
	Outcome      string                     `json:"outcome"`
	Result       json.RawMessage            `json:"result,omitempty"`
	Failure      *Failure                   `json:"error,omitempty"`
	Wait         *Wait                      `json:"wait,omitempty"`
	State        json.RawMessage            `json:"state,omitempty"`
	StateVersion int64                      `json:"state_version"`
	Emits        []Emit                     `json:"emits,omitempty"`
	Effects      []any                      `json:"effects,omitempty"`
	Keeps        map[string]json.RawMessage `json:"keeps,omitempty"`
	Pull         bool                       `json:"pull,omitempty"`
}

// Failure is how a turn failed.
type Failure struct {
	Code      string `json:"code"`
	Message   string `json:"message"`
	Retryable bool   `json:"retryable"`
	Detail    any    `json:"detail"`
}

// Wait says which tasks a task waits for, and which step goes on.
type Wait struct {
	Tasks []string        `json:"tasks"`
	Then  string          `json:"then"`
	Carry json.RawMessage `json:"carry"`
	// Count is how many of the tasks must be terminal; 0 means all.
	Count int `json:"count,omitempty"`
}

// Emit is a task that is stored with a commit.
type Emit struct {
	ID             string          `json:"id"`
	Agent          string          `json:"agent"`
	Skill          string          `json:"skill"`
	Input          json.RawMessage `json:"input"`
	Priority       int             `json:"priority"`
	Session        *string         `json:"session"`
	DelayMS        int64           `json:"delay_ms"`
	DeadlineMS     *int64          `json:"deadline_ms"`
	IdempotencyKey *string         `json:"idempotency_key"`
	WindowMS       *int64          `json:"idempotency_window_ms,omitempty"`
	AttemptsMax    *int            `json:"attempts_max,omitempty"`
	Label          string          `json:"label,omitempty"`
}

// Act asks for an action on the fleet; Own for tasks of the own agent.
type Act struct {
	Head
	Held
	Action    string         `json:"action"`
	Arguments map[string]any `json:"arguments"`
}

// Own asks for tasks of the own agent: do is "list", "tree" or "cancel".
type Own struct {
	Head
	Held
	Do     string `json:"do"`
	Of     string `json:"of,omitempty"`
	Reason string `json:"reason,omitempty"`
	Limit  int    `json:"limit,omitempty"`
}

// Recall asks for values that a task of the own agent kept, or for how tasks stand that its tasks emitted.
type Recall struct {
	Head
	Held
	Of      string   `json:"of,omitempty"`
	Names   []string `json:"names,omitempty"`
	Results []string `json:"results,omitempty"`
}

// Recalled answers it; what did not fit a frame is named in Left.
type Recalled struct {
	Values  map[string]json.RawMessage `json:"values"`
	Results []Result                   `json:"results"`
	Left    []string                   `json:"left"`
}

// Plain is a message without fields: pull, hibernate.
type Plain struct{ Head }

// Lease answers a heartbeat.
type Lease struct {
	Task   string `json:"task"`
	Fence  int64  `json:"fence"`
	OK     bool   `json:"ok"`
	Cancel bool   `json:"cancel"`
}

// Committed answers a commit.
type Committed struct {
	Status       string `json:"status"`
	StateVersion *int64 `json:"state_version"`
}

// Welcome answers a hello; durations in milliseconds.
type Welcome struct {
	Version     int   `json:"v"`
	LeaseMS     int64 `json:"lease_ms"`
	HeartbeatMS int64 `json:"heartbeat_ms"`
}

// Turn is one execution of a task, as the broker sends it.
type Turn struct {
	Task           Task            `json:"task"`
	Fence          int64           `json:"fence"`
	LeaseMS        int64           `json:"lease_ms"`
	DeadlineLeftMS int64           `json:"deadline_left_ms"`
	State          json.RawMessage `json:"state"`
	StateVersion   int64           `json:"state_version"`
}

// Task is a turn's task.
type Task struct {
	ID        string          `json:"id"`
	Agent     string          `json:"agent"`
	Skill     string          `json:"skill"`
	Input     json.RawMessage `json:"input"`
	Session   string          `json:"session"`
	Priority  int             `json:"priority"`
	Attempt   int             `json:"attempt"`
	Parent    string          `json:"parent"`
	Step      string          `json:"step"`
	Carry     json.RawMessage `json:"carry"`
	Results   []Result        `json:"results"`
	CreatedMS int64           `json:"created_ms"`
}

// Result is how a task ended that a turn waited for.
type Result struct {
	Task   string          `json:"task"`
	Agent  string          `json:"agent"`
	Skill  string          `json:"skill"`
	Status string          `json:"status"`
	Result json.RawMessage `json:"result"`
	Error  *Failure        `json:"error"`
}

// ReadTurn reads a turn and sees that its task is whole.
func ReadTurn(message Message) (Turn, error) {
	turn := Turn{Task: Task{Priority: 5, Attempt: 1}}
	if err := message.Decode(&turn); err != nil {
		return Turn{}, err
	}
	if turn.Task.ID == "" || turn.Task.Agent == "" || turn.Task.Skill == "" {
		return Turn{}, protocolError("a turn lacks a part of its task")
	}
	return turn, nil
}

// Error is a request's refusal by the broker.
type Error struct {
	Code        string  `json:"code"`
	Detail      string  `json:"detail"`
	RetryAfterS float64 `json:"retry_after_s"`
}

func (e *Error) Error() string { return fmt.Sprintf("%s (%s)", e.Detail, e.Code) }
